"""Decodes single frames of video chunks: from the key frame before them, with decoders that stay open.

A chunk's own tables say where its key frames are; ``ChunkTable`` is made of them once and kept beside the chunk. Decoders
belong to a thread and serve all chunks of one encoder setting. Called by frames.py; pixels are those of data/video.py.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tendon.data.mp4 import Mp4Error, disposable_samples, read_track

MAX_DECODERS = 4  # per thread


@dataclass(frozen=True)
class ChunkTable:
    """Where the samples of a chunk lie and which of them a frame needs. Frames are numbered in order of display."""

    setting: bytes  # what a decoder needs to know before the first sample
    begins: np.ndarray  # of every sample, in the order of decoding
    ends: np.ndarray
    numbers: np.ndarray  # int32, the frame that a sample becomes
    cuts: np.ndarray  # int32, samples, and so frames, at which decoding can begin
    until: np.ndarray  # int32, by frame: the end of the samples that must be decoded for it
    disposable: np.ndarray  # bool, samples that only their own frame needs

    def samples_per_window(self, deltas: np.ndarray) -> float:
        """How many samples are decoded for the frames of a window, on average over all windows of the chunk."""
        last = len(self.until) - 1
        frames_BW = np.sort(np.clip(np.arange(last + 1)[:, None] + deltas, 0, last), 1)
        begin_BW = self.cuts[np.searchsorted(self.cuts, frames_BW, "right") - 1]
        ends_group_BW, is_new_BW = np.ones(frames_BW.shape, bool), np.ones(frames_BW.shape, bool)
        ends_group_BW[:, :-1] = begin_BW[:, 1:] != begin_BW[:, :-1]
        is_new_BW[:, 1:] = frames_BW[:, 1:] != frames_BW[:, :-1]
        references = np.concatenate([[0], np.cumsum(~self.disposable)])  # before each sample
        shared_BW = (references[self.until[frames_BW]] - references[begin_BW]) * ends_group_BW
        own_BW = self.disposable[np.argsort(self.numbers)][frames_BW] & is_new_BW
        return float((shared_BW + own_BW).sum(1).mean())


def chunk_table(content: memoryview) -> ChunkTable | None:
    """The table of a chunk; None where its frames cannot be numbered by its tables alone."""
    try:
        track = read_track(content)
    except Mp4Error:
        return None
    times = track.times
    if not len(track) or times.min() < 0 or not len(track.cuts) or track.cuts[0] != 0:
        return None
    order = np.argsort(times, kind="stable")
    numbers = np.empty_like(order)
    numbers[order] = np.arange(len(order))
    until, cuts = (each.astype(np.int32) for each in (np.maximum.accumulate(order) + 1, track.cuts))
    ends = track.offsets + track.sizes
    disposable = disposable_samples(content, track)
    return ChunkTable(track.boxes["stsd"], track.offsets, ends, numbers.astype(np.int32), cuts, until, disposable)


def decode_frames(
    content: memoryview, table: ChunkTable, frames: Iterable[int], show: Callable[[int, Any], None]
) -> bool:
    """Call ``show`` with the number and the rgb24 frame of each of ``frames``; False where one does not appear.

    Raises:
        ValueError, OSError: the decoder refuses the bytes.
    """
    wanted = sorted(frames)
    if wanted[0] < 0 or wanted[-1] >= len(table.until):
        return False
    decoder = _decoder(table.setting, content)
    begins = table.cuts[np.searchsorted(table.cuts, wanted, "right") - 1].tolist()
    at = -1  # the sample that the decoder could take without being emptied
    try:
        for i, begin in enumerate(begins):
            if i and begin == begins[i - 1]:
                continue
            group = {frame for frame, its_begin in zip(wanted, begins, strict=True) if its_begin == begin}
            if at != begin:
                decoder.context.flush_buffers()
            at = _decode_group(decoder, content, table, begin, group, show)
            if group:
                return False
    except BaseException:
        _decoders().pop(table.setting, None)
        raise
    return True


def _decode_group(
    decoder: _Decoder,
    content: memoryview,
    table: ChunkTable,
    begin: int,
    left: set[int],
    show: Callable[[int, Any], None],
) -> int:
    """Decode from ``begin`` until nothing is ``left``. Returns the next sample, -1 where the decoder must be emptied."""
    import av

    end = int(table.until[max(left)])
    columns = (table.begins, table.ends, table.numbers, table.disposable)
    for first, stop, number, disposable in zip(*(each[begin:end].tolist() for each in columns), strict=True):
        if disposable and number not in left:
            continue
        packet: Any = av.Packet(bytes(content[first:stop]))
        packet.pts = number
        for frame in decoder.context.decode(packet):
            if frame.pts in left:
                left.discard(frame.pts)
                show(frame.pts, decoder.reformatter.reformat(frame, format="rgb24", threads=1))
    if not left:
        return end
    for frame in decoder.context.decode(None):  # what it holds back, because later frames might be shown earlier
        if frame.pts in left:
            left.discard(frame.pts)
            show(frame.pts, decoder.reformatter.reformat(frame, format="rgb24", threads=1))
    return -1


class _Decoder:
    """A decoder that is open; its settings are those of the first chunk that it was opened for."""

    def __init__(self, content: memoryview) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self.container = av.open(io.BytesIO(content))
        stream: Any = self.container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        self.context: Any = stream.codec_context
        self.context.open(strict=False)
        self.reformatter = VideoReformatter()  # one for all frames: its setup for the first frame serves the others


_of_thread = threading.local()


def _decoders() -> OrderedDict[bytes, _Decoder]:
    if not hasattr(_of_thread, "decoders"):
        _of_thread.decoders = OrderedDict()
    decoders: OrderedDict[bytes, _Decoder] = _of_thread.decoders
    return decoders


def _decoder(setting: bytes, content: memoryview) -> _Decoder:
    decoders = _decoders()
    if setting not in decoders:
        while len(decoders) >= MAX_DECODERS:
            decoders.popitem(last=False)
        decoders[setting] = _Decoder(content)
    decoders.move_to_end(setting)
    return decoders[setting]
