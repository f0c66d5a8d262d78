"""Frames out of encoded images and video: bytes in, ``uint8 [N, H, W, C]`` out, the same on every machine.

The plain way, one thread: dataset.frames and the checks use it; the loader has a faster one. Cutting and joining
without decoding is in mp4.py.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from tendon.data.episode import Camera, Frames, VideoChunk

# one thread, and in x264 no macroblock tree and nothing that the processor decides: equal frames give equal bytes
ENCODERS = {
    "h264": {"preset": "veryfast", "threads": "1", "x264-params": "mbtree=0:rc-lookahead=0:cpu-independent=1"},
    "av1": {"preset": "12", "svtav1-params": "lp=1"},
}


def decode_chunks(chunks: Sequence[VideoChunk], frames: Sequence[int] | range) -> np.ndarray:
    """The episode's ``frames`` (in the order asked for) out of the chunks that hold them."""
    wanted = np.asarray(frames, np.int64)
    pixels: np.ndarray | None = None
    for chunk in chunks:
        at = np.flatnonzero((wanted >= chunk.first_frame) & (wanted < chunk.first_frame + chunk.num_frames))
        if len(at):
            decoded = decode_mp4(chunk.content, wanted[at] - chunk.first_frame + chunk.skip)
            pixels = np.empty((len(wanted), *decoded.shape[1:]), np.uint8) if pixels is None else pixels
            pixels[at] = decoded
    if pixels is None:
        raise ValueError(f"no chunk holds the frames {list(frames)[:3]}")
    return pixels


def decode_mp4(content: bytes, frames: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Frames of a video by their number in order of display, ``uint8 [N, H, W, 3]``; all unless given."""
    import av

    wanted = None if frames is None else np.asarray(frames, np.int64)
    last = None if wanted is None else int(wanted.max())
    decoded: dict[int, np.ndarray] = {}
    needed = None if wanted is None else set(wanted.tolist())
    with av.open(io.BytesIO(content)) as container:
        stream: Any = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        for i, frame in enumerate(container.decode(stream)):
            if needed is None or i in needed:
                decoded[i] = frame.to_ndarray(format="rgb24")
            if last is not None and i >= last:
                break
    order = range(len(decoded)) if wanted is None else wanted.tolist()
    missing = [i for i in order if i not in decoded]
    if missing:
        raise ValueError(f"the video ends before frame {missing[0]}")
    return np.stack([decoded[i] for i in order])


def first_picture(content: bytes) -> np.ndarray:
    """The first frame of an mp4, ``uint8 [H, W, 3]``, by a decoder that hides no damage.

    Raises:
        av.FFmpegError, ValueError: there is none, or it is damaged.
    """
    import av

    with av.open(io.BytesIO(content), format="mov") as container:
        stream: Any = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        stream.codec_context.options = {"err_detect": "explode+crccheck+bitstream+buffer"}
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise ValueError("the decoder finds it corrupt")
            return np.asarray(frame.to_ndarray(format="rgb24"))
    raise ValueError("there is no picture")


def decoded_frames(stored: Frames, camera: Camera) -> np.ndarray:
    """All frames of an episode in whatever form a source gave them, ``uint8 [T, H, W, C]``."""
    if isinstance(stored, np.ndarray):
        return stored
    chunks = [each for each in stored if isinstance(each, VideoChunk)]
    if chunks:
        return decode_chunks(chunks, range(sum(each.num_frames for each in chunks)))
    return decode_jpegs([each for each in stored if isinstance(each, bytes)], camera.channels)


def decode_jpegs(jpegs: Sequence[bytes], channels: int) -> np.ndarray:
    """JPEGs of one size as ``uint8 [N, H, W, channels]``."""
    import simplejpeg

    space = "GRAY" if channels == 1 else "RGB"
    return np.stack([simplejpeg.decode_jpeg(each, space, fastdct=False, fastupsample=False) for each in jpegs])


def encode_mp4(frames: np.ndarray, fps: float, encoding: str = "h264", key_every: int = 2, crf: int = 23) -> bytes:
    """A video of ``uint8 [N, H, W, 3]`` frames, yuv420p, closed groups of ``key_every`` frames."""
    from fractions import Fraction

    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(
            {"h264": "libx264", "av1": "libsvtav1"}[encoding], rate=Fraction(fps).limit_denominator(100_000)
        )
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"g": str(key_every), "crf": str(crf)} | ENCODERS[encoding]
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()


def encode_chunks(frames: np.ndarray, fps: float, chunk: int, encoding: str = "h264") -> tuple[VideoChunk, ...]:
    """An episode's frames as chunks of a video."""
    starts = range(0, len(frames), chunk)
    parts = [frames[at : at + chunk] for at in starts]
    return tuple(
        VideoChunk(encode_mp4(part, fps, encoding), at, len(part)) for at, part in zip(starts, parts, strict=True)
    )
