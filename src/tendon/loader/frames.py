"""Encoded frames into their place: JPEGs by simplejpeg straight into the buffer, chunks of mp4 by PyAV.

Pixels are equal to those of data/video.py, the plain way. Both release the interpreter's lock, so threads help.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def decode_jpeg_into(content: memoryview, out_HWC: np.ndarray) -> None:
    """One JPEG into ``uint8 [H, W, C]``.

    Raises:
        ValueError: it is no JPEG, or of another size.
    """
    import simplejpeg

    space = "GRAY" if out_HWC.shape[2] == 1 else "RGB"
    found = simplejpeg.decode_jpeg(content, space, fastdct=False, fastupsample=False, buffer=out_HWC)
    if found.shape != out_HWC.shape:
        raise ValueError(f"a frame has the shape {found.shape}, the schema says {out_HWC.shape}")


def decode_mp4_into(content: memoryview, places: Mapping[int, Sequence[np.ndarray]]) -> None:
    """Frames of a chunk by their number in order of display, each into all of its places ``uint8 [H, W, 3]``.

    Raises:
        ValueError: the chunk ends before a frame that is asked for.
    """
    import av

    last, found = max(places), 0
    with av.open(io.BytesIO(content)) as container:
        stream: Any = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        for i, frame in enumerate(container.decode(stream)):
            for place in places.get(i, ()):
                place[...] = frame.to_ndarray(format="rgb24")
            found += i in places
            if i >= last:
                break
    if found != len(places):
        raise ValueError(f"a chunk of video ends before frame {last}")
