"""A sweep that stops early: successive halving in three rungs, and evaluations that pods share. Compiled by compile.py."""

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

RUNGS = ("first rung", "second rung", "third rung")


@dsl.pipeline(name="sweep-pipeline")
@with_parameters
def sweep_pipeline(form: SimpleNamespace) -> None:
    """Train many trials a little, and only those that may still win to the end.

    After 14, 42 and 61 % of the steps every trial that is left is evaluated; a half, a quarter and three sixteenths of all go
    on at most. The winner is selected, confirmed and reported as in the policy pipeline.
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
            groups = planned.outputs["Output"]
            for rung, name in enumerate(RUNGS, start=1):
                with dsl.ParallelFor(groups, name=name, parallelism=PARALLEL_TRIALS) as group:
                    paused = train_rung(
                        run_uri=group.run_uri,
                        trials=group.trials,
                        dataset_uri=group.dataset_uri,
                        rung=rung,
                        trust=form.trust,
                    )
                    placement.apply(paused)
                    if rung == 1:
                        paused.after(dataset)
                    scored = evaluate_rung(
                        run_uri=group.run_uri,
                        outcomes=paused.output,
                        rung=rung,
                        episodes=form.evaluate_rung_episodes,
                        trust=form.trust,
                    )
                    placement.apply(scored)
                groups = placement.apply(prune(**shared, rung=rung, after=dsl.Collected(scored.output))).output
            with dsl.ParallelFor(groups, name="trials", parallelism=PARALLEL_TRIALS) as group:
                trained = placement.apply(train_task(form, planned, group))
                exported = placement.apply(export(run_uri=group.run_uri, outcomes=trained.outputs["Output"]))
            shares = placement.apply(prune(**shared, rung=0, after=dsl.Collected(exported.outputs["Output"])))
            with dsl.ParallelFor(shares.output, name="evaluations", parallelism=PARALLEL_TRIALS) as share:
                evaluated = evaluate_share(
                    run_uri=share.run_uri, trials=share.trials, share=share.share, trust=form.trust
                )
                placement.apply(evaluated)
            conclude_task(form, planned, placement, dsl.Collected(evaluated.output))
