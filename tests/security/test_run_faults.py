"""Faults of a run: notes that are damaged, numbers that are none, temporaries of killed writes, stores without checksums."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tendon import cli
from tendon.config.schema import EnvConfig
from tendon.errors import Problem, TendonError
from tendon.evaluate.lerobot_info import eval_info
from tendon.evaluate.table import Evaluation, summarise
from tendon.runs.failures import failures_in, recording_failures
from tendon.storage import open_store, s3_client
from tendon.train.state.status import find_finished
from tests.s3_server import Faults, S3Server
from tests.train.small_trial import run

DAMAGED = [b"", b"{", b"null", b"[1]", b"\xff\xfe", b"{}", b'{"state": "running"}', b"[" * 200_000]


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("name", ["heartbeat.json", "status.json", "metrics.jsonl", "wandb_run.json"])
def test_damaged_notes_never_block_a_training(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    result = run(tmp_path, offline_steps=2, save_freq=2, valid_freq=100)
    assert result.step == 2
    assert find_finished(str(tmp_path)) is not None


def test_a_damaged_note_of_a_failure_hides_no_other(tmp_path: Path) -> None:
    error = TendonError.of([Problem("it broke", "here", "so", "mend it")])
    with pytest.raises(TendonError), recording_failures(str(tmp_path), "train", "a"):
        raise error
    for number, content in enumerate(DAMAGED):
        (tmp_path / f"failures/damaged-{number}.json").write_bytes(content)
    (failure,) = failures_in(str(tmp_path))
    assert failure.problems[0].what == "it broke"


def test_lines_that_are_damaged_are_left_out(tmp_path: Path) -> None:
    from tendon.storage.json_values import read_lines, read_note

    (tmp_path / "lines").write_bytes(b'{"step": 1}\n{"st\n\xff\n{"step": 3}\n')
    assert [line["step"] for line in read_lines(open_store(str(tmp_path)), "lines")] == [1, 3]
    assert read_note(open_store(str(tmp_path)), "nothing") == {}


def test_what_is_no_number_is_null() -> None:
    from tendon.storage.json_values import to_json

    text = to_json({"a": float("nan"), "b": [1.0, float("inf")], "c": {"d": (float("-inf"), "NaN")}})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1.0, None], "c": {"d": [None, "NaN"]}}


def test_a_table_without_a_number_is_still_reported(reach: EnvConfig) -> None:
    from tendon.storage.json_values import to_json

    row = {"status": "success", "steps": 3, "max_reward": 1e308, "video": "", "error": "", "attempt": 1, "wall_s": 1.0}
    rows = [row | {"seed": 1, "sum_reward": float("inf")}, row | {"seed": 2, "sum_reward": 1.0}]
    summary = summarise(rows, block="selection", env=reach, seeds=[1, 2], wall_s=1.0)
    text = to_json(summary)
    stored = json.loads(text, parse_constant=pytest.fail)
    assert stored["mean_sum_reward"] is None
    table = Evaluation("memory", stored, tuple(json.loads(to_json(each)) for each in rows), reused=False)
    info = json.loads(to_json(eval_info(table, {})), parse_constant=pytest.fail)
    assert info["overall"]["pc_success"] == 100.0
    assert info["overall"]["avg_sum_reward"] is None


@pytest.fixture
def reach() -> EnvConfig:
    from tests.evaluate.conftest import REACH

    return REACH


WRITER = """
import sys
from tendon.storage import open_store
class Slow(bytes):
    pass
import tendon.storage.local as local
import os, time
def stop(fd):
    print("written", flush=True)
    time.sleep(1000)
os.fsync = stop
open_store(sys.argv[1]).write("runs/a/checkpoint", b"half")
"""


def test_temporaries_of_killed_writes_are_swept_and_those_of_living_ones_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.stdout.close()
    assert len(list((tmp_path / "runs/a").iterdir())) == 2
    writers[0].send_signal(signal.SIGKILL)
    writers[0].wait()
    assert cli.main(["gc", "--store-uri", str(tmp_path)]) == 0
    assert len(list((tmp_path / "runs/a").iterdir())) == 2  # only listed
    assert "runs/a/.tendon-" in capsys.readouterr().out
    assert cli.main(["gc", "--delete", "--store-uri", str(tmp_path)]) == 0
    assert len(list((tmp_path / "runs/a").iterdir())) == 1
    writers[1].kill()
    writers[1].wait()
    assert cli.main(["gc", "--delete", "--store-uri", str(tmp_path)]) == 0
    assert not list((tmp_path / "runs/a").iterdir())


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setattr(s3_client, "CHECKSUMS", {}, raising=False)


def test_a_store_that_verifies_no_checksums_is_detected_at_the_first_put(
    s3: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for verifies in (False, True):
        with S3Server(Faults(checksums=verifies)) as server:
            server.buckets.add("bucket")
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
            caplog.clear()
            store = open_store("s3://bucket/store")
            store.write("a", b"1")
            store.write("b", b"2")
            assert [each.key for each in store.list()] == ["a", "b"]
            told = [record for record in caplog.records if "verifies no checksums" in record.getMessage()]
            assert len(told) == (0 if verifies else 1)
            assert not list(store.leftovers())


def test_damage_on_the_way_to_a_store_without_checksums_is_mended(s3: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server(Faults(checksums=False, flips=0.3, seed=7, only="object")) as server:
        server.buckets.add("bucket")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        monkeypatch.setattr("tendon.storage.s3.BACKOFF_S", (0.001, 0.002))
        changes = itertools.count(1)  # two damages of one object never mend each other
        monkeypatch.setattr("tests.s3_server._flipped", lambda body: body[:-1] + bytes([body[-1] ^ next(changes)]))
        store = open_store("s3://bucket/store")
        for number in range(20):
            store.write(f"object-{number}", bytes([number]) * 100)
        held = {name: each.body for name, each in server.objects.items() if "object" in name}
    assert sorted(held.values()) == [bytes([number]) * 100 for number in range(20)]


def test_retries_draw_from_a_generator_of_their_own(s3: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server(Faults(errors=0.5, seed=3)) as server:
        server.buckets.add("bucket")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        monkeypatch.setattr("tendon.storage.s3.BACKOFF_S", (0.001, 0.002))
        random.seed(7)
        before = random.getstate()
        store = open_store("s3://bucket/store")
        for number in range(8):
            store.write(f"{number}", b"1")
        assert random.getstate() == before
