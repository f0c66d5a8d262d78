"""Who hears the metrics hears what metrics.jsonl says."""

from __future__ import annotations

import json
import logging
import re
import signal
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest

from tendon.errors import ConfigError, Interrupted, MissingDependency
from tendon.train.callbacks import make_callbacks
from tendon.train.schedule import learning_rate
from tendon.trust import VARIABLE, sha256_of
from tests.train.small_trial import make_config, run

KATIB = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")  # its default filter


def lines_of(uri: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (uri / "metrics.jsonl").read_text().splitlines()]


def interrupted_run(uri: Path, **options: Any) -> None:
    with pytest.raises(Interrupted):
        run(uri, lambda k: k == 24 and signal.raise_signal(signal.SIGTERM), **options)  # type: ignore[arg-type,return-value]
    run(uri, **options)


def wandb_records(file: Path) -> Iterator[bytes]:
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a full record, or its last part
            yield whole
            whole = b""


def test_wandb_offline_history_equals_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    interrupted_run(tmp_path / "trial", wandb={"enable": True, "project": "test"})
    history: dict[int, dict[str, Any]] = {}
    files = sorted((tmp_path / "trial/wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    for file in files:
        for data in wandb_records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
                history[int(row["_step"])] = {key: value for key, value in row.items() if not key.startswith("_")}
    run_id = json.loads((tmp_path / "trial/wandb_run.json").read_text())["id"]
    assert {file.stem for file in files} == {f"run-{run_id}"}
    timeless = [{k: v for k, v in line.items() if not k.endswith("_s")} for line in lines_of(tmp_path / "trial")]
    heard = [{k: v for k, v in history[i].items() if not k.endswith("_s")} for i in range(len(history))]
    assert heard == timeless


def test_tensorboards_own_library_reads_the_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    interrupted_run(tmp_path, track={"tensorboard": True})
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    for name in ("train/loss", "train/lr", "valid/loss"):
        written = [(line["step"], line[name]) for line in lines_of(tmp_path) if name in line]
        read = {event.step: event.value for event in accumulator.Scalars(name)}
        assert read == pytest.approx(dict(written))


def test_lines_for_katib(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "a", track={"metric_lines": "-"})
    said = capsys.readouterr().out.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [\w-]+=", line) for line in said)
    losses = [float(KATIB.search(line)[2]) for line in said if " valid_loss=" in line]  # type: ignore[index]
    assert losses == pytest.approx([line["valid/loss"] for line in lines_of(tmp_path / "a") if "valid/loss" in line])
    run(tmp_path / "b", track={"metric_lines": str(tmp_path / "metrics.log")})
    assert len((tmp_path / "metrics.log").read_text().splitlines()) == len(said)


def test_the_seeds_monitors(tmp_path: Path) -> None:
    """The rate of each line's update by the schedule, and updates per second between the lines."""
    pause_s = 0.01
    config = make_config()
    began = perf_counter()
    run(tmp_path, lambda k: sleep(pause_s), callbacks=("LearningRateMonitor", "SpeedMonitorCallback"))
    elapsed_s = perf_counter() - began
    lines = [line for line in lines_of(tmp_path) if "train/loss" in line]
    assert [line["train/lr-Adam"] for line in lines] == [
        learning_rate(config.training, line["step"], 1) for line in lines
    ]
    assert len({line["train/lr-Adam"] for line in lines}) > 1
    assert ["train/speed(batch/s)" in line for line in lines] == [False, True, True, True]
    intervals = [b["step"] - a["step"] for a, b in pairwise(lines)]
    seconds = [count / line["train/speed(batch/s)"] for count, line in zip(intervals, lines[1:], strict=True)]
    assert all(took > count * pause_s for took, count in zip(seconds, intervals, strict=True))
    assert sum(seconds) < elapsed_s


OWN = """
from tendon.train import callbacks

class Callback(callbacks.Callback):
    def __init__(self): self.seen = []
    def on_start(self, run, lines): self.began = len(self.seen)
    def on_step(self, run, step, update): self.seen.append(step)
    def more_numbers(self, run, step): return {"seen": float(len(self.seen))}
    def on_save(self, run, step, reasons): self.saved = step
    def on_end(self, run, *, finished): run.store.write("own.txt", f"{self.seen} {self.saved} {finished}".encode())
    def state(self): return self.seen
    def load_state(self, state): self.seen = list(state or [])
"""


def test_a_callback_of_ones_own_is_resumed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    monkeypatch.setenv(VARIABLE, sha256_of(path))
    interrupted_run(tmp_path / "trial", callbacks=(str(path),))
    assert (tmp_path / "trial/own.txt").read_text() == f"{list(range(40))} 40 True"
    assert [line["train/seen"] for line in lines_of(tmp_path / "trial") if "train/seen" in line] == [1, 11, 21, 31]


def test_what_is_no_callback_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.py").write_text("")
    monkeypatch.setenv(VARIABLE, sha256_of(tmp_path / "empty.py"))
    for name in ("nowhere.py", str(tmp_path / "empty.py"), "SpeedMonitr"):
        with pytest.raises(ConfigError, match="is no callback"):
            make_callbacks([name])


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(MissingDependency, match="tracking"):
        run(tmp_path, wandb={"enable": True})


def test_a_validation_loss_that_is_no_number_is_not_written_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tendon.train.engine import Engine

    monkeypatch.setattr(Engine, "validate", lambda self, batches: {"loss": float("nan")})
    with caplog.at_level(logging.WARNING, logger="tendon"):
        result = run(tmp_path, valid_episodes=0)
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert next(line for line in lines_of(tmp_path) if "not_finite" in line) == {
        "step": 20,
        "not_finite": ["valid/loss"],
    }
    assert "valid_loss" not in result.metrics
    assert "valid/loss at step 20: NaN or infinite" in caplog.text


def test_the_profile(tmp_path: Path) -> None:
    run(tmp_path, callbacks=("Profiler",))
    assert json.loads((tmp_path / "profile/trace.json").read_text())["traceEvents"]
    assert "addmm" in (tmp_path / "profile/table.txt").read_text()
