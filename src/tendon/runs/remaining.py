"""What is left to do of a planned run: which trials, in which pods, and whether anything at all. Called by steps.plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tendon.runs.jobs import last_trained
from tendon.runs.limits import batch_advice
from tendon.runs.outcomes import is_finished, load_outcomes
from tendon.runs.plan import RunPlan


@dataclass(frozen=True)
class Remaining:
    """The work of one run. Without work there is a reason; with work there is at least one group."""

    work: bool
    reason: str
    groups: tuple[tuple[str, ...], ...]  # names of trials, one group per pod
    is_complete: bool = False  # every trial is finished and the conclusion stands
    num_later: int = 0  # trials for which one run has no room


def find_remaining(
    run: RunPlan,
    *,
    trials_per_pod: int,
    most_groups: int | None,
    only_new: bool,
    force: bool,
    conclusion_stands: Callable[[RunPlan], bool],
    task_of: Callable[[RunPlan], str],
) -> Remaining:
    """Look into the store for what earlier runs of this plan have finished.

    Args:
        run: The plan.
        trials_per_pod: How many trials one pod does, one after the other.
        most_groups: How many pods of trials the engine can take; None: any number.
        only_new: There is work only when the demonstrations changed since they were trained on last.
        force: There is work whatever was finished.
        conclusion_stands: Says whether an earlier conclusion of the run still holds (the champion may have changed).
        task_of: Names the task of a run and how it is confirmed.
    """
    if only_new and not force and (unchanged := _unchanged(run, task_of)):
        return Remaining(False, unchanged, ())
    outcomes = load_outcomes(run)
    finished = [trial.name for trial in run.trials if is_finished(outcomes.get(trial.name))]
    if len(finished) == len(run.trials):
        if not force and conclusion_stands(run):
            reason = f"all {len(run.trials)} trial(s) of {run.run_uri} are finished and its conclusion stands"
            return Remaining(False, reason, (), is_complete=True)
        reason = (
            "asked for, though every trial is finished" if force else "every trial is finished, the conclusion is not"
        )
        return Remaining(True, reason, ((finished[0],),))
    open_trials = [trial.name for trial in run.trials if trial.name not in finished]
    failed = [name for name in open_trials if name in outcomes and outcomes[name].status == "failed"]
    in_order = [name for name in open_trials if name not in failed] + failed
    room = len(in_order) if most_groups is None else most_groups * trials_per_pod
    chosen = in_order[:room]
    reason = f"{len(chosen)} of {len(run.trials)} trial(s) to do, {len(finished)} finished"
    if len(chosen) < len(in_order):
        reason = batch_advice(len(in_order), len(chosen))
    return Remaining(True, reason, groups_of(chosen, trials_per_pod), num_later=len(in_order) - len(chosen))


def groups_of(names: list[str], size: int) -> tuple[tuple[str, ...], ...]:
    """Names in groups of a size, one group per pod."""
    return tuple(tuple(names[start : start + size]) for start in range(0, len(names), size))


def shares_of_groups(groups: Iterable[Sequence[str]], workers: int) -> list[tuple[list[str], str]]:
    """Each group with each share of its seeds; nothing when one worker rolls out all of them.

    Example:
        >>> shares_of_groups([("lr_0.1",)], 2)
        [(['lr_0.1'], '0/2'), (['lr_0.1'], '1/2')]
    """
    shares = [f"{number}/{workers}" for number in range(workers)] if workers > 1 else []
    return [(list(group), share) for group in groups for share in shares]


def _unchanged(run: RunPlan, task_of: Callable[[RunPlan], str]) -> str:
    """Why a schedule has nothing to train on; empty when it has."""
    last = last_trained(run, task_of)
    if last is None or last.source_digest != run.source_digest:
        return ""
    return f"nothing changed since {last.when}: {last.run_uri}"
