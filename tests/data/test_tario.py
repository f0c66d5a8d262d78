"""Shard bytes: deterministic, and readable without us."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from tendon.data.episode import Camera, Episode, Schema
from tendon.data.features import column
from tendon.data.index import shard_table
from tendon.data.tario import ShardWriter, crc32c, frame_starts, npy_rows, read_samples, scan, write_episode
from tendon.errors import DataError

SCHEMA = Schema(
    (column("observation.x", "float32", (3,), "float64"), column("next.done", "bool", (), "int64")),
    (Camera("observation.images.Front", "front", 16, 24, 3), Camera("observation.images.depth", "grey", 8, 8, 1)),
    20.0,
)


def episode(number: int, length: int = 5) -> Episode:
    rng = np.random.default_rng(number)
    y, x, c = np.mgrid[0:16, 0:24, 0:3]
    front = np.stack([np.uint8(8 * x + 2 * y + 20 * c + 5 * t) for t in range(length)])
    return Episode(
        f"demo_{number}",
        length,
        {
            "observation.x": rng.normal(size=(length, 3)).astype(np.float32),
            "next.done": np.arange(length) == length - 1,
        },
        {
            "observation.images.Front": front,
            "observation.images.depth": rng.integers(0, 9, (length, 8, 8, 1)).astype(np.uint8),
        },
        "push it",
        True,
        {"group": f"data/demo_{number}"},
    )


@pytest.fixture(scope="module")
def shard() -> bytes:
    writer = ShardWriter()
    for number in (3, 1):
        write_episode(writer, number, episode(number), ("train",), SCHEMA, 90)
    return bytes(writer.finish()[0])


def test_writer_and_scan_agree(shard: bytes) -> None:
    writer = ShardWriter()
    samples = [write_episode(writer, n, episode(n), ("train",), SCHEMA, 90) for n in (3, 1)]
    written = [member for each in samples for member in each.members]
    assert writer.finish() == (shard, hashlib.sha256(shard).hexdigest())
    assert list(scan(shard, "x")) == written
    assert [member.name for member in written[:4]] == [
        "ep_00000003.meta.json", "ep_00000003.lowdim.npy", "ep_00000003.front.mjpeg", "ep_00000003.grey.mjpeg",
    ]  # fmt: skip


def test_a_row_of_the_index_is_the_same_from_the_tar(shard: bytes) -> None:
    writer = ShardWriter()
    samples = [write_episode(writer, n, episode(n), ("train",), SCHEMA, 90) for n in (3, 1)]
    again = list(read_samples(shard, "x"))
    assert shard_table(samples, 0, SCHEMA).equals(shard_table(again, 0, SCHEMA))


def test_a_writer_is_used_again_and_grows(monkeypatch: pytest.MonkeyPatch, shard: bytes) -> None:
    monkeypatch.setattr("tendon.data.tario.START_BYTES", 700)
    writer = ShardWriter()
    for _ in range(2):
        writer.clear()
        for number in (3, 1):
            write_episode(writer, number, episode(number), ("train",), SCHEMA, 90)
        assert writer.finish()[0] == shard
    writer.clear()
    writer.add("empty")
    assert [(each.name, each.size) for each in scan(bytes(writer.finish()[0]), "x")] == [("empty", 0)]


def test_pythons_tarfile_and_tar_read_it(shard: bytes, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        entries = tar.getmembers()
        assert {(each.mtime, each.uid, each.gid, each.mode) for each in entries} == {(0, 0, 0, 0o444)}
        rows = np.load(io.BytesIO(tar.extractfile("ep_00000001.lowdim.npy").read()))  # type: ignore[union-attr]
    assert np.array_equal(rows["observation.x"], episode(1).features["observation.x"])
    (tmp_path / "s.tar").write_bytes(shard)
    listing = subprocess.run(["tar", "tf", tmp_path / "s.tar"], capture_output=True, text=True, check=True)
    assert listing.stdout.split() == [each.name for each in entries]
    assert not listing.stderr


def test_webdataset_reads_it(shard: bytes, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    (tmp_path / "s.tar").write_bytes(shard)
    samples = list(wds.WebDataset(str(tmp_path / "s.tar"), shardshuffle=False, empty_check=False).decode())
    assert [sample["__key__"] for sample in samples] == ["ep_00000003", "ep_00000001"]
    assert np.array_equal(samples[1]["lowdim.npy"]["observation.x"], episode(1).features["observation.x"])
    assert samples[0]["meta.json"]["task"] == "push it"
    assert samples[0]["meta.json"]["cameras"]["front.mjpeg"] == "observation.images.Front"
    assert samples[0]["front.mjpeg"][:2] == b"\xff\xd8"


def test_frames(shard: bytes) -> None:
    for member in scan(shard, "x"):
        content = shard[member.offset : member.offset + member.size]
        assert crc32c(content) == member.crc32c
        if member.name == "ep_00000003.front.mjpeg":
            starts = frame_starts(content).tolist()
            assert len(starts) == 5
            ends = [*starts[1:], len(content)]
            frames = [simplejpeg.decode_jpeg(content[a:b]) for a, b in zip(starts, ends, strict=True)]
            truth = episode(3).images["observation.images.Front"]
            assert np.abs(np.stack(frames).astype(int) - truth).mean() < 3  # type: ignore[operator]


def test_encoded_frames_are_copied() -> None:
    raw = episode(0)
    jpegs = tuple(simplejpeg.encode_jpeg(np.ascontiguousarray(f), 77) for f in raw.images["observation.images.Front"])
    given = Episode("demo_0", 5, raw.features, {**raw.images, "observation.images.Front": jpegs})
    writer = ShardWriter()
    member = write_episode(writer, 0, given, (), SCHEMA, 90).members[2]
    assert writer.finish()[0][member.offset : member.offset + member.size] == b"".join(jpegs)


def test_meta_is_plain(shard: bytes) -> None:
    member = next(scan(shard, "x"))
    meta = json.loads(shard[member.offset : member.offset + member.size])
    assert meta["episode_id"] == "demo_3"
    assert (meta["length"], meta["splits"], meta["success"], meta["fps"]) == (5, ["train"], True, 20.0)


@pytest.mark.parametrize("harm", ["cut", "header", "end"])
def test_damage_is_located(shard: bytes, harm: str) -> None:
    broken = {"cut": shard[:1000], "header": b"x" + shard[1:], "end": shard[:-1024]}[harm]
    with pytest.raises(DataError, match=r"shards/7\.tar, offset"):
        list(scan(broken, "shards/7.tar"))


def test_no_pickle() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="objects"):
        npy_rows(buffer.getvalue())
