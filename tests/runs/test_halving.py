"""Successive halving: what it saves, that it finds a winner, and that a killed sweep decides the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tendon import steps
from tendon.evaluate.confidence import Outcomes
from tendon.evaluate.table import Evaluation
from tendon.runs.halving import most_steps, rung_steps, survivors
from tendon.runs.outcomes import TrialOutcome, load_outcomes, save_outcome
from tendon.runs.plan import RunPlan, load_plan
from tendon.runs.rungs import decide_rung, has_rung, save_rung
from tests.runs.killed_sweep import count, result, sweep
from tests.runs.simulated_sweeps import STEPS, WORLDS, replays
from tests.runs.test_endings import plan
from tests.runs.test_remaining import swept


def test_it_saves_most_steps_and_keeps_a_winner_where_progress_is_steady() -> None:
    """``make bench ROWS=sweep`` has the rate of each family of learning curves."""
    ends = replays("exponential", "wide", 100)
    assert min(one.saved for one in ends) >= 0.6
    assert np.mean([one.within for one in ends]) >= 0.9


def test_other_families_of_learning_curves_cost_what_the_page_says() -> None:
    """Eight families, two kinds of ends each: 90 % pick a trial within the winner's interval; with two rungs they were 83."""
    ends = [one for world in WORLDS for one in replays(*world, 20)]
    assert min(one.saved for one in ends) >= 0.6
    assert np.mean([one.within for one in ends]) >= 0.86
    assert np.mean([one.lost for one in ends]) <= 0.05


@pytest.mark.long
def test_killed_twice_a_sweep_ends_with_the_same_winner(tmp_path: Path) -> None:
    """Killed at the rungs and after them, and started again each time; ``make faults ROWS=sweep`` has ten moments."""
    size = (2, 16, 2)
    sweep(tmp_path / "whole", *size)
    whole, objects = result(tmp_path / "whole"), count(tmp_path / "whole")
    for share in (0.5, 0.85):
        assert sweep(tmp_path / "killed", *size, kill_at=int(share * objects)), share
    sweep(tmp_path / "killed", *size)
    assert result(tmp_path / "killed") == whole


def test_steps_are_known_beforehand() -> None:
    assert [rung_steps(STEPS, rung) for rung in (1, 2, 3, 4)] == [250, 750, 1100, 0]
    assert rung_steps(4, 1) == 1
    assert most_steps(STEPS, 16) == 16 * 250 + 8 * 500 + 4 * 350 + 3 * 700
    assert most_steps(STEPS, 16) == 16 * 250 + 8 * 500 + 6 * 350 + 2 * 700, "as many where trials learn late"
    assert most_steps(STEPS, 1) == STEPS


def outcomes(won: int, n: int = 50, crashed: int = 0) -> Outcomes:
    return Outcomes({seed: seed < won for seed in range(n)}, crashed)


def named(*won: int) -> dict[str, Outcomes]:
    return {f"t{number:02d}": outcomes(each) for number, each in enumerate(won)}


def test_at_most_half_go_on_and_the_others_are_told_why() -> None:
    kept, pruned = survivors([{"a": outcomes(45), "b": outcomes(44), "c": outcomes(10), "d": outcomes(43)}])
    assert kept == ["a", "b"]
    assert all(one.reason.startswith("not among the best 2 of 4") for one in pruned)
    assert survivors([named(45, 2)])[0] == ["t00"]
    assert survivors([{"only": outcomes(0)}] * 2)[0] == ["only"]
    assert survivors([{}]) == ([], [])
    assert survivors([{"a": outcomes(0, 0, 50), "b": outcomes(1)}])[0] == ["b"]


def test_an_interval_ends_trials_from_the_second_rung_on_and_leaves_three() -> None:
    """A leader that falls later would otherwise be alone; at the first rung who is slow is not yet worse."""
    first = named(*[40] * 16)
    assert len(survivors([first])[0]) == 8
    second = {name: outcomes(won) for name, won in zip(first, (45, 44, 43, 10, 9, 8, 7, 6), strict=False)}
    kept, pruned = survivors([first, second])
    assert kept == ["t00", "t01", "t02"]
    assert pruned[0].name == "t03"
    assert pruned[0].reason.startswith("worse beyond the interval of the difference")
    assert survivors([first, dict(list(second.items())[2:5])])[0] == ["t02", "t03", "t04"]


def test_where_half_of_the_trials_showed_nothing_at_first_the_second_rung_keeps_more() -> None:
    first = named(*[20] * 8, *[2] * 8)
    second = {name: outcomes(won) for name, won in zip(first, (45, 44, 43, 10, 9, 8, 7, 6), strict=False)}
    kept, pruned = survivors([first, second])
    assert len(kept) == 6, "what began late may still win, also far behind"
    assert all(one.reason.startswith("not among the best 6 of 8") for one in pruned)
    assert survivors([first, second, {name: second[name] for name in kept}])[0] == kept[:2]


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
