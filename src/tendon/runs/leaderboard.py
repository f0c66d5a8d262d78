"""The leaderboard of a run: trials in their order, groups that cannot be told apart, means over training seeds.

In: the plan and how each trial ended. Called by steps.select.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tendon.config.digest import digest
from tendon.evaluate.confidence import LeaderboardRow, Outcomes, TrialScore, rank_trials
from tendon.evaluate.many import Comparison, compare_many, entrants_of
from tendon.evaluate.table import load_evaluation
from tendon.runs.outcomes import TrialOutcome, is_evaluated
from tendon.runs.plan import RunPlan


@dataclass(frozen=True)
class Leaderboard:
    """Rows by trial, and the comparison by configuration; None when nothing was evaluated."""

    rows: tuple[LeaderboardRow, ...]
    comparison: Comparison | None


def rank_run(run: RunPlan, outcomes: Mapping[str, TrialOutcome]) -> Leaderboard:
    """Rank the trials on their common selection seeds."""
    tables = {
        name: Outcomes.of(load_evaluation(outcome.evaluation_uri).rows)
        for name, outcome in outcomes.items()
        if is_evaluated(outcome)
    }
    groups = {name: configuration(run.trial(name).config) for name in tables}
    scores = [_scored(outcome.score(), groups, tables) for outcome in outcomes.values()]
    if not tables:
        return Leaderboard(rank_trials(scores), None)
    by_trial = compare_many(entrants_of({name: (name, table) for name, table in tables.items()}))
    letters = {one.name: one.letters for one in by_trial.standings}
    rows = rank_trials([replace(score, letters=letters.get(score.name, "")) for score in scores])
    named = {name: (groups[name], table) for name, table in tables.items()}
    return Leaderboard(rows, compare_many(entrants_of(named)))


def configuration(config: Mapping[str, Any]) -> str:
    """Digest of a training's configuration without its seed: trainings that share it differ by chance alone."""
    return digest({key: value for key, value in config.items() if key != "seed"})


def _scored(score: TrialScore, groups: Mapping[str, str], tables: Mapping[str, Outcomes]) -> TrialScore:
    group = groups.get(score.name)
    members = [tables[name] for name, other in groups.items() if other == group] if group else []
    rates = [table.successes / table.n for table in members if table.n]
    return replace(score, configuration_rate=sum(rates) / len(rates)) if len(members) > 1 and rates else score
