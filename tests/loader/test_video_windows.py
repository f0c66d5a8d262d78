"""Frames of a window are decoded from the key frame before them, and equal those of decoding everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import open_dataset
from tendon.data.mp4 import read_track
from tendon.data.sources import open_source
from tendon.data.video import decode_mp4, encode_mp4
from tendon.loader import Loader, LoaderResources, SamplingOrder
from tendon.loader.frames import decode_mp4_into
from tendon.loader.video_decoder import chunk_table
from tests.data import lerobot_sets
from tests.data.lerobot_sets import encoded, pictures

FRAMES = 48
SETTINGS = {
    "h264": lambda frames: encode_mp4(frames, 10, "h264", 2),
    "h264, frames shown in another order": lambda frames: encoded(frames, g=16, bf=3),
    "h264, one key frame": lambda frames: encoded(frames, g=250, bf=2),
    "h264, open groups": lambda frames: encoded(frames, g=12, bf=3, flags="-cgop", **{"x264-params": "open-gop=1"}),
    "av1": lambda frames: encode_mp4(frames, 10, "av1", 8),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_any_frames_are_those_of_decoding_everything(setting: str) -> None:
    content = memoryview(SETTINGS[setting](pictures(1, FRAMES, 64, 64)))
    expected, table = decode_mp4(bytes(content)), chunk_table(content)
    assert table is not None
    chance = np.random.default_rng(0)
    for _ in range(12):  # one decoder serves all of them
        wanted = sorted({*chance.integers(0, FRAMES, chance.integers(1, 6)).tolist()})
        places = {number: (np.empty((64, 64, 3), np.uint8),) for number in wanted}
        decode_mp4_into(content, places, table)
        assert all((places[number][0] == expected[number]).all() for number in wanted)


def test_what_lies_before_the_key_frame_is_not_decoded() -> None:
    content = bytearray(encode_mp4(pictures(1, FRAMES, 64, 64), 10, "h264", 4))
    expected, track = decode_mp4(bytes(content)), read_track(content)
    for begin, size in zip(track.offsets[:20].tolist(), track.sizes[:20].tolist(), strict=True):
        content[begin : begin + size] = bytes(size)  # frames 0 to 19 cannot be decoded any more
    view, shown = memoryview(bytes(content)), np.empty((2, 64, 64, 3), np.uint8)
    decode_mp4_into(view, {22: (shown[0],), 23: (shown[1],)}, chunk_table(view))
    assert (shown == expected[22:24]).all()


@pytest.mark.parametrize("setting", ["h264, frames shown in another order", "h264, open groups"])
def test_a_sample_that_no_other_needs_is_decoded_only_for_its_own_frame(setting: str) -> None:
    content = bytearray(SETTINGS[setting](pictures(1, FRAMES, 64, 64)))
    expected, table = decode_mp4(bytes(content)), chunk_table(memoryview(bytes(content)))
    assert table is not None
    damaged = np.flatnonzero(table.disposable)
    assert FRAMES / 3 < len(damaged) < FRAMES
    for begin, end in zip(table.begins[damaged].tolist(), table.ends[damaged].tolist(), strict=True):
        content[begin + 4 : end] = bytes(end - begin - 4)  # these frames cannot be decoded any more
    view, intact = memoryview(bytes(content)), table.numbers[~table.disposable].tolist()
    for number in intact:
        shown = np.empty((64, 64, 3), np.uint8)
        decode_mp4_into(view, {number: (shown,)}, table)
        assert (shown == expected[number]).all()


def test_every_codec_but_h264_has_only_samples_that_others_may_need() -> None:
    table = chunk_table(memoryview(encode_mp4(pictures(1, 8, 64, 64), 10, "av1", 8)))
    assert table is not None
    assert not table.disposable.any()


def test_a_frame_that_is_not_there_is_an_error() -> None:
    view = memoryview(encode_mp4(pictures(1, 8, 64, 64), 10, "h264", 4))
    with pytest.raises(ValueError, match="ends before frame 8"):
        decode_mp4_into(view, {8: (np.empty((64, 64, 3), np.uint8),)}, chunk_table(view))


def test_a_windows_cost_counts_the_frames_before_it() -> None:
    every_8 = chunk_table(memoryview(encoded(pictures(1, FRAMES, 64, 64), g=8, bf=0)))
    assert every_8 is not None
    assert every_8.cuts.tolist() == list(range(0, FRAMES, 8))
    assert every_8.samples_per_window(np.array([0])) == 4.5  # 1 to 8
    with_b = chunk_table(memoryview(encoded(pictures(1, FRAMES, 64, 64), g=8, bf=3)))
    assert with_b is not None
    alone = [with_b.samples_per_window(np.array([delta])) for delta in (-FRAMES, FRAMES)]  # the first frame; the last
    last = int(with_b.cuts[-1])
    assert alone == [1, (~with_b.disposable[last:]).sum() + with_b.disposable[with_b.numbers == FRAMES - 1].sum()]
    # two frames in one group: as many as up to the second; over a border: 8 and 1; at the end both are the last one
    assert every_8.samples_per_window(np.array([0, 1])) == pytest.approx((6 * 35 + 5 * 9 + 8) / FRAMES)


@pytest.mark.parametrize(("key_every", "tier"), [(1, "window"), (40, "block")])
def test_frames_stay_decoded_where_windows_would_decode_long_groups(tmp_path: Path, key_every: int, tier: str) -> None:
    """One frame per window: with key frames alone nothing is decoded twice, with long groups 20 frames for one."""
    folder = lerobot_sets.make(tmp_path / "source", "v2.1", (40,) * 12, g=key_every, bf=0)
    manifest = convert(open_source(str(folder)), str(tmp_path), "x")
    dataset = open_dataset(dataset_uri(str(tmp_path), "x", manifest.plan))
    resources = LoaderResources(memory_budget=1_900_000, threads=1, ahead=0)
    ordering = SamplingOrder(lanes=2, block=1, unit_bytes=1)
    windows = {lerobot_sets.CAMERA: (0,)}
    loader = Loader(dataset, "all", windows, 4, 1, ordering=ordering, resources=resources)
    assert loader.maker.shares.tier == tier
    batch = next(loader)
    row = dataset.rows[int(batch["episode_index"][0])]
    shown = dataset.frames(row, lerobot_sets.CAMERA, [int(batch["frame_index"][0])])
    assert (batch[lerobot_sets.CAMERA][0] == shown).all()
