"""Cutting and joining mp4 files: every frame the same as before, whatever the encoder did."""

from __future__ import annotations

import io
import itertools
from typing import Any

import av
import numpy as np
import pytest

from tendon.data.mp4 import Mp4Error, Piece, cut, join, plain_mp4, read_track
from tendon.data.video import decode_mp4
from tests.data.lerobot_sets import encoded, pictures

ENCODINGS: dict[str, dict[str, Any]] = {
    "h264 as lerobot": {"codec": "libx264", "g": 2},
    "h264 with B frames": {"codec": "libx264", "g": 10},
    "h264 one group": {"codec": "libx264", "g": 250},
    "h264 open groups": {"codec": "libx264", "g": 12, "x264-params": "open-gop=1"},
    "h264 no B frames": {"codec": "libx264", "g": 7, "bf": 0},
    "av1 as lerobot": {"codec": "libsvtav1", "g": 2, "preset": 12},
}


def times(content: bytes) -> list[float]:
    with av.open(io.BytesIO(content)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


@pytest.mark.parametrize("name", ENCODINGS)
def test_cut_anywhere_and_joined_again(name: str) -> None:
    size = (64, 64) if "av1" in name else (32, 48)
    content = encoded(pictures(1, 40, *size), **ENCODINGS[name])
    track, truth = read_track(content), decode_mp4(content)
    assert np.allclose(track.shown, times(content))
    whole = cut(content, track, 0, len(track))
    assert np.array_equal(decode_mp4(whole), truth)
    assert np.allclose(times(whole), times(content))
    assert len(whole) <= len(content) + 100
    for begin in track.cuts.tolist():
        for end in {min(begin + 1, 40), min(begin + 5, 40), 40}:
            part = decode_mp4(cut(content, track, begin, track.last_sample(begin, end)))
            assert np.array_equal(part[: end - begin], truth[begin:end])
    borders = [*track.cuts.tolist(), 40]
    pieces = [Piece(content, track, a, b) for a, b in itertools.pairwise(borders)]
    assert join(pieces) == whole
    single = [cut(content, track, piece.begin, piece.end) for piece in pieces]
    again = [Piece(each, read_track(each), 0, len(read_track(each))) for each in single]
    assert join(again) == whole


def test_two_videos_in_a_row() -> None:
    parts = [encoded(pictures(seed, 12), g=6) for seed in (1, 2)]
    tracks = [read_track(part) for part in parts]
    joined = join([Piece(part, track, 0, 12) for part, track in zip(parts, tracks, strict=True)])
    assert np.array_equal(decode_mp4(joined), np.concatenate([decode_mp4(part) for part in parts]))
    assert np.allclose(times(joined), np.arange(24) / 10)


def test_others_become_plain() -> None:
    frames = pictures(1, 20)
    fragments = encoded(frames, g=5, container={"movflags": "frag_keyframe+empty_moov"})
    with pytest.raises(Mp4Error, match="fragments"):
        read_track(fragments)
    plain = plain_mp4(fragments)
    assert np.array_equal(decode_mp4(plain), decode_mp4(fragments))
    assert np.allclose(read_track(plain).shown, np.arange(20) / 10)


def test_damage_is_said() -> None:
    content = encoded(pictures(1, 20), g=5)
    for broken in (b"", b"x" * 50, content[:40], content[:1500], content[:-9]):
        with pytest.raises(Mp4Error):
            read_track(broken)
    with pytest.raises(Mp4Error):
        plain_mp4(b"x" * 500)
    at = content.index(b"stsz") + 12
    with pytest.raises(Mp4Error):
        read_track(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])
