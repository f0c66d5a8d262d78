"""A search by TPE: rounds that are runs, the same proposals for the same state, and trials that get better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tendon.config.sweep import expand, parse_sweep
from tendon.errors import ConfigError
from tendon.runs.outcomes import TrialOutcome, load_outcomes, save_outcome
from tendon.runs.plan import RunPlan, load_plan
from tendon.storage import open_store
from tests.runs.test_endings import plan

RATES = [round(10 ** (-5 + 0.25 * number), 7) for number in range(13)]
SWEEP: list[dict[str, Any]] = [
    {"key": "training.lr", "name": "lr", "values": RATES},
    {"key": "training.batch_size", "name": "b", "values": [32, 64, 128, 256]},
    {"tpe": 20, "per_run": 5, "seed": 1},
]


def score(run: RunPlan, trial: str) -> float:
    training = run.trial(trial).config["training"]
    return max(0.0, 0.9 - 0.06 * abs(RATES.index(training["lr"]) - 9) - 0.1 * (training["batch_size"] != 64))


def finish_all(run: RunPlan, but: str = "") -> None:
    for trial in run.trials:
        uris = {name: f"{run.trial_uri(trial.name)}/{name}" for name in ("bundle_uri", "evaluation_uri")}
        for uri in uris.values():
            open_store(uri).write(".complete.json", b"{}")
        if trial.name != but and trial.name not in load_outcomes(run):
            metrics = {"success_rate": score(run, trial.name)}
            save_outcome(run.run_uri, TrialOutcome(trial.name, trial.run_key, **uris, metrics=metrics))


def next_run(store: Path, number: int) -> tuple[RunPlan, list[list[str]]]:
    result = plan(store, f"j{number}", sweep=SWEEP)
    return load_plan(result.run_uri), result.groups


def test_each_run_is_a_round_that_learns_from_those_before(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    means = []
    for number in range(4):
        run, groups = next_run(tmp_path, number)
        assert len(run.trials) == 5 * (number + 1), "all trials so far, so that the last run selects among all"
        assert len(groups) == 5, "those of earlier rounds are finished"
        fresh = [name for group in groups for name in group]
        means.append(sum(score(run, name) for name in fresh) / 5)
        finish_all(run)
    assert max(means[1:]) > means[0] + 0.05, "by chance alone it would not"
    after, groups = next_run(tmp_path, 9)
    assert after.run_id == run.run_id
    assert len({trial.name for trial in after.trials}) == 20


def test_the_same_state_proposes_the_same_trials_and_a_killed_round_is_done_again(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    runs = {}
    for folder in ("a", "b"):
        first, _ = next_run(tmp_path / folder, 0)
        finish_all(first, but=first.trials[2].name)
        again, groups = next_run(tmp_path / folder, 1)
        assert (again.run_id, groups) == (first.run_id, [[first.trials[2].name]])
        finish_all(first)
        second, _ = next_run(tmp_path / folder, 2)
        runs[folder] = [trial.name for trial in second.trials]
    assert runs["a"] == runs["b"]


def test_a_failed_trial_counts_as_the_worst_and_is_tried_again_last(tmp_path: Path) -> None:
    assert len(expand(parse_sweep(SWEEP), "")) == 5, "without results the first round, as `tendon sweep` shows it"
    pytest.importorskip("optuna")
    run, _ = next_run(tmp_path, 0)
    (state,) = (tmp_path / "searches").glob("*.json")
    assert len(json.loads(state.read_text())["rounds"][0]["points"]) == 5
    name = run.trials[0].name
    dead = TrialOutcome(name, run.trial(name).run_key, status="failed", failed_step="train", error="it grew")
    save_outcome(run.run_uri, dead)
    finish_all(run)
    second, groups = next_run(tmp_path, 1)
    assert len(second.trials) == 10
    assert (len(groups), groups[-1]) == (6, [name])
    assert load_outcomes(second)[name].error == "it grew"


@pytest.mark.parametrize("wrong", [{"tpe": 0}, {"tpe": 5, "seeds": 1}, {"tpe": "many"}])
def test_a_search_that_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is no search"):
        parse_sweep([SWEEP[0], wrong])
    with pytest.raises(ConfigError, match="a search and a budget"):
        parse_sweep([SWEEP[0], {"tpe": 5}, {"budget": 5}])
