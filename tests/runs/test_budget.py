"""The budget of a run ends it cleanly, with a page; a larger one goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tendon import steps
from tendon.errors import ConfigError, Interrupted
from tendon.runs import measured
from tendon.runs.budget import HOUR, Meter, RunBudget, spent_gpu_s
from tendon.runs.outcomes import TrialOutcome, load_outcomes, save_outcome
from tendon.runs.plan import load_plan
from tendon.runs.rungs import save_rung
from tendon.storage import open_store
from tendon.train.distributed.attempts import train_in_child
from tests.runs.test_endings import finish, plan
from tests.runs.test_halving import table
from tests.runs.test_remaining import swept
from tests.train import trials_that_die
from tests.train.small_trial import make_config

ROOT = Path(__file__).parents[2]


def test_a_training_saves_and_stops_when_the_gpu_hours_of_its_run_are_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trainings count together; without a GPU nothing is counted."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    run_uri, budget = str(tmp_path / "run"), RunBudget(gpu_hours=4 / HOUR)
    before = Meter(run_uri, "first", budget, gpus=2, every_s=0.1)
    time.sleep(0.5)
    before.note()
    assert 0.9 < spent_gpu_s(run_uri) < 3
    meter = Meter(run_uri, "second", budget, gpus=1, every_s=0.1)
    tries = tmp_path / "trial" / "tries"

    def is_over() -> bool:  # whether it has begun yet depends on how busy this machine is
        return tries.is_file() and meter.is_over()

    with pytest.raises(Interrupted):
        train_in_child(
            make_config(), "wait", str(tmp_path / "trial"), trials_that_die.train, retries=2, is_over=is_over
        )
    assert meter.stopped
    meter.note()
    assert spent_gpu_s(run_uri) >= 4
    assert len(tries.read_text().splitlines()) == 1, "it is not tried again"
    on_cpu = Meter(run_uri, "third", RunBudget(gpu_hours=100), gpus=0, every_s=0)
    assert not on_cpu.is_over()


def test_a_run_whose_budget_is_spent_ends_with_a_page_and_goes_on_with_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "gpus_here", lambda: 1)
    config = "experiment=reach_bc device=auto"
    run = plan(tmp_path, **swept(2), config=config, budget_gpu_hours=1e-9)
    Meter(run.run_uri, "earlier", RunBudget(1), gpus=1).note()
    outcomes = steps.train_trials(run_uri=run.run_uri, trials=["lr_0.001"], dataset_uri=run.dataset_uri)
    outcome = TrialOutcome.from_json(outcomes[0])
    assert (outcome.status, outcome.failed_step) == ("stopped", "budget")
    assert "budget_gpu_hours is 1e-09" in outcome.error
    steps.train_trials(run_uri=run.run_uri, trials=["lr_0.002"], dataset_uri=run.dataset_uri)
    assert steps.export_trials(run_uri=run.run_uri, outcomes=outcomes)
    ended = steps.conclude(run_uri=run.run_uri, job_id="j1")
    assert ended.verdict.endswith("budget_gpu_hours is 1e-09; 2 trials left")
    end = finish(tmp_path)
    assert (end.ending, end.headline) == ("part done", ended.verdict)
    assert "2 trials left" in end.html
    again = plan(tmp_path, "j2", **swept(2), config=config, budget_gpu_hours=5.0)
    assert (again.run_uri, again.groups) == (run.run_uri, [["lr_0.001"], ["lr_0.002"]]), (
        "the budget is not its identity"
    )
    assert load_plan(run.run_uri).budget.gpu_hours == 5.0
    assert load_outcomes(load_plan(run.run_uri))["lr_0.001"].status == "stopped"


def test_a_rung_is_not_decided_without_the_trials_that_the_budget_stopped(tmp_path: Path) -> None:
    """A decision is final: with a larger budget they would be neither kept nor pruned."""
    run = load_plan(plan(tmp_path, **swept(4)).run_uri)
    names = [trial.name for trial in run.trials]
    for number, name in enumerate(names[:3]):
        save_rung(run, 1, name, table(5 + number))
    stopped = TrialOutcome(names[3], run.trials[3].run_key, status="stopped", failed_step="budget", error="spent")
    save_outcome(run.run_uri, stopped)
    assert steps.prune(run_uri=run.run_uri, rung=1).groups == [[names[3]]]
    assert open_store(run.run_uri).head("rungs/1/decision.json") is None
    save_outcome(run.run_uri, TrialOutcome(names[3], run.trials[3].run_key))
    save_rung(run, 1, names[3], table(19))
    assert names[3] in steps.prune(run_uri=run.run_uri, rung=1).kept


@pytest.mark.parametrize("name", ["budget_gpu_hours", "budget_gpu_hour_price", "budget_cpu_hour_price"])
def test_a_budget_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is -1"):
        plan(tmp_path, **{name: -1.0})


def test_money() -> None:
    assert RunBudget().money(7200, 3600) is None
    assert RunBudget(gpu_hour_price=2.5, cpu_hour_price=0.1).money(7200, 3600) == pytest.approx(2.7)
