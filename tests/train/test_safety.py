"""What is said before a run costs anything, and while it runs: room, a rehearsal, spikes, signs of life."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tendon.errors import ConfigError, Interrupted, StorageError
from tendon.train.loop import resource_estimate
from tendon.train.loop.dry_run import dry_run
from tendon.train.loop.engine import Engine
from tendon.train.watch.heartbeat import HEARTBEAT
from tests.train.small_trial import MemoryLoader, OpenMemory, make_config, make_stats, run


def lines_of(uri: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (uri / "metrics.jsonl").read_text().splitlines()]


def test_a_policy_that_cannot_fit_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource_estimate, "device_memory", lambda device: 1000)
    with pytest.raises(ConfigError, match="does not fit into the memory") as caught:
        run(tmp_path)
    assert "training.sharding=fsdp" in caught.value.problems[0].fix
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_disk_that_no_checkpoint_fits_on_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=100))
    with pytest.raises(StorageError, match="not even one checkpoint"):
        run(tmp_path)


def test_what_a_policy_takes() -> None:
    engine = Engine(make_config(ema={"enable": True}, keep_checkpoints=3, save={"epochs": (2,)}), make_stats().features)
    weights = sum(4 * p.numel() for p in engine.policy.parameters())
    held = sum(t.numel() * t.element_size() for t in engine.policy.state_dict().values())
    need = resource_estimate.estimate(engine)
    assert need.device_bytes == held + weights * (1 + 2) + weights
    assert need.checkpoint_bytes == held + weights * 2 + weights
    assert need.num_kept == 4


def test_a_rehearsal_keeps_nothing(tmp_path: Path) -> None:
    seen = dry_run(make_config(), "memory", make_stats(), str(tmp_path / "trial"), open_data=OpenMemory())
    assert {"loss", "grad_norm", "valid_loss"} <= set(seen.numbers)
    assert seen.total_s == pytest.approx(seen.step_s * 40)
    written = Path(run(tmp_path / "beside").checkpoint_uri)
    weights = sum(file.stat().st_size for file in written.rglob("*.safetensors"))
    assert weights * 0.8 < seen.checkpoint_bytes < weights * 1.3
    assert not (tmp_path / "trial").exists()


def test_one_batch_can_be_learnt_by_heart(tmp_path: Path) -> None:
    run(tmp_path, overfit_batch=True, offline_steps=200, lr=1e-2, lr_scheduler="constant", lr_warmup_steps=0)
    losses = [line["train/loss"] for line in lines_of(tmp_path) if "train/loss" in line]
    assert losses[-1] < losses[0] - 2.0


def test_a_loss_spike_is_reported_with_its_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = MemoryLoader.batch

    def batch(self: MemoryLoader, k: int) -> Mapping[str, np.ndarray]:
        arrays = plain(self, k)
        return arrays | {"observation.b_target": arrays["observation.b_target"] * 100} if k == 130 else arrays

    monkeypatch.setattr(MemoryLoader, "batch", batch)
    run(tmp_path, offline_steps=140)
    (said,) = [record.getMessage() for record in caplog.records if "loss spike" in record.getMessage()]
    assert said.startswith("train: loss spike at step 130")
    assert "demo_" in said
    assert [line.get("train/loss_spikes") for line in lines_of(tmp_path) if "train/loss" in line][-1] == 1.0


def test_signs_of_life(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def stop(k: int) -> None:
        if k == 12:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        run(tmp_path, stop)
    left = json.loads((tmp_path / HEARTBEAT).read_text())
    assert (left["state"], left["step"]) == ("ended: Interrupted", 13)
    lost = left | {"state": "running", "at": left["at"] - 3600, "host": "pod-7"}  # it died without a word
    (tmp_path / HEARTBEAT).write_text(json.dumps(lost))
    run(tmp_path)
    assert json.loads((tmp_path / HEARTBEAT).read_text())["state"] == "ended"
    assert any(
        record.getMessage().startswith("train: the last attempt was lost near step 13, 36") for record in caplog.records
    )


def test_the_heartbeat_names_the_pod_and_not_the_hostname_that_all_pods_of_a_run_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: host and pid of two trials' pods were the same, for a hostname is cut at 63 characters."""
    monkeypatch.setenv("KFP_POD_NAME", "pod-a")
    run(tmp_path, offline_steps=10)
    left = json.loads((tmp_path / HEARTBEAT).read_text())
    assert left["host"] == "pod-a"
    (tmp_path / "status.json").unlink()
    (tmp_path / HEARTBEAT).write_text(json.dumps(left | {"state": "running"}))
    monkeypatch.setenv("KFP_POD_NAME", "pod-b")
    run(tmp_path, offline_steps=10)
    assert any("on pod-a was at step" in record.getMessage() for record in caplog.records)
