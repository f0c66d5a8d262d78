"""What a run will take is told before it begins, from what earlier runs of the same store took, and nothing is made up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tendon.cli import main
from tendon.errors import ConfigError
from tendon.registry.outlook import outlook_of
from tendon.runs.forecast import Forecast, load_forecast, make_forecast, note_took
from tendon.runs.measured import (
    Kind,
    Measurement,
    StepClock,
    conversion_kind,
    engine_kind,
    evaluation_kind,
    export_kind,
    find,
    measuring,
    save,
    store_of,
    training_kind,
    trial_of,
)
from tendon.runs.plan import RunPlan, load_plan
from tendon.storage import open_store
from tests.runs.test_endings import end_well, plan
from tests.runs.test_remaining import swept


def measure_all(run: RunPlan) -> None:
    """What an earlier run would have left: 100 updates a second on one GPU, two seconds to start, an episode in a second."""
    config = run.trials[0].config
    kinds = [
        (
            training_kind(config),
            Measurement(300, "step", 6, 3, 2, 2, gpus=1, device="cuda", stored_bytes=1000, when="t1"),
        ),
        (export_kind(config), Measurement(1, "bundle", 3, 3, stored_bytes=500, when="t1")),
        (evaluation_kind(config), Measurement(10, "episode", 10, 5, 1, 1, stored_bytes=100, when="t1")),
        (conversion_kind(run.source_uri, run.conversion), Measurement(2, "episode", 1, 1, stored_bytes=50, when="t1")),
        (engine_kind("local"), Measurement(8, "task", 16, 20, when="t1")),
    ]
    for kind, result in kinds:
        save(run.store_uri, kind, result)


def forecast_of(store: Path, **more: Any) -> tuple[RunPlan, Forecast]:
    result = plan(store, **more)
    run = load_plan(result.run_uri)
    return run, make_forecast(run, 0, result.groups, halving=more.get("halving", False))


def test_a_new_store_claims_nothing(tmp_path: Path) -> None:
    run, forecast = forecast_of(tmp_path)
    assert forecast.lines() == [
        "in all: 600 steps",
        "not in it: convert, train, export, evaluate, engine, of which no run in this store has measured anything yet",
    ]
    assert load_forecast(run.run_uri)["unknown"] == ["convert", "engine", "evaluate", "export", "train"]


def test_the_forecast_adds_up_what_was_measured(tmp_path: Path) -> None:
    measure_all(forecast_of(tmp_path)[0])
    prices = {"budget_gpu_hour_price": 3600.0, "budget_gpu_hours": 0.001}
    run, forecast = forecast_of(tmp_path, **swept(2), **prices, episodes=20)
    total = forecast.total()
    assert total.units == 2 * 600
    assert total.gpu_s == pytest.approx(2 * (2 + 6))
    assert total.cpu_s == pytest.approx(2 + 2 * (2 + 12) + 2 * 3 + 2 * (1 + 20) + (1 + 5) + 11 * 2)
    assert forecast.total("lr_0.001").stored_bytes == 1000 + 500 + 200
    lines = forecast.lines()
    assert lines[0].startswith("lr_0.001: 600 steps, ")
    assert lines[2].startswith("in all: 1,200 steps")
    assert "0.00 GPU hours" in lines[2]
    assert lines[2].endswith("16.00 money")
    assert any(line.startswith("measured: train by ") and "on cuda" in line for line in lines)
    assert lines[-1].startswith("budget_gpu_hours is 0.001")
    halved = make_forecast(run, 0, [["lr_0.001"], ["lr_0.002"]], halving=True)
    assert halved.total().units < 1200
    assert "at most" in halved.lines()[2]


def test_what_is_finished_costs_nothing_and_a_similar_kind_is_told_as_such(tmp_path: Path) -> None:
    first, _ = forecast_of(tmp_path)
    measure_all(first)
    other, forecast = forecast_of(tmp_path, config="experiment=reach_bc policy.hidden_dims=[8,8]")
    assert any(
        line.startswith("measured: train by") and line.endswith("of a similar kind") for line in forecast.lines()
    )
    assert not forecast.unknown
    open_store(other.trial_uri("base")).write("checkpoints/000400/x", b"x")
    assert make_forecast(other, 0, [["base"]]).total().units == 200, "training resumes at its last checkpoint"
    end_well(other.run_uri)
    assert plan(tmp_path, "j2", config="experiment=reach_bc policy.hidden_dims=[8,8]").forecast == []


def test_real_work_leaves_its_measurement_and_found_work_none(tmp_path: Path) -> None:
    kind, store = Kind("train", "bc", {"batch": 3}), str(tmp_path)
    with measuring(store, kind, "trial a") as taken:
        sum(range(2_000_000))
        time.sleep(0.2)
        taken.units, taken.work_s = 10, 0.1
    found = find(store, kind)
    assert found is not None
    result, is_exact = found
    assert is_exact
    assert (result.units, result.source) == (10, "trial a")
    assert result.wall_s == pytest.approx(0.1, abs=0.001)
    assert result.start_wall_s >= 0.1
    assert 0 < result.cpu_s + result.start_cpu_s < result.wall_s + result.start_wall_s
    with measuring(store, kind, "trial b"):
        pass
    assert find(store, kind) == found, "nothing was done"
    assert find(store, Kind("train", "act", {})) is None
    assert store_of("/s/trials/k/bundle") == "/s"
    assert trial_of("/s/trials/k/checkpoints/000001") == "trial k"
    assert store_of("/elsewhere/bundle") == ""
    assert (store_of("s3://trials/k/bundle"), trial_of("s3://trials/k/bundle")) == ("", ""), "a bucket of that name"


def test_a_clock_of_steps_leaves_out_what_came_before_the_first() -> None:
    heard: list[int] = []
    clock = StepClock(lambda done, total: heard.append(done))
    assert clock.seconds(100) is None
    clock.follow(0, 100)
    time.sleep(0.05)
    clock.follow(50, 100)
    assert 0.1 <= (clock.seconds(100) or 0) < 1
    assert heard == [0, 50]


def test_after_a_run_the_rest_of_its_cpu_time_is_that_of_the_engine(tmp_path: Path) -> None:
    measure_all(forecast_of(tmp_path)[0])
    run, forecast = forecast_of(tmp_path, **swept(2))
    work_s = forecast.total().cpu_s - 11 * 2
    took = note_took(run.run_uri, str(tmp_path), "2000", work_s + 33, 100.0)
    assert took.forecast_cpu_s == pytest.approx(forecast.total().cpu_s)
    assert "forecast were" in took.words()
    engine = find(str(tmp_path), engine_kind("local"))
    assert engine is not None
    assert engine[0].cpu_s / engine[0].units == pytest.approx(3)
    assert note_took(run.run_uri, str(tmp_path), "3000", 1, 1).forecast_cpu_s is None, "a forecast of another run"


def test_plan_prints_it_and_creates_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    assert main(["plan", "--store-uri", str(store), "--source-uri", "demo://reach?episodes=4"]) == 0
    out = capsys.readouterr().out
    assert "forecast in all: 600 steps" in out
    assert "Nothing was created." in out
    assert not store.exists()


def test_a_halved_sweep_that_one_run_cannot_hold_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    """All trials are pruned beside each other, so none can wait for another run."""
    run = load_plan(plan(tmp_path, **swept(3)).run_uri)
    with pytest.raises(ConfigError, match="which one run of the sweep pipeline holds 1") as refused:
        outlook_of(run, 0, trials_per_pod=1, most_groups=1, halving=True)
    key, _, per_pod = refused.value.problems[0].fix.partition("=")
    assert key == "policy_trials_per_pod"
    assert not outlook_of(run, 0, trials_per_pod=int(per_pod), most_groups=1, halving=True).remaining.num_later
    assert outlook_of(run, 0, trials_per_pod=1, most_groups=1).remaining.num_later == len(run.trials) - 1
