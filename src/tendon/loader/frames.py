"""Decodes frames straight into their buffers: JPEGs with simplejpeg, chunks of mp4 with PyAV, masks and raw frames.

Pixels are equal to those of data/video.py, the plain way. Both release the interpreter's lock, so threads help.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from tendon.data.episode import Camera, Mask
from tendon.data.masks import opened
from tendon.data.tario import npy_rows
from tendon.loader.video_decoder import ChunkTable, decode_frames


def decode_jpeg_into(content: memoryview, out_HWC: np.ndarray) -> None:
    """One JPEG into ``uint8 [H, W, C]``.

    Raises:
        ValueError: it is no JPEG, or of another size.
    """
    space = "GRAY" if out_HWC.shape[2] == 1 else "RGB"
    decoded = _decode_jpeg()(content, space, fastdct=False, fastupsample=False, buffer=out_HWC)
    if decoded.shape != out_HWC.shape:
        raise ValueError(f"a frame has the shape {decoded.shape}, the schema says {out_HWC.shape}")


def open_array(content: np.ndarray, of: Camera | Mask, length: int) -> Callable[[int, np.ndarray], None]:
    """A function of step and output that writes the mask or the raw frame of that step.

    Raises:
        ValueError: the member is another array.
    """
    values = npy_rows(content)
    if isinstance(of, Mask):
        return opened(values, of.codec, length)
    if values.shape != (length, *of.shape) or values.dtype != of.dtype:
        says = f"{of.dtype} {(length, *of.shape)}"
        raise ValueError(f"its frames are {values.dtype} {values.shape}, the schema says {says}")

    def copy(step: int, out_HWC: np.ndarray) -> None:
        out_HWC[...] = values[step]

    return copy


def decode_mp4_into(
    content: memoryview, places: Mapping[int, Sequence[np.ndarray]], table: ChunkTable | None = None
) -> None:
    """Frames of a chunk by their number in order of display, each into all of its places ``uint8 [H, W, 3]``.

    With the chunk's ``table`` only what the frames need is decoded.

    Raises:
        ValueError: the chunk ends before a frame that is asked for.
    """

    def show(number: int, frame: Any) -> None:
        pixels = _pixels(frame)
        for place in places[number]:
            place[...] = pixels

    if table is None or not decode_frames(content, table, places, show):
        _decode_from_the_start(content, places, show)


def _decode_from_the_start(
    content: memoryview, places: Mapping[int, Sequence[np.ndarray]], show: Callable[[int, Any], None]
) -> None:
    import av
    from av.video.reformatter import VideoReformatter

    last, num_decoded = max(places), 0
    reformatter = VideoReformatter()  # one for all frames: its setup for the first frame serves the others
    with av.open(io.BytesIO(content)) as container:
        stream: Any = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        for i, frame in enumerate(container.decode(stream)):
            if i in places:
                show(i, reformatter.reformat(frame, format="rgb24", threads=1))
                num_decoded += 1
            if i >= last:
                break
    if num_decoded != len(places):
        raise ValueError(f"a chunk of video ends before frame {last}")


@cache
def _decode_jpeg() -> Callable[..., np.ndarray]:
    import simplejpeg

    return simplejpeg.decode_jpeg  # type: ignore[no-any-return]


def _pixels(frame: Any) -> np.ndarray:
    """``uint8 [H, W, 3]``, a view of an rgb24 frame, whose lines may be longer than they are wide."""
    plane = frame.planes[0]
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : 3 * frame.width]
    return lines.reshape(frame.height, frame.width, 3)
