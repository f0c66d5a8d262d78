"""The DAG from demonstrations to a judged policy, as tasks: what policy_pipeline and retrain_pipeline share.

Data passes as URI strings plus small manifests: a declared input artifact would be copied whole into every pod. Each pod
costs ten seconds and each nesting one more pod, so only loops are nested, and the steps after the trials share one pod.
"""

# No postponed annotations here: kfp reads the types of a pipeline's parameters as they are.
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from kfp import dsl

from components.conclude.component import conclude
from components.convert.component import convert
from components.evaluate.component import evaluate
from components.export.component import export
from components.finish.component import finish
from components.plan.component import plan
from components.stats.component import stats
from components.train.component import train
from pipelines.resources import PARALLEL_TRIALS, SIZES, TRAIN_POD, Placement

JOB = dsl.PIPELINE_JOB_ID_PLACEHOLDER
YES = "yes"


@dataclass(frozen=True)
class RunParameters:
    """What differs between the pipelines that train; the rest they read from the same fields of their forms."""

    form: SimpleNamespace
    promote: Any
    only_new: bool = False  # nothing to do when the demonstrations are those of last time
    force: Any = False


def exit_task(form: SimpleNamespace, *, remember: bool = False) -> dsl.PipelineTask:
    """The exit task: it runs however the rest ended."""
    task = finish(job_id=JOB, store_uri=form.data_store_uri, notify_when=form.cluster_notify_when, remember=remember)
    return Placement(form, {}).apply(task)


@dsl.pipeline(name="extra-workers")
def extra_workers(
    shares: list,
    needed: str,
    source_uri: str,
    source_digest: str,
    store_uri: str,
    dataset_name: str,
    dataset_uri: str,
    conversion_options: dict,
    trust: str,
    cluster_image_data: str,
    cpu_data: str,
    memory_data: str,
):
    """Convert the shares after the first, a pod each; without any it costs two drivers.

    A pipeline of its own, because a task can wait for a pipeline but not for a condition or a loop.
    """
    form = SimpleNamespace(cluster_image_data=cluster_image_data)
    placement = Placement(form, {"cpu_data": cpu_data, "memory_data": memory_data})
    with dsl.If(needed == YES, name="more than one worker"), dsl.ParallelFor(items=shares, name="workers") as share:
        placement.apply(
            convert(
                source_uri=source_uri,
                source_digest=source_digest,
                store_uri=store_uri,
                dataset_name=dataset_name,
                dataset_uri=dataset_uri,
                conversion=conversion_options,
                worker=share,
                trust=trust,
            )
        )


def planned_run(run: RunParameters) -> tuple[dsl.PipelineTask, Placement]:
    """The plan, and where the steps after it go."""
    form = run.form
    planned = Placement(form, {}).apply(
        plan(
            source_uri=form.data_source_uri,
            store_uri=form.data_store_uri,
            dataset_name=form.data_name,
            convert_workers=form.data_convert_workers,
            config=form.policy_config,
            sweep=form.policy_sweep,
            trials_per_pod=form.policy_trials_per_pod,
            trial_retries=form.policy_trial_retries,
            nodes=form.cluster_trainjob_nodes,
            episodes=form.evaluate_episodes,
            confirm_episodes=form.evaluate_confirm_episodes,
            champion=form.gate_champion,
            promote=run.promote,
            gate_floor=form.gate_floor,
            gate_margin=form.gate_margin,
            gate_alpha=form.gate_alpha,
            gate_test=form.gate_test,
            perturb=form.evaluate_perturb,
            only_new=run.only_new,
            force=run.force,
            trust=form.trust,
            job_id=JOB,
            **{f"asked_{size}": getattr(form, f"cluster_{size}") for size in SIZES},
        )
    )
    return planned, Placement(form, {size: planned.outputs[size] for size in (*SIZES, *TRAIN_POD)})


def training_dag(run: RunParameters) -> None:
    """Plan to promote."""
    form = run.form
    planned, placement = planned_run(run)
    with dsl.If(planned.outputs["work"] == YES, name="work"):
        dataset = dataset_tasks(form, planned, placement)
        trials = dsl.ParallelFor(items=planned.outputs["Output"], name="trials", parallelism=PARALLEL_TRIALS)
        with trials as group:
            trained = train_task(form, planned, group)
            placement.apply(trained).after(dataset)
            exported = placement.apply(export(run_uri=group.run_uri, outcomes=trained.outputs["Output"]))
            evaluated = placement.apply(
                evaluate(run_uri=group.run_uri, outcomes=exported.outputs["Output"], trust=form.trust)
            )
        conclude_task(form, planned, placement, dsl.Collected(evaluated.outputs["ended"]))


def train_task(form: SimpleNamespace, planned: dsl.PipelineTask, group: Any) -> dsl.PipelineTask:
    """Train a group of trials to the end."""
    return train(
        run_uri=group.run_uri,
        trials=group.trials,
        dataset_uri=group.dataset_uri,
        gpu_type=form.cluster_gpu_type,
        image=form.cluster_image_train,
        nodes=form.cluster_trainjob_nodes,
        node_gpus=form.cluster_trainjob_gpus,
        queue=form.cluster_trainjob_queue,
        node_cpu=planned.outputs["cpu_node"],
        node_memory=planned.outputs["memory_node"],
        trust=form.trust,
    )


def conclude_task(form: SimpleNamespace, planned: dsl.PipelineTask, placement: Placement, after: Any) -> None:
    """Select to promote. The outcomes are read from the store; ``after`` only makes it wait for all trials."""
    placement.apply(conclude(run_uri=planned.outputs["run_uri"], job_id=JOB, after=after, trust=form.trust))


def dataset_tasks(form: SimpleNamespace, planned: dsl.PipelineTask, placement: Placement) -> dsl.PipelineTask:
    """Demonstrations to a dataset with statistics; the last task of it."""
    source = {
        "source_uri": form.data_source_uri,
        "source_digest": planned.outputs["source_digest"],
        "store_uri": planned.outputs["store"],
        "dataset_name": form.data_name,
        "dataset_uri": planned.outputs["dataset_uri"],
        "trust": form.trust,
    }
    options = planned.outputs["conversion"]
    converted = placement.apply(convert(**source, conversion=options, worker=planned.outputs["first_share"]))
    others = extra_workers(
        **source,
        conversion_options=options,
        shares=planned.outputs["extra_shares"],
        needed=planned.outputs["extra_needed"],
        cluster_image_data=form.cluster_image_data,
        cpu_data=planned.outputs["cpu_data"],
        memory_data=planned.outputs["memory_data"],
    )
    others.set_display_name("more workers of the conversion")
    computed = stats(dataset_uri=planned.outputs["dataset_uri"], digest=converted.outputs["digest"])
    return placement.apply(computed).after(others)
