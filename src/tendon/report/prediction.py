"""Checkpoints and trials of a run, each with its validation loss, its open-loop action error and its success rate.

From the store: the last table of each trial, the rungs of a halved sweep, rollouts in training. Called by gather.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tendon.config.schema import num_updates
from tendon.evaluate.table import load_evaluation
from tendon.runs.plan import RunPlan
from tendon.storage import open_store

LOSS, ERROR = "valid/loss", "valid/action_l1"


@dataclass(frozen=True)
class Predicted:
    """One policy: a trial at a step. ``action_error``: mean distance of its actions from those of held-out demonstrations."""

    trial: str
    step: int
    loss: float | None
    action_error: float | None
    rate: float
    n: int
    where: str  # end, rung, or training: which seeds


def points_of(
    run: RunPlan, outcomes: Sequence[Mapping[str, Any]], metrics: Mapping[str, list[dict[str, Any]]]
) -> tuple[Predicted, ...]:
    """Every policy of the run that was both validated and rolled out."""
    tables = {outcome["trial"]: outcome["evaluation_uri"] for outcome in outcomes}
    points = []
    for trial in run.trials:
        training = trial.config["training"]
        lines = metrics.get(trial.name, [])
        near = max(1, min(int(training["valid_freq"]), num_updates(training) // 10))
        rolled = [*_rungs(run, trial.name), *_rollouts(trial.config, lines)]
        if tables.get(trial.name):
            found = load_evaluation(tables[trial.name]).summary
            rolled.append((num_updates(training), found["success_rate"], found["n"], "end"))
        for step, rate, n, where in rolled:
            loss, error = (_nearest(lines, key, step, near) for key in (LOSS, ERROR))
            if n and (loss is not None or error is not None):
                points.append(Predicted(trial.name, step, loss, error, rate, n, where))
    return tuple(points)


def _rungs(run: RunPlan, trial: str) -> Iterator[tuple[int, float, int, str]]:
    store = open_store(run.run_uri)
    for entry in store.list("rungs/"):
        if entry.key.endswith(f"/trials/{trial}.json"):
            score = json.loads(store.read(entry.key))
            won = list(score["success"].values())
            yield score["step"], sum(won) / max(1, len(won)), len(won), "rung"


def _rollouts(config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, float, int, str]]:
    for line in lines:
        if "eval/pc_success" in line:
            yield line["step"], line["eval/pc_success"] / 100, int(config["eval"]["n_episodes"]), "training"


def _nearest(lines: Sequence[Mapping[str, Any]], key: str, step: int, near: int) -> float | None:
    """The value of the validation at this step, or the one closest to it."""
    known = [
        (abs(line["step"] - step), line[key]) for line in lines if key in line and abs(line["step"] - step) <= near
    ]
    return float(min(known)[1]) if known else None
