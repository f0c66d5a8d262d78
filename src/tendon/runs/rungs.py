"""The rungs of a sweep in the store: what each trial scored, who goes on, decided once.

``rungs/N/TRIAL.json`` in the run's folder is written by steps.evaluate_rung, ``rungs/N/decision.json`` by steps.prune; a
killed sweep finds both and decides the same.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tendon.config.schema import num_updates
from tendon.evaluate.confidence import Outcomes
from tendon.evaluate.table import Evaluation
from tendon.runs.halving import Pruned, rung_steps, survivors
from tendon.runs.outcomes import TrialOutcome, save_outcome
from tendon.runs.plan import RunPlan
from tendon.storage import open_store

PRUNED = "pruned"


def save_rung(run: RunPlan, rung: int, trial: str, table: Evaluation) -> None:
    """Keep what a trial scored; whoever comes second changes nothing."""
    outcomes = Outcomes.of(table.rows)
    score = {
        "trial": trial,
        "step": rung_steps(run.config_of(trial).training.num_steps, rung),
        "evaluation_uri": table.uri,
        "success": {str(seed): won for seed, won in outcomes.by_seed.items()},
        "crashed": sorted(outcomes.crashed_seeds),
    }
    open_store(run.run_uri).create(_key(rung, trial), json.dumps(score, indent=1).encode())


def has_rung(run: RunPlan, rung: int, trial: str) -> bool:
    """Whether the trial was scored at this rung."""
    return open_store(run.run_uri).head(_key(rung, trial)) is not None


def decide_rung(run: RunPlan, rung: int) -> list[str]:
    """The trials that go on after a rung; the others get their outcome. The first decision holds."""
    store, key = open_store(run.run_uri), f"rungs/{rung}/decision.json"
    if store.head(key) is None:
        kept, pruned = survivors([_scores(run, number) for number in range(1, rung + 1)])
        decision = {"kept": kept, "pruned": [asdict(one) for one in pruned]}
        store.create(key, json.dumps(decision, indent=1).encode())
    decided: dict[str, Any] = json.loads(store.read(key))
    for one in decided["pruned"]:
        _save_pruned(run, rung, Pruned(**one))
    order = {trial.name: place for place, trial in enumerate(run.trials)}
    return sorted((name for name in decided["kept"] if name in order), key=order.__getitem__)


def _scores(run: RunPlan, rung: int) -> dict[str, Outcomes]:
    store, scores = open_store(run.run_uri), {}
    for trial in run.trials:
        if has_rung(run, rung, trial.name):
            score = json.loads(store.read(_key(rung, trial.name)))
            crashed = frozenset(score["crashed"])
            by_seed = {int(seed): won for seed, won in score["success"].items()}
            scores[trial.name] = Outcomes(by_seed, len(crashed), crashed)
    return scores


def _save_pruned(run: RunPlan, rung: int, pruned: Pruned) -> None:
    trial = run.trial(pruned.name)
    steps = num_updates(trial.config["training"])
    step = rung_steps(steps, rung)
    error = f"pruned at step {step} of {steps}: {pruned.reason}"
    outcome = TrialOutcome(trial.name, trial.run_key, status=PRUNED, failed_step=PRUNED, error=error)
    save_outcome(run.run_uri, outcome)


def _key(rung: int, trial: str) -> str:
    return f"rungs/{rung}/trials/{trial}.json"
