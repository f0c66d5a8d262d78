"""Validation loss and action error beside success: which policies are shown, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tendon.report.page import render
from tendon.report.plots_prediction import loss_and_success
from tendon.report.prediction import Predicted, points_of
from tendon.report.summary import ReportInputs


def test_rungs_and_rollouts_meet_the_validation_of_their_step(tmp_path: Path) -> None:
    config: dict[str, Any] = {"training": {"valid_freq": 50, "offline_steps": 600}, "eval": {"n_episodes": 25}}
    trials = [SimpleNamespace(name=name, config=config) for name in ("a", "b")]
    run: Any = SimpleNamespace(run_uri=str(tmp_path), trials=trials)
    rung = {"step": 100, "success": {"1": True, "2": False, "3": True, "4": True}}
    (tmp_path / "rungs/1/trials").mkdir(parents=True)
    (tmp_path / "rungs/1/trials/a.json").write_text(json.dumps(rung))
    lines = [
        {"step": 100, "valid/loss": 0.5, "valid/action_l1": 0.2},
        {"step": 300, "eval/pc_success": 40.0},
        {"step": 320, "valid/loss": 0.3},
        {"step": 500, "eval/pc_success": 80.0},  # no validation near it: not shown
    ]
    points = points_of(run, [], {"a": lines, "b": []})
    assert points == (
        Predicted("a", 100, 0.5, 0.2, 0.75, 4, "rung"),
        Predicted("a", 300, 0.3, None, pytest.approx(0.4), 25, "training"),  # type: ignore[arg-type]
    )


def test_what_is_said_follows_from_the_points() -> None:
    def figure(rates: list[float]) -> str:
        points = tuple(Predicted(f"t{k}", 900, 0.1 * (k + 1), None, rate, 40, "end") for k, rate in enumerate(rates))
        (drawn,) = loss_and_success(ReportInputs("t", predictions=points))
        return drawn.answer

    assert figure([0.95, 0.9, 0.7, 0.65, 0.4, 0.2]).startswith(
        "Validation loss: yes, less is better; rank correlation -1.00"
    )
    assert figure([0.2, 0.3, 0.5, 0.6, 0.8, 0.9]).startswith(
        "Validation loss: no, less is worse; rank correlation +1.00"
    )
    assert "it cannot be told" in figure([0.5, 0.9, 0.4, 0.8, 0.45, 0.85])
    assert "too few" in figure([0.5, 0.9, 0.4])
    assert loss_and_success(ReportInputs("t")) == ()
    both = tuple(Predicted(f"t{k}", 900, 0.1 * k, 0.05 * k, 1 - 0.1 * k, 40, "end") for k in range(5))
    page = render(ReportInputs("t", predictions=both))
    assert "Does validation loss predict success?" in page
    assert "Open-loop action error: yes" in page
