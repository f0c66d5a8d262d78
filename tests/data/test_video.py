"""Video members of a dataset: written as they are, found by the index, decoded to the same frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tendon.data import index as index_table
from tendon.data.convert import convert, dataset_uri, rebuild_index
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.episode import Camera, Episode, Schema, VideoChunk
from tendon.data.features import column
from tendon.data.manifest import dataset_digest
from tendon.data.sources.source import EpisodeInfo, SourceInfo
from tendon.data.tario import ShardWriter, write_episode
from tendon.data.video import decode_mp4, encode_chunks, encode_mp4
from tendon.errors import DataError

FRONT = "observation.images.Front"
SCHEMA = Schema(
    (column("action", "float32", (2,)),),
    (Camera(FRONT, "front", 32, 48, 3, "mp4", "h264", 10.0, 8), Camera("observation.images.w", "w", 16, 16, 3)),
    10.0,
)


def pictures(seed: int, num: int, height: int = 32, width: int = 48) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    t = np.arange(num)[:, None, None]
    planes = [
        (3 * x + 5 * t + 40 * seed) % 256,
        (4 * y + 3 * t) % 256,
        np.broadcast_to(9 * t, (num, height, width)) % 256,
    ]
    return np.stack(planes, -1).astype(np.uint8)


class Videos:
    """A source of three episodes whose first camera is video, cut with frames to skip."""

    uri = "made up"

    def describe(self) -> SourceInfo:
        infos = tuple(EpisodeInfo(f"e{i}", 18 + i, ("train",)) for i in range(3))
        return SourceInfo("x", self.uri, "0" * 64, 1, SCHEMA, infos)

    def read(self, episode_id: str, images: bool = True) -> Episode:
        i = int(episode_id[1:])
        actions = np.random.default_rng(i).normal(size=(18 + i, 2)).astype(np.float32)
        frames = {FRONT: self.chunks(i), "observation.images.w": pictures(i, 18 + i, 16, 16)}
        return Episode(episode_id, 18 + i, {"action": actions}, frames if images else {})

    def chunks(self, i: int) -> tuple[VideoChunk, ...]:
        chunks = encode_chunks(pictures(i, 19 + i), 10, 8)  # one frame more than the episode has: skipped below
        first = replace(chunks[0], num_frames=7, skip=1)
        return (first, *(replace(each, first_frame=each.first_frame - 1) for each in chunks[1:]))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    store = str(tmp_path_factory.mktemp("store"))
    manifest = convert(Videos(), store, "v")
    return open_dataset(dataset_uri(store, "v", manifest.plan))


def test_chunks_come_back_byte_for_byte(dataset: Dataset) -> None:
    for row in dataset.rows:
        assert tuple(dataset.video_chunks(row, FRONT)) == Videos().chunks(row.index)
    assert dataset.video_chunks(dataset.rows[0], FRONT, [16, 9]) == list(Videos().chunks(0)[1:])


def test_frames_are_those_of_the_whole_video(dataset: Dataset) -> None:
    for row in dataset.rows:
        truth = np.concatenate([decode_mp4(each.content) for each in Videos().chunks(row.index)])[1:]
        assert len(truth) == row.length
        assert np.abs(truth.astype(int) - pictures(row.index, 19 + row.index)[1:]).mean() < 12
        assert np.array_equal(dataset.frames(row, FRONT), truth)
        some = [17, 0, 6, 7, 7]
        assert np.array_equal(dataset.frames(row, FRONT, some), truth[some])
        small = dataset.frames(row, "observation.images.w", [3, 1])
        assert small.shape == (2, 16, 16, 3)


def test_index_is_rebuilt_from_the_shards(dataset: Dataset) -> None:
    assert rebuild_index(dataset.store, dataset.manifest) == dataset.store.read(dataset.manifest.index.key)
    assert Schema.from_json(dataset.manifest.schema.to_json()) == SCHEMA


def test_a_flipped_bit_in_a_chunk_is_named(dataset: Dataset) -> None:
    row = dataset.rows[1]
    offset = dataset.table.column("front.mp4/offset")[row.index].as_py()[1]
    path = Path(dataset.uri) / dataset.manifest.shards[row.shard].key
    content = path.read_bytes()
    try:
        path.write_bytes(content[: offset + 9] + bytes([content[offset + 9] ^ 4]) + content[offset + 10 :])
        with pytest.raises(DataError, match=rf"ep_00000001\.front\.0001\.mp4, offset {offset}, episode e1"):
            open_dataset(dataset.uri).frames(row, FRONT, [9])
    finally:
        path.write_bytes(content)


def test_a_video_with_a_gap_is_refused() -> None:
    episode = Videos().read("e0")
    cut = replace(episode, images=dict(episode.images) | {FRONT: Videos().chunks(0)[::2]})
    with pytest.raises(DataError, match="its chunks show 7 frames without a gap, the episode has 18 steps"):
        write_episode(ShardWriter(), 0, cut, (), SCHEMA, 90)


def test_schemas_without_video_keep_their_digest() -> None:
    """The digest of a dataset that was written before there was video."""
    schema = replace(SCHEMA, cameras=SCHEMA.cameras[1:])
    assert schema.to_json()["cameras"] == [
        {"name": "observation.images.w", "member": "w", "height": 16, "width": 16, "channels": 3, "codec": "mjpeg"}
    ]
    assert dataset_digest(schema, ()) == "c756ecf923cbceeecf48147e9048c07243645c7da1e6b1b1f27517997da2ee88"
    assert not [name for name in index_table.arrow_schema(schema).names if "mp4" in name]


@pytest.mark.parametrize("encoding", ["h264", "av1"])
def test_both_encodings_decode(encoding: str) -> None:
    truth = pictures(0, 6, 64, 64)
    content = encode_mp4(truth, 30, encoding)
    assert content == encode_mp4(truth, 30, encoding)
    decoded = decode_mp4(content)
    assert decoded.shape == truth.shape
    assert np.array_equal(decode_mp4(content, [4, 2]), decoded[[4, 2]])
    with pytest.raises(ValueError, match="ends before frame 6"):
        decode_mp4(content, [6])
