"""More hostile sources: LeRobot v3.0, LMDB, modality.json and files that are none; each is made in a folder of its own.

``SOURCES[name](folder)`` makes one and returns its address and the format to read it as. Used by test_hostile.py and by
``make faults ROWS=hostile``.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import make_lift_like_hdf5
from tests.data import lerobot_sets as sets

Made = tuple[Path, str]
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
DATA = "data/chunk-000/file-000.parquet"
VIDEO = f"videos/{sets.CAMERA}/chunk-000/file-000.mp4"


def _lerobot(change: Callable[[Path], object]) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        root = sets.make(folder / "set", "v3.0")
        change(root)
        return root, "lerobot"

    return make


def _row(**changes: Any) -> Callable[[Path], object]:
    """Values of episode 1 in the table of episodes."""

    def change(root: Path) -> None:
        rows = pq.read_table(root / EPISODES).to_pylist()
        rows[1] |= {key.replace("__", "/"): value for key, value in changes.items()}
        pq.write_table(pa.Table.from_pylist(rows), root / EPISODES)

    return change


def _video_row(name: str, value: Any) -> Callable[[Path], object]:
    return _row(**{f"videos/{sets.CAMERA}/{name}": value})


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


def _cut(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[: (root / name).stat().st_size // 2])


def _pipe(name: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / name).unlink()
        os.mkfifo(root / name)

    return change


def _folder(name: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / name).unlink()
        (root / name).mkdir()

    return change


def _lmdb(change: Callable[[Path], object]) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        from tests.data.test_minestudio import close_all, make_folder

        root = make_folder(folder / "mine", segmentation=False)
        close_all()
        change(root)
        return root, "minestudio"

    return make


class _Runs:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/tendon-was-here",)


def _put(
    key: str | Callable[[], str], value: object, modality: str = "action", *, raw: bool = False
) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        from tests.data.test_minestudio import put

        (folder,) = list((root / modality).iterdir())[:1]
        put(folder, key if isinstance(key, str) else key(), value if raw else pickle.dumps(value))  # type: ignore[arg-type]

    return change


def _infos(**changes: Any) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        from tests.data.test_minestudio import put, values_of

        for folder in root.glob("*/*"):
            infos = pickle.loads(values_of(folder)["__chunk_infos__"])
            put(folder, "__chunk_infos__", pickle.dumps([each | changes for each in infos]))

    return change


def _nested() -> bytes:
    return b"]" * 50_000 + b"a" * 49_999 + b"."


def _modality(entries: Any) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        root = sets.make(folder / "set", "v2.1")
        text = entries if isinstance(entries, str) else json.dumps(entries)
        (root / "meta/modality.json").write_text(text)
        return root, "modality"

    return make


def _hdf5(change: Callable[[Path], object]) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        path = make_lift_like_hdf5(folder / "lift.hdf5")
        change(path)
        return path, "robomimic"

    return make


def _attribute(name: str, value: Any) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        import h5py

        with h5py.File(path, "a") as file:
            file["data/demo_0"].attrs[name] = value

    return change


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


STATE = {"state": {"pose": {"start": 0, "end": 2}}, "action": {"arm": {"start": 0, "end": 2}}, "video": {}}
SOURCES: dict[str, Callable[[Path], Made]] = {
    "v3 episodes are text": _lerobot(_write(EPISODES, b"PAR1" + b"x" * 99 + b"PAR1")),
    "v3 episodes are cut": _lerobot(_cut(EPISODES)),
    "v3 episode begins before the data": _lerobot(_row(dataset_from_index=-7)),
    "v3 episode begins behind the data": _lerobot(_row(dataset_from_index=10**9, dataset_to_index=10**9 + 25)),
    "v3 length giant": _lerobot(_row(length=10**15)),
    "v3 length negative": _lerobot(_row(length=-4)),
    "v3 file number giant": _lerobot(_row(data__file_index=10**15)),
    "v3 file number negative": _lerobot(_row(data__chunk_index=-1)),
    "v3 video behind its end": _lerobot(_video_row("from_timestamp", 1e9)),
    "v3 video before its begin": _lerobot(_video_row("from_timestamp", -5.0)),
    "v3 video at no time": _lerobot(_video_row("from_timestamp", float("nan"))),
    "v3 tasks are text": _lerobot(_write("meta/tasks.parquet", b"no table")),
    "v3 data is cut": _lerobot(_cut(DATA)),
    "v3 data is a pipe": _lerobot(_pipe(DATA)),
    "v3 data is a folder": _lerobot(_folder(DATA)),
    "v3 video is cut": _lerobot(_cut(VIDEO)),
    "v3 video is empty": _lerobot(_write(VIDEO, b"")),
    "v3 info is a list": _lerobot(_write("meta/info.json", b"[1, 2]")),
    "v3 info is no text": _lerobot(_write("meta/info.json", bytes(range(256)))),
    "v3 features are a list": _lerobot(lambda root: _edit_info(root, features=[1, 2])),
    "v3 a feature is a text": _lerobot(lambda root: _edit_info(root, features={"action": "many"})),
    "lmdb cut": _lmdb(lambda root: _cut("data.mdb")(next((root / "action").iterdir()))),
    "lmdb of zeros": _lmdb(lambda root: _write("data.mdb", bytes(65536))(next((root / "action").iterdir()))),
    "lmdb of text": _lmdb(lambda root: _write("data.mdb", b"text" * 9999)(next((root / "action").iterdir()))),
    "lmdb is a pipe": _lmdb(lambda root: _pipe("data.mdb")(next((root / "action").iterdir()))),
    "lmdb infos run a command": _lmdb(_put("__chunk_infos__", _Runs())),
    "lmdb infos are text": _lmdb(_put("__chunk_infos__", "none")),
    "lmdb chunk size zero": _lmdb(_put("__chunk_size__", 0)),
    "lmdb chunk size giant": _lmdb(_put("__chunk_size__", 10**12)),
    "lmdb frames giant": _lmdb(_infos(num_frames=10**12)),
    "lmdb frames negative": _lmdb(_infos(num_frames=-8)),
    "lmdb pickle nested": _lmdb(_put("__chunk_infos__", _nested(), raw=True)),
    "lmdb pickle cut": _lmdb(_put("__chunk_infos__", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f", raw=True)),
    "modality outside of its column": _modality(STATE | {"state": {"pose": {"start": 0, "end": 99}}}),
    "modality of no column": _modality(STATE | {"state": {"pose": {"original_key": "observation.nothing"}}}),
    "modality of no camera": _modality(STATE | {"video": {"front": {"original_key": "observation.images.none"}}}),
    "modality begins at a text": _modality(STATE | {"state": {"pose": {"start": "left", "end": 2}}}),
    "modality is no JSON": _modality("state: pose"),
    "modality nested": _modality('{"state":' + "[" * 200_000),
    "hdf5 is text": _hdf5(lambda path: path.write_text("demonstrations " * 99)),
    "hdf5 is empty": _hdf5(lambda path: path.write_bytes(b"")),
    "hdf5 is cut": _hdf5(lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
    "hdf5 is a pipe": _hdf5(_replaced(os.mkfifo)),
    "hdf5 is a folder": _hdf5(_replaced(Path.mkdir)),
    "hdf5 samples giant": _hdf5(_attribute("num_samples", 2**62)),
    "hdf5 samples negative": _hdf5(_attribute("num_samples", -3)),
    "hdf5 samples a text": _hdf5(_attribute("num_samples", "many")),
}


def _edit_info(root: Path, **changes: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
