"""The line from demonstrations to a judged policy, as tasks: what policy_pipeline and retrain_pipeline share.

Data passes as URI strings plus small manifests: a declared input artifact would be copied whole into every pod.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kfp import dsl

from components.confirm.component import confirm
from components.evaluate.component import evaluate
from components.export.component import export
from components.finish.component import finish
from components.plan.component import plan
from components.promote.component import promote as move_champion
from components.report.component import report
from components.select.component import select
from components.train.component import train
from pipelines.conversion import conversion
from pipelines.resources import PARALLEL_TRIALS, Place

JOB = dsl.PIPELINE_JOB_ID_PLACEHOLDER


@dataclass(frozen=True)
class Wanted:
    """The parameters of a run that are not about its place; every field is a pipeline parameter."""

    source_uri: Any
    store_uri: Any
    dataset_name: Any
    convert_workers: Any
    config: Any
    sweep: Any
    episodes: Any
    confirm_episodes: Any
    champion: Any
    promote: Any
    trainjob_nodes: Any
    trainjob_gpus: Any
    trainjob_queue: Any


def at_the_end(place: Place, store_uri: Any, notify_when: Any, *, remember: bool = False) -> dsl.PipelineTask:
    """The exit task: it runs however the rest ended."""
    task = finish(job_id=JOB, store_uri=store_uri, notify_when=notify_when, remember=remember)
    return place.put(task, "data")


def training_line(wanted: Wanted, place: Place) -> None:
    """Plan to promote."""
    planned = place.put(
        plan(
            source_uri=wanted.source_uri,
            store_uri=wanted.store_uri,
            dataset_name=wanted.dataset_name,
            convert_workers=wanted.convert_workers,
            config=wanted.config,
            sweep=wanted.sweep,
            episodes=wanted.episodes,
            confirm_episodes=wanted.confirm_episodes,
            champion=wanted.champion,
            promote=wanted.promote,
            job_id=JOB,
        ),
        "data",
    )
    run_uri = planned.outputs["run_uri"]
    data = conversion(
        shares=planned.outputs["shares"],
        source_uri=wanted.source_uri,
        source_digest=planned.outputs["source_digest"],
        store_uri=planned.outputs["store"],
        dataset_name=wanted.dataset_name,
        dataset_uri=planned.outputs["dataset_uri"],
        conversion_options=planned.outputs["conversion"],
        image_data=place.image_data,
    )
    with dsl.ParallelFor(items=planned.outputs["Output"], name="trials", parallelism=PARALLEL_TRIALS) as item:
        # What belongs to the trial comes from the item: see the return value of components/plan. The GPU's parameters are
        # inputs of train because kfp 2.17 hands only declared inputs down into a loop, and drops a limit it cannot find.
        trained = place.put(
            train(
                run_uri=item.run_uri,
                trial=item.trial,
                dataset_uri=item.dataset_uri,
                gpu_count=place.gpu_count,
                gpu_type=place.gpu_type,
                image=place.image_train,
                nodes=wanted.trainjob_nodes,
                node_gpus=wanted.trainjob_gpus,
                queue=wanted.trainjob_queue,
            ),
            "train",
        ).after(data)
        exported = place.put(export(run_uri=item.run_uri, outcome=trained.outputs["Output"]), "train")
        evaluated = place.put(evaluate(run_uri=item.run_uri, outcome=exported.outputs["Output"]), "sim")

    selected = place.put(select(run_uri=run_uri, outcomes=dsl.Collected(evaluated.outputs["Output"])), "data")
    confirmed = place.put(confirm(run_uri=run_uri), "sim").after(selected)
    reported = place.put(report(run_uri=run_uri), "data").after(confirmed)
    place.put(move_champion(run_uri=run_uri), "data").after(reported)
