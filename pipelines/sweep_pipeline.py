"""A sweep that stops early: successive halving in two rungs, and evaluations that pods share. Compiled by compile.py."""

from types import SimpleNamespace

from kfp import dsl

from components.evaluate_rung.component import evaluate_rung
from components.evaluate_share.component import evaluate_share
from components.export.component import export
from components.prune.component import prune
from components.train_rung.component import train_rung
from pipelines.parameters import with_parameters
from pipelines.resources import PARALLEL_TRIALS
from pipelines.training_dag import (
    NO,
    WORK,
    RunParameters,
    conclude_task,
    dataset_tasks,
    exit_task,
    planned_run,
    train_task,
)


@dsl.pipeline(name="sweep-pipeline")
@with_parameters
def sweep_pipeline(form: SimpleNamespace) -> None:
    """Train many trials a little, and only those that may still win to the end.

    After a sixth and after half of the steps every trial that is left is evaluated; at most half of them, then a quarter of
    those, go on. The winner is selected, confirmed and reported as in the policy pipeline.
    """
    with dsl.ExitHandler(exit_task(form), name="run"):
        planned, placement = planned_run(RunParameters(form, promote=form.gate_promote, halving=True))
        shared = {
            "run_uri": planned.outputs["run_uri"],
            "dataset_uri": planned.outputs["dataset_uri"],
            "trials_per_pod": form.policy_trials_per_pod,
            "workers": form.evaluate_workers,
        }
        with dsl.If(planned.outputs["work"] != NO, name=WORK):
            dataset = dataset_tasks(form, planned, placement)
            with dsl.ParallelFor(planned.outputs["Output"], name="first rung", parallelism=PARALLEL_TRIALS) as group:
                paused = train_rung(
                    run_uri=group.run_uri, trials=group.trials, dataset_uri=group.dataset_uri, rung=1, trust=form.trust
                )
                placement.apply(paused).after(dataset)
                scored = evaluate_rung(
                    run_uri=group.run_uri,
                    outcomes=paused.output,
                    rung=1,
                    episodes=form.evaluate_rung_episodes,
                    trust=form.trust,
                )
                placement.apply(scored)
            left = placement.apply(prune(**shared, rung=1, after=dsl.Collected(scored.output)))
            with dsl.ParallelFor(left.output, name="second rung", parallelism=PARALLEL_TRIALS) as group:
                paused = train_rung(
                    run_uri=group.run_uri, trials=group.trials, dataset_uri=group.dataset_uri, rung=2, trust=form.trust
                )
                placement.apply(paused)
                scored = evaluate_rung(
                    run_uri=group.run_uri,
                    outcomes=paused.output,
                    rung=2,
                    episodes=form.evaluate_rung_episodes,
                    trust=form.trust,
                )
                placement.apply(scored)
            left = placement.apply(prune(**shared, rung=2, after=dsl.Collected(scored.output)))
            with dsl.ParallelFor(left.output, name="trials", parallelism=PARALLEL_TRIALS) as group:
                trained = placement.apply(train_task(form, planned, group))
                exported = placement.apply(export(run_uri=group.run_uri, outcomes=trained.outputs["Output"]))
            shares = placement.apply(prune(**shared, rung=0, after=dsl.Collected(exported.outputs["Output"])))
            with dsl.ParallelFor(shares.output, name="evaluations", parallelism=PARALLEL_TRIALS) as share:
                evaluated = evaluate_share(
                    run_uri=share.run_uri, trials=share.trials, share=share.share, trust=form.trust
                )
                placement.apply(evaluated)
            conclude_task(form, planned, placement, dsl.Collected(evaluated.output))
