"""Killed or interrupted anywhere, a trial ends with the bytes of the uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tendon.errors import ConfigError, Interrupted
from tendon.storage import open_store
from tendon.train.state.checkpoint import complete, digests
from tendon.train.state.status import find_finished
from tests.train.killed_trial import start_trial
from tests.train.small_trial import run

ROOT = Path(__file__).parents[2]


def outcome(uri: object) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Digests of the final checkpoint's tensors, and the metrics without clocks."""
    files = digests(open_store(f"{uri}/checkpoints/000040"))
    lines = [json.loads(line) for line in open_store(str(uri)).read("metrics.jsonl").splitlines()]
    timeless = [{key: value for key, value in line.items() if not key.endswith("_s")} for line in lines]
    return {name: sha for name, sha in files.items() if not name.endswith("training_step.json")}, timeless


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    uri = tmp_path_factory.mktemp("whole")
    run(uri)
    return outcome(uri)


@pytest.mark.parametrize("signal_at", [0, 3, 9, 10, 19, 25, 38])
def test_sigterm_at_any_step_saves_and_resumes_exactly(tmp_path: Path, uninterrupted: Any, signal_at: int) -> None:
    def ask_to_stop(k: int) -> None:
        if k == signal_at:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        run(tmp_path, ask_to_stop)
    assert caught.value.exit_code == 75
    assert complete(open_store(str(tmp_path)))[0] == f"{signal_at + 1:06d}"
    assert find_finished(str(tmp_path)) is None
    result = run(tmp_path)
    assert result.resumed_from == signal_at + 1
    assert outcome(tmp_path) == uninterrupted


def test_handlers_are_put_back_and_a_second_ctrl_c_quits_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def twice(k: int) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, lambda k: (twice(k), twice(k)))  # type: ignore[arg-type,return-value,func-returns-value]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert complete(open_store(str(tmp_path))) == []


def test_a_signal_in_the_last_step_is_too_late(tmp_path: Path, uninterrupted: Any) -> None:
    run(tmp_path, lambda k: signal.raise_signal(signal.SIGTERM) if k == 39 else None)
    assert outcome(tmp_path) == uninterrupted
    assert find_finished(str(tmp_path)) is not None


def test_sigkill_in_a_step_in_a_write_and_again(tmp_path: Path, uninterrupted: Any) -> None:
    """One trial killed over and over: before any checkpoint, between two, halfway through files and markers."""
    moments = [("batch", 4), ("write", 5), ("write", 9), ("batch", 17), ("write", 12), ("write", 14), ("write", 23)]
    newest = 0
    for event, number in moments:
        process, _ = start_trial(tmp_path, event, number)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        names = complete(open_store(str(tmp_path)))
        assert max(map(int, names), default=0) >= newest, (event, number)
        newest = max(map(int, names), default=0)
    assert newest >= 10
    assert run(tmp_path).resumed_from == newest
    assert outcome(tmp_path) == uninterrupted


def test_sigterm_from_outside_leaves_with_75(tmp_path: Path, uninterrupted: Any) -> None:
    process, waiting = start_trial(tmp_path, "wait", 6)
    waiting.recv()
    process.terminate()
    process.join()
    assert process.exitcode == 75
    run(tmp_path)
    assert outcome(tmp_path) == uninterrupted


def test_a_finished_trial_trains_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)

    def never(k: int) -> None:
        raise AssertionError("it trained")

    assert run(tmp_path, never) == first
    (tmp_path / "checkpoints/000040/pretrained_model/model.safetensors").write_bytes(b"cut")
    assert find_finished(str(tmp_path)) is None
    assert run(tmp_path).weights_sha256 == first.weights_sha256


def test_killed_between_the_last_checkpoint_and_the_status(tmp_path: Path) -> None:
    first = run(tmp_path)
    (tmp_path / "status.json").unlink()
    again = run(tmp_path)
    assert (again.resumed_from, again.weights_sha256) == (40, first.weights_sha256)
    assert again.metrics["valid_loss"] == first.metrics["valid_loss"]


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, lambda k: signal.raise_signal(signal.SIGTERM) if k == 5 else None)
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, lr=5e-4, batch_size=4)
    assert [problem.fix.split(",")[0] for problem in caught.value.problems] == [
        "training.batch_size=8",
        "training.lr=0.001",
    ]
    run(tmp_path, keep_checkpoints=7)  # does not change a number


def test_s3_trial_resumes(s3_uri: str, uninterrupted: Any) -> None:
    with pytest.raises(Interrupted):
        run(s3_uri, lambda k: signal.raise_signal(signal.SIGTERM) if k == 22 else None)
    assert run(s3_uri).resumed_from == 23
    assert outcome(s3_uri) == uninterrupted


def test_status_needs_no_torch() -> None:
    code = "import sys, tendon.train.state.status, tendon.export.bundle; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
