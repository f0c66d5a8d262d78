"""Save rules against robomimic's semantics: ties of a validation loss save, a return or a rate must be greater."""

from __future__ import annotations

from pathlib import Path

import pytest

from tendon.errors import ConfigError
from tendon.storage import open_store
from tendon.train.loop.training import train
from tendon.train.state.checkpoint import complete
from tendon.train.state.checkpoint_rules import LISTED, RECURRING, RETURN, SUCCESS, VALIDATION, SaveRules
from tests.train.small_trial import OpenMemory, make_config, make_stats, run


def rules(**save: object) -> SaveRules:
    config = make_config(save=save, save_freq=1000, keep_checkpoints=1)
    return SaveRules(config.save, config.training, steps_per_epoch=10, saved_at_s=0.0)


def test_every_n_epochs_and_listed_epochs_at_the_end_of_an_epoch() -> None:
    made = rules(every_n_epochs=2, epochs=[3])
    saved = {n: made.recurring(n, False, 0.0) for n in range(1, 61)}
    assert {n: reasons for n, reasons in saved.items() if reasons} == {
        20: {RECURRING: 0.0},
        30: {LISTED: 3},
        40: {RECURRING: 0.0},
        60: {RECURRING: 0.0},
    }


def test_any_recurring_save_starts_the_clock_anew() -> None:
    made = rules(every_n_seconds=60.0, every_n_epochs=1)
    assert not made.is_time(60.0)
    assert made.is_time(60.1)
    made.recurring(10, False, 50.0)
    assert not made.is_time(100.0)
    assert made.recurring(13, made.is_time(111.0), 111.0) == {RECURRING: 0.0}


def test_on_a_cluster_a_checkpoint_is_made_every_five_minutes_unless_the_configuration_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before: never by time, so a pod that was told to stop with one second to go lost 30,000 steps."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert not rules().is_time(1e9)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert (rules().is_time(300.0), rules().is_time(300.1)) == (False, True)
    assert not rules(every_n_seconds=1000.0).is_time(301.0)
    assert rules(every_n_seconds=60.0).is_time(61.0)
    made = rules()
    made.recurring(13, True, 400.0)
    assert not made.is_time(600.0)


def test_checkpoints_by_time_change_neither_key_nor_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tendon.runs.planner import run_key

    config = make_config()
    laptop = run(tmp_path / "laptop"), run_key(config)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr("tendon.train.state.checkpoint_rules.CLUSTER_EVERY_S", 1e-9)
    cluster = run(tmp_path / "cluster", keep_checkpoints=50), run_key(config)
    assert len(complete(open_store(str(tmp_path / "cluster")))) == 40
    assert (laptop[0].weights_sha256, laptop[1]) == (cluster[0].weights_sha256, cluster[1])


def test_best_validation_saves_ties_and_best_rollouts_do_not() -> None:
    made = rules(on_best_validation=True, on_best_rollout_return=True, on_best_rollout_success_rate=True)
    assert [bool(made.after_validation(loss)) for loss in (2.0, 2.0, 3.0, 1.0, float("nan"))] == [1, 1, 0, 1, 0]
    assert made.after_rollouts(-5.0, 0.0) == {RETURN: -5.0, SUCCESS: 0.0}
    assert made.after_rollouts(-5.0, 0.0) == {}
    assert made.after_rollouts(-4.0, 0.0) == {RETURN: -4.0}
    assert made.after_rollouts(-9.0, 50.0) == {SUCCESS: 50.0}


def test_the_newest_the_listed_and_the_best_stay() -> None:
    made = rules(top_k=2)
    made.records = {
        "000010": {VALIDATION: 0.5},
        "000020": {VALIDATION: 0.3, LISTED: 2},
        "000030": {VALIDATION: 0.3},
        "000040": {SUCCESS: 10.0},
        "000050": {LISTED: 5},
        "000060": {RECURRING: 0.0},
        "000070": {RECURRING: 0.0},
    }
    assert made.kept(made.records) == {"000020", "000030", "000040", "000050", "000070"}
    assert made.best_names() == {VALIDATION: "000030", SUCCESS: "000040"}


def test_rollouts_save_the_best_and_are_logged_as_lerobot_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="tendon")
    rates = iter([0.0, 50.0, 50.0, 20.0])

    def rollouts(policy: object, config: object) -> dict[str, float]:
        return {"avg_sum_reward": 1.0, "pc_success": next(rates), "eval_s": 0.5}

    save = {"on_best_rollout_success_rate": True, "on_best_validation": False}
    config = make_config(eval_freq=10, save_freq=1000, keep_checkpoints=1, save=save)
    result = train(config, "memory", make_stats(), str(tmp_path), open_data=OpenMemory(), rollouts=rollouts)
    assert complete(open_store(str(tmp_path))) == ["000040", "000020"]
    assert result.best == {SUCCESS: "000020"}
    assert result.metrics["eval_pc_success"] == 20.0
    lines = [record.getMessage() for record in caplog.records]
    begun = lines.index("Eval policy at step 20")
    assert lines[begun : begun + 3] == [
        "Eval policy at step 20",
        "step:20 smpl:168 ep:4 epch:0.42 \N{N-ARY SUMMATION}rwrd:1.000 success:50.0% eval_s:0.500",
        "Resume training",
    ]


def test_best_rollouts_without_rollouts_are_refused() -> None:
    config = make_config(save={"on_best_rollout_return": True})
    assert [conflict.key for conflict in config.conflicts()] == ["save"]


def test_best_validation_survives_a_resume(tmp_path: Path) -> None:
    save = {"on_best_validation": True}
    run(tmp_path / "whole", valid_freq=5, save=save, save_freq=1000, keep_checkpoints=1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", lambda k: _stop(k, 23), valid_freq=5, save=save, save_freq=1000, keep_checkpoints=1)
    run(tmp_path / "cut", valid_freq=5, save=save, save_freq=1000, keep_checkpoints=1)
    assert complete(open_store(str(tmp_path / "cut"))) == complete(open_store(str(tmp_path / "whole")))


def _stop(k: int, at: int) -> None:
    if k == at:
        raise KeyboardInterrupt


def test_a_freeze_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trunk, head"):
        run(tmp_path, freeze=("encoder",))
