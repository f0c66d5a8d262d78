"""Frames in, an H.264 file that every browser plays out. Called by whoever shows clips (steps, report)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[Any]  # uint8 [H, W, 3]


def encode_clip(frames: Iterable[Frame], fps: float, *, crf: int = 26) -> bytes:
    """The bytes of an mp4 (yuv420p, faststart) that shows ``frames`` at ``fps``; odd sizes are cut to even ones."""
    import av

    with tempfile.TemporaryDirectory(
        prefix="tendon-video-"
    ) as folder:  # faststart rewrites the file: it needs a real one
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream: Any = None
            for frame in frames:
                even = np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2, :3])
                if stream is None:
                    stream = _stream(container, even, fps, crf)
                for packet in stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")):
                    container.mux(packet)
            if stream is None:
                raise ValueError("a clip needs at least one frame")
            for packet in stream.encode():
                container.mux(packet)
        return path.read_bytes()


def _stream(container: Any, frame: Frame, fps: float, crf: int) -> Any:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = frame.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.options = {
        "crf": str(crf),
        "preset": "ultrafast",  # half of the time of veryfast, and 20 kB instead of 10
        "threads": "1",
        "x264-params": "lookahead-threads=1:sync-lookahead=0",
    }
    return stream
