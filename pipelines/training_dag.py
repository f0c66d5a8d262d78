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
from components.evaluate_share.component import evaluate_share
from components.export.component import export
from components.finish.component import finish
from components.plan.component import plan
from components.stats.component import stats
from components.train.component import train
from pipelines.resources import PARALLEL_TRIALS, SIZES, TRAIN_POD, Placement

JOB = dsl.PIPELINE_JOB_ID_PLACEHOLDER
YES, NO, SHARED = (
    "yes",
    "no",
    "shared",
)  # what plan says of the work; shared: by several pods, of conversion or evaluation
WORK, SHARED_WORK = "work", "shared work"


@dataclass(frozen=True)
class RunParameters:
    """What differs between the pipelines that train; the rest they read from the same fields of their forms."""

    form: SimpleNamespace
    promote: Any
    only_new: bool = False  # nothing to do when the demonstrations are those of last time
    force: Any = False
    halving: bool = False  # trials are pruned at rungs


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


@dsl.pipeline(name="shared-evaluations")
def shared_evaluations(
    shares: list,
    needed: str,
    trust: str,
    cluster_image_sim: str,
    cpu_sim: str,
    memory_sim: str,
    cluster_node_selector: dict,
    cluster_node_tolerations: list,
    after: list,
):
    """Roll out the seeds of each group of trials, a share per pod; with one worker per group it costs two drivers.

    ``after`` is how the trials ended: it only makes this wait for all of them.
    """
    form = SimpleNamespace(
        cluster_image_sim=cluster_image_sim,
        cluster_node_selector=cluster_node_selector,
        cluster_node_tolerations=cluster_node_tolerations,
    )
    placement = Placement(form, {"cpu_sim": cpu_sim, "memory_sim": memory_sim})
    with (
        dsl.If(needed == YES, name="more than one evaluator"),
        dsl.ParallelFor(items=shares, name="evaluations", parallelism=PARALLEL_TRIALS) as share,
    ):
        evaluated = evaluate_share(run_uri=share.run_uri, trials=share.trials, share=share.share, trust=trust)
        placement.apply(evaluated)


def planned_run(run: RunParameters) -> tuple[dsl.PipelineTask, Placement]:
    """The plan, and where the steps after it go."""
    form = run.form
    planned = Placement(form, {}).apply(
        plan(
            source_uri=form.data_source_uri,
            store_uri=form.data_store_uri,
            dataset_name=form.data_name,
            convert_workers=form.data_convert_workers,
            evaluate_workers=form.evaluate_workers,
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
            budget_gpu_hours=form.budget_gpu_hours,
            budget_gpu_hour_price=form.budget_gpu_hour_price,
            budget_cpu_hour_price=form.budget_cpu_hour_price,
            halving=run.halving,
            perturb=form.evaluate_perturb,
            only_new=run.only_new,
            force=run.force,
            trust=form.trust,
            job_id=JOB,
            train_image=form.cluster_image_train,
            sim_image=form.cluster_image_sim,
            **{f"asked_{size}": getattr(form, f"cluster_{size}") for size in SIZES},
        )
    )
    return planned, Placement(form, {size: planned.outputs[size] for size in (*SIZES, *TRAIN_POD)})


def training_dag(run: RunParameters) -> None:
    """Plan to promote: one graph where nothing is shared by pods, and one with pods for shares.

    A task can wait for a pipeline with a condition inside, never for a condition alone, so what may be shared costs two
    drivers even where it is not. The graph that most runs take has none of that; the other one costs it a driver.
    """
    form = run.form
    planned, placement = planned_run(run)
    with dsl.If(planned.outputs["work"] == YES, name=WORK):
        dataset = dataset_tasks(form, planned, placement, shared=False)
        ended = trial_tasks(form, planned, placement, dataset)
        conclude_task(form, planned, placement, dsl.Collected(ended))
    with dsl.If(planned.outputs["work"] == SHARED, name=SHARED_WORK):
        dataset = dataset_tasks(form, planned, placement)
        ended = trial_tasks(form, planned, placement, dataset)
        shared = shared_evaluations(
            shares=planned.outputs["evaluation_shares"],
            needed=planned.outputs["evaluation_shared"],
            trust=form.trust,
            cluster_image_sim=form.cluster_image_sim,
            cpu_sim=planned.outputs["cpu_sim"],
            memory_sim=planned.outputs["memory_sim"],
            cluster_node_selector=form.cluster_node_selector,
            cluster_node_tolerations=form.cluster_node_tolerations,
            after=dsl.Collected(ended),
        )
        shared.set_display_name("more workers of the evaluation")
        conclude_task(form, planned, placement, dsl.Collected(ended)).after(shared)


def trial_tasks(
    form: SimpleNamespace, planned: dsl.PipelineTask, placement: Placement, dataset: dsl.PipelineTask
) -> Any:
    """Train to evaluate for each group of trials; how they ended."""
    with dsl.ParallelFor(planned.outputs["Output"], name="trials", parallelism=PARALLEL_TRIALS) as group:
        trained = train_task(form, planned, group)
        placement.apply(trained).after(dataset)
        exported = placement.apply(export(run_uri=group.run_uri, outcomes=trained.outputs["Output"]))
        evaluated = placement.apply(
            evaluate(
                run_uri=group.run_uri,
                outcomes=exported.outputs["Output"],
                workers=form.evaluate_workers,
                trust=form.trust,
            )
        )
    return evaluated.outputs["ended"]


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


def conclude_task(
    form: SimpleNamespace, planned: dsl.PipelineTask, placement: Placement, after: Any
) -> dsl.PipelineTask:
    """Select to promote. The outcomes are read from the store; ``after`` only makes it wait for all trials."""
    return placement.apply(conclude(run_uri=planned.outputs["run_uri"], job_id=JOB, after=after, trust=form.trust))


def dataset_tasks(
    form: SimpleNamespace, planned: dsl.PipelineTask, placement: Placement, *, shared: bool = True
) -> dsl.PipelineTask:
    """Demonstrations to a dataset with statistics; the last task of it. ``shared``: several pods may convert."""
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
    computed = stats(dataset_uri=planned.outputs["dataset_uri"], digest=converted.outputs["digest"])
    if not shared:
        return placement.apply(computed)
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
    return placement.apply(computed).after(others)
