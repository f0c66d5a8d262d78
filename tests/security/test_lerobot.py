"""LeRobot folders that claim what is not there, or show other files: named data errors, before the first shard."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tendon.data.convert import convert
from tendon.data.inspect import inspect_uri
from tendon.data.sources import open_source
from tendon.errors import DataError
from tests.data import lerobot_sets as sets

VIDEO = f"videos/chunk-000/{sets.CAMERA}/episode_000001.mp4"


def edit_info(root: Path, **changes: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_feature(root: Path, name: str, **changes: Any) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][name] |= changes
    edit_info(root, features=info["features"])


def edit_lines(root: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    path = root / "meta/episodes.jsonl"
    lines = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def edit_table(root: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = root / "data/chunk-000/episode_000001.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def later(table: pa.Table) -> pa.Table:
    """Timestamps at half the rate of the video."""
    at = table.column_names.index("timestamp")
    times = pa.array(table.column("timestamp").to_numpy() * 2, table.column("timestamp").type)
    return table.set_column(at, "timestamp", times)


def overwrite_middle(root: Path) -> None:
    path = root / VIDEO
    content = bytearray(path.read_bytes())
    at = content.find(b"mdat") + 4
    size = struct.unpack(">I", content[at - 8 : at - 4])[0] - 8
    content[at + size // 2 : at + size // 2 + 400] = b"\0" * 400
    path.write_bytes(content)


def damage_first_picture(root: Path) -> None:
    path = root / VIDEO
    content = bytearray(path.read_bytes())
    at = content.find(b"mdat") + 4
    while content[at + 4] & 31 != 5:  # until the first picture itself
        at += 4 + int.from_bytes(content[at : at + 4], "big")
    size = int.from_bytes(content[at : at + 4], "big")
    content[at + 12 : at + 4 + size] = b"\x5a" * (size - 8)  # the lengths stay, what they hold does not
    path.write_bytes(content)


def playlist(root: Path, text: str) -> None:
    secret = root.parent / "secret.mp4"
    secret.write_bytes((root / VIDEO).read_bytes())
    (root / VIDEO).write_text(text.format(secret=secret))


def pipe(root: Path) -> None:
    (root / VIDEO).unlink()
    os.mkfifo(root / VIDEO)


def link_loop(root: Path) -> None:
    (root / VIDEO).unlink()
    os.symlink((root / VIDEO).name, root / VIDEO)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "fps zero": (lambda root: edit_info(root, fps=0), "fps is 0"),
    "fps negative": (lambda root: edit_info(root, fps=-10), "fps is -10"),
    "fps nan": (lambda root: edit_info(root, fps="nan"), "fps is nan"),
    "fps infinite": (lambda root: edit_info(root, fps="inf"), "fps is inf"),
    "fps is a truth": (lambda root: edit_info(root, fps=True), "fps is True"),
    "format width": (lambda root: edit_info(root, data_path="{episode_index:0999999999d}"), "is no template"),
    "format attribute": (lambda root: edit_info(root, data_path="{episode_index.__class__}"), "is no template"),
    "format nested": (lambda root: edit_info(root, video_path="{episode_index:{episode_chunk}}"), "is no template"),
    "path out of the folder": (lambda root: edit_info(root, data_path="../../{episode_index}"), "missing|checked|key"),
    "shape giant": (lambda root: edit_feature(root, "action", shape=[10**12]), "the shape of action"),
    "shape negative": (lambda root: edit_feature(root, "action", shape=[-1]), "the shape of action"),
    "image giant": (lambda root: edit_feature(root, sets.CAMERA, shape=[3, 10**9, 10**9]), "the shape of"),
    "length giant": (lambda root: edit_lines(root, lambda rows: [rows[0] | {"length": 10**15}, *rows[1:]]), "longer"),
    "length negative": (lambda root: edit_lines(root, lambda rows: [rows[0] | {"length": -5}, *rows[1:]]), "no steps"),
    "line repeated": (lambda root: edit_lines(root, lambda rows: [*rows, rows[1]]), "episode 1 is there 2 times"),
    "timestamps": (lambda root: edit_table(root, later), "does not show every step"),
    "video overwritten": (overwrite_middle, "is damaged"),
    "video picture": (damage_first_picture, "is damaged"),
    "video of another size": (
        lambda root: (root / VIDEO).write_bytes(sets.encoded(sets.pictures(1, 25, 48, 64))),
        "64 x 48; the first is h264, 48 x 32",
    ),
    "ffconcat": (lambda root: playlist(root, "ffconcat version 1.0\nfile '{secret}'\n"), "no mp4"),
    "playlist": (lambda root: playlist(root, "#EXTM3U\n#EXTINF:2\nfile://{secret}\n#EXT-X-ENDLIST\n"), "no mp4"),
    "pipe": (pipe, "no plain file"),
    "link loop": (link_loop, "link|loop|read"),
    "table is text": (
        lambda root: (root / "data/chunk-000/episode_000001.parquet").write_bytes(b"PAR1" + b"x" * 99 + b"PAR1"),
        "a table cannot be read",
    ),
    "deep json": (
        lambda root: (root / "meta/info.json").write_text('{"codebase_version":' + "[" * 200_000),
        "Recursion|understood|read",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_hostile_folder_is_refused_before_the_first_shard(name: str, workers: int, tmp_path: Path) -> None:
    make, words = HOSTILE[name]
    root = sets.make(tmp_path / "set", "v2.1")
    make(root)
    with pytest.raises(DataError, match=words):
        convert(open_source(str(root), "lerobot"), str(tmp_path / "store"), "set", workers=workers)
    assert not [p for p in (tmp_path / "store").rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "name", ["timestamps", "video overwritten", "video picture", "video of another size", "length giant"]
)
def test_inspect_finds_what_conversion_finds(name: str, tmp_path: Path) -> None:
    root = sets.make(tmp_path / "set", "v2.1")
    HOSTILE[name][0](root)
    problems = inspect_uri(str(root)).problems
    assert len(problems) == 1
    assert HOSTILE[name][1] in str(problems[0])
    assert "episode_000001" in str(problems[0]) or "episode_000000" in str(problems[0])


def png_bomb(side: int) -> bytes:
    """A picture of ``side`` x ``side`` zeros, a thousandth of that in bytes."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(bytes(1000))) + part(b"IEND", b"")


def test_a_picture_that_claims_to_be_giant_is_not_decoded() -> None:
    from tendon.data.episode import Camera
    from tendon.data.sources.lerobot_table import decoded

    with pytest.raises(DataError, match=r"it is \(60000, 60000\), info.json says \(32, 48\)"):
        decoded([png_bomb(60_000)], Camera("a", "a", 32, 48, 3), "here")


def test_a_folder_that_changes_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tendon.data import convert as module

    root = sets.make(tmp_path / "set", "v2.1")
    check = module._check

    def changed(*arguments: object) -> None:
        check(*arguments)  # type: ignore[arg-type]
        edit_table(root, lambda table: table.slice(0, len(table)))

    monkeypatch.setattr(module, "_check", changed)
    with pytest.raises(DataError, match="changed while it was converted"):
        convert(open_source(str(root)), str(tmp_path / "store"), "set")
    assert not [p for p in (tmp_path / "store").rglob("*") if p.name == "manifest.json" or p.suffix == ".receipt"]


def test_two_episodes_of_one_checksum_are_no_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where size and crc32c are equal, sha256 decides."""
    from tendon.data import stats
    from tendon.data.dataset import open_dataset
    from tests.conftest import make_lift_like_hdf5

    path = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    convert(open_source(str(path)), str(tmp_path / "store"), "lift")
    (uri,) = (tmp_path / "store/datasets/lift").iterdir()
    dataset = open_dataset(str(uri))

    class Table:
        """The index, with one checksum for all."""

        def column(self, name: str) -> Any:
            column = dataset.table.column(name)
            return (
                pa.chunked_array([pa.array(np.full(len(column), 7), pa.uint32())])
                if name.endswith("crc32c")
                else column
            )

    prints = stats._prints(dataset, Table(), np.arange(len(dataset.rows)))  # type: ignore[arg-type]
    assert len(set(prints.tolist())) == len(dataset.rows)


def test_bytes_of_a_container_are_known() -> None:
    from tendon.data import mp4

    content = sets.encoded(sets.pictures(0, 5))
    assert mp4.container_of(content) == "mov"
    assert mp4.container_of(sets.encoded(sets.pictures(0, 5), format="matroska")) == "matroska"
    with pytest.raises(mp4.Mp4Error):
        mp4.container_of(io.BytesIO(b"ffconcat version 1.0\n").getvalue())
    assert not mp4.broken_samples(content, mp4.read_track(content)).any()
