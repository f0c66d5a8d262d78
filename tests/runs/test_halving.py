"""Successive halving: what it saves, that it finds a winner, and that a killed sweep decides the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tendon import steps
from tendon.evaluate.confidence import Outcomes, wilson
from tendon.evaluate.table import Evaluation
from tendon.runs.halving import most_steps, rung_steps, share_saved, survivors
from tendon.runs.outcomes import TrialOutcome, load_outcomes, save_outcome
from tendon.runs.plan import RunPlan, load_plan
from tendon.runs.rungs import decide_rung, has_rung, save_rung
from tests.runs.test_endings import plan
from tests.runs.test_remaining import swept

STEPS, TRIALS, EPISODES = 1800, 16, 50
WORLDS = 16


def played(generator: np.random.Generator, rate: float, hardness: np.ndarray) -> Outcomes:
    """Seeds differ in how hard they are, for every policy alike."""
    noisy = np.clip(hardness + generator.normal(0, 0.1, len(hardness)), 0, 1)
    return Outcomes({seed: bool(hard < rate) for seed, hard in enumerate(noisy)})


def sweep(seed: int, episodes: int = EPISODES) -> tuple[float, bool]:
    """One simulated sweep: the share of steps saved, and whether its trial is within the interval of the true winner."""
    generator = np.random.default_rng(seed)
    final = np.clip(generator.beta(2, 2, TRIALS), 0, 1)
    speed = generator.uniform(0.05, 0.3, TRIALS)  # share of the steps after which most is learnt
    hardness = generator.random(episodes)

    def at(trial: int, step: int) -> float:
        return float(final[trial] * (1 - np.exp(-step / STEPS / speed[trial])))

    trained, going = [0] * TRIALS, list(range(TRIALS))
    for rung in (1, 2, 3):
        step = rung_steps(STEPS, rung) or STEPS
        results = {f"{trial:02d}": played(generator, at(trial, step), hardness) for trial in going}
        for trial in going:
            trained[trial] = step
        if rung < 3:
            going = [int(name) for name in survivors(results, rung)[0]]
    chosen = max(results, key=lambda name: results[name].successes)
    rates = [at(trial, STEPS) for trial in range(TRIALS)]
    best = int(np.argmax(rates))
    whole = played(generator, rates[best], hardness)
    return share_saved(STEPS, trained), rates[int(chosen)] >= wilson(whole.successes, whole.n).low


def test_it_saves_most_steps_and_keeps_a_winner() -> None:
    ends = [sweep(seed) for seed in range(10 * WORLDS)]
    assert min(saved for saved, _ in ends) >= 0.6
    assert np.mean([within for _, within in ends]) >= 0.9


def test_steps_are_known_beforehand() -> None:
    assert [rung_steps(STEPS, rung) for rung in (1, 2, 3)] == [300, 900, 0]
    assert rung_steps(4, 1) == 1
    assert most_steps(STEPS, 16) == 16 * 300 + 8 * 600 + 2 * 900
    assert most_steps(STEPS, 1) == STEPS


def outcomes(won: int, n: int = 50, crashed: int = 0) -> Outcomes:
    return Outcomes({seed: seed < won for seed in range(n)}, crashed)


def test_who_is_clearly_worse_goes_and_at_most_half_stay() -> None:
    kept, pruned = survivors({"a": outcomes(45), "b": outcomes(44), "c": outcomes(10), "d": outcomes(43)}, 1)
    assert kept == ["a", "b"]
    reasons = {one.name: one.reason for one in pruned}
    assert reasons["c"].startswith("worse beyond the interval")
    assert reasons["d"].startswith("not among the best 2 of 4")
    assert survivors({"a": outcomes(45), "b": outcomes(2)}, 1)[0] == ["a"]
    assert survivors({"only": outcomes(0)}, 2)[0] == ["only"]
    assert survivors({}, 1) == ([], [])
    assert survivors({"a": outcomes(0, 0, 50), "b": outcomes(1)}, 1)[0] == ["b"]


def table(won: int) -> Evaluation:
    rows = tuple({"seed": seed, "status": "success" if seed < won else "failure"} for seed in range(20))
    return Evaluation(f"tables/{won}", {}, rows, False)


@pytest.fixture
def run(tmp_path: Path) -> RunPlan:
    return load_plan(plan(tmp_path, **swept(4)).run_uri)


def test_a_rung_is_decided_once_and_the_pruned_are_told(run: RunPlan) -> None:
    names = [trial.name for trial in run.trials]
    for name, won in zip(names, (3, 19, 18, 1), strict=True):
        save_rung(run, 1, name, table(won))
    assert decide_rung(run, 1) == names[1:3]
    save_rung(run, 1, names[0], table(20))  # a second attempt does not change what was scored
    again = steps.prune(run_uri=run.run_uri, rung=1, trials_per_pod=2)
    assert again.groups == [names[1:3]]
    known = load_outcomes(run)
    assert known[names[3]].status == "pruned"
    assert "pruned at step" in known[names[3]].error
    assert steps.select(run_uri=run.run_uri).leaderboard[-1]["failed_step"] == "pruned"
    left = plan(Path(run.store_uri), "j2", **swept(4))
    assert left.groups == [[names[1]], [names[2]]], "what was pruned is not begun again"


def test_a_trial_that_died_is_not_scored_and_does_not_go_on(run: RunPlan) -> None:
    names = [trial.name for trial in run.trials]
    for name in names[1:]:
        save_rung(run, 1, name, table(10))
    save_outcome(run.run_uri, TrialOutcome(names[0], run.trials[0].run_key, status="failed", failed_step="train"))
    assert names[0] not in decide_rung(run, 1)
    assert not has_rung(run, 1, names[0])


def test_a_paused_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    from tendon.train.state.pause import find_result, pausing_at
    from tendon.train.state.status import find_finished
    from tests.train.small_trial import run as train

    whole = train(tmp_path / "whole")
    with pausing_at(13):
        paused = train(tmp_path / "paused")
        assert paused.step == 13
        assert find_result(str(tmp_path / "paused")) == replace(paused, resumed_from=0, device="", best={})
        assert train(tmp_path / "paused").step == 13
    assert find_finished(str(tmp_path / "paused")) is None
    with pausing_at(5):
        assert find_result(str(tmp_path / "paused")).step == 13  # type: ignore[union-attr]
    resumed = train(tmp_path / "paused")
    assert (resumed.step, resumed.resumed_from) == (40, 13)
    assert resumed.weights_sha256 == whole.weights_sha256
    with pausing_at(13):
        assert train(tmp_path / "paused").step == 40
