"""A demonstration file can neither show other files nor bring the reader down."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tendon.data.convert import convert
from tendon.data.inspect import inspect_uri
from tendon.data.sources import open_source
from tendon.data.sources.first_look import described, run_in_child
from tendon.errors import DataError
from tests.conftest import make_lift_like_hdf5
from tests.security.hdf5_files import HOSTILE, SECRET


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("exact", [False, True])
def test_a_hostile_file_is_refused_by_name(
    make: Callable[[h5py.File, Path], None], exact: bool, tmp_path: Path
) -> None:
    from tendon.data.plan import ConversionOptions

    (tmp_path / "secret").write_bytes(SECRET * 8)
    path = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        make(file, tmp_path / "secret")
    with pytest.raises(DataError, match=HOSTILE[make]):
        convert(open_source(str(path)), str(tmp_path / "store"), "lift", ConversionOptions(exact=exact))
    with pytest.raises(DataError, match=HOSTILE[make]):
        inspect_uri(str(path))
    assert not (tmp_path / "store").exists() or not [p for p in (tmp_path / "store").rglob("*") if p.is_file()]


def test_links_inside_of_the_file_stay(tmp_path: Path) -> None:
    path = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        del file["data/demo_0/next_obs/object"]
        file["data/demo_0/next_obs/object"] = h5py.SoftLink("/data/demo_0/obs/object")
        del file["data/demo_1/next_obs/object"]
        file["data/demo_1/next_obs/object"] = file["data/demo_1/obs/object"]
    assert convert(open_source(str(path)), str(tmp_path / "store"), "lift").episodes == 6


class Misbehaving:
    """A source whose parser does what a broken C library does."""

    parser = "a test"
    uri = "memory"
    _info = None

    def __init__(self, how: str) -> None:
        self.how = how

    def describe(self) -> None:
        if self.how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.how == "abort":
            os.abort()
        elif self.how == "memory":
            np.ones(6 << 30, np.uint8)
        elif self.how == "wait":
            time.sleep(3600)
        elif self.how == "leave":
            os._exit(0)
        raise OverflowError("no such number")


@pytest.mark.parametrize(
    ("how", "why"),
    [("crash", "SIGSEGV"), ("abort", "SIGABRT"), ("memory", "more than 4,096 MiB"), ("wait", "without an end"),
     ("leave", "exit code 0"), ("raise", "OverflowError: no such number")],
)  # fmt: skip
def test_what_a_parser_does_to_the_child_is_a_data_error(how: str, why: str) -> None:
    with pytest.raises(DataError, match="cannot be read by a test") as caught:
        described(Misbehaving(how), seconds=5)  # type: ignore[arg-type]
    assert why in str(caught.value)


def _numbers(until: int) -> Iterator[int]:
    yield from range(until)


def test_values_come_back_one_by_one() -> None:
    assert list(run_in_child(_numbers, (5,), Misbehaving("raise"))) == [0, 1, 2, 3, 4]  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", ["overwrite", "replace", "cut"])
def test_a_source_that_changes_is_not_committed(
    how: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the digest was taken, before the shards are written."""
    from tendon.data import convert as module

    path = make_lift_like_hdf5(tmp_path / "lift.hdf5", images=True, episodes=8, length=40, size=64)
    other = make_lift_like_hdf5(tmp_path / "other.hdf5", images=True, episodes=8, length=40, size=64, seed=1)
    check = module._check

    def changed(*arguments: object) -> None:
        check(*arguments)  # type: ignore[arg-type]
        if how == "overwrite":
            path.write_bytes(other.read_bytes())
        elif how == "replace":
            shutil.copy(other, tmp_path / "new")
            os.replace(tmp_path / "new", path)
        else:
            os.truncate(path, path.stat().st_size // 2)

    monkeypatch.setattr(module, "_check", changed)
    with pytest.raises(DataError, match=r"changed while it was converted|cut off"):
        convert(open_source(str(path)), str(tmp_path / "store"), "lift", workers=workers)
    left = [p.name for p in (tmp_path / "store").rglob("*") if p.is_file()]
    assert not [name for name in left if name == "manifest.json" or name.endswith(".receipt")]


def test_a_pipe_is_no_file_of_demonstrations(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lift.hdf5")
    with pytest.raises(DataError, match="no plain file"):
        convert(open_source(str(tmp_path / "lift.hdf5")), str(tmp_path / "store"), "lift")


@pytest.mark.parametrize("from_stdin", [True, False])
def test_a_script_without_a_guard_converts_once(from_stdin: bool, tmp_path: Path) -> None:
    """The child must not run it again."""
    make_lift_like_hdf5(tmp_path / "lift.hdf5")
    script = (
        "from tendon.data.convert import convert\nfrom tendon.data.sources import open_source\n"
        "print('runs')\nprint(convert(open_source('lift.hdf5'), 'store', 'lift').episodes)\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "-" if from_stdin else "script.py"]
    done = subprocess.run(command, input=script, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ["runs", "6"], done.stderr
