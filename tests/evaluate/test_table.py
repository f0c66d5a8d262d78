"""The numbers of an evaluation: ours, and the same ones under robomimic's names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tendon import steps
from tendon.config.compose import compose
from tendon.config.schema import EnvConfig, EvalConfig
from tendon.evaluate.table import summarise
from tests.evaluate.test_rollout import Towards

ROBOMIMIC = {"Return", "Horizon", "Success_Rate", "Num_Success", "Time_Episode"}


def row(seed: int, status: str, steps: int, sum_reward: float) -> dict[str, Any]:
    return {"seed": seed, "status": status, "steps": steps, "sum_reward": sum_reward}


def test_a_summary_has_robomimics_names_too(reach: EnvConfig) -> None:
    rows = [
        row(7, "success", 10, 1.0),
        row(8, "failure", 60, 0.5),
        row(9, "crashed", 3, 0.0),
        row(10, "success", 20, 3.0),
    ]
    found = summarise(rows, block="selection", env=reach, seeds=range(7, 11), wall_s=90.0)
    theirs = found["robomimic"]
    assert set(theirs) == ROBOMIMIC
    assert theirs["Return"] == found["mean_sum_reward"] == 1.5
    assert theirs["Horizon"] == found["mean_steps"] == 30.0
    assert theirs["Success_Rate"] == found["success_rate"] == pytest.approx(2 / 3)
    assert theirs["Num_Success"] == found["successes"] == 2
    assert theirs["Time_Episode"] == 1.5  # minutes, of all episodes together, as there


def test_rollouts_in_training_have_both_too(reach: EnvConfig, evaluation: EvalConfig) -> None:
    config = replace(compose(["env=reach", "data.uri=x"]), env=reach, eval=replace(evaluation, n_episodes=3))
    found = steps.rollouts_in_training(Towards(), config)
    assert set(found) > ROBOMIMIC
    assert found["pc_success"] == 100 * found["Success_Rate"] == 100.0
    assert found["Return"] == found["avg_sum_reward"] == 1.0
    assert found["Num_Success"] == found["episodes"] == 3
    assert found["Time_Episode"] == pytest.approx(found["eval_s"] / 60)
