"""Decodes the frames of a batch's windows straight from encoded members into the batch, each frame once per window.

Called by gather.py when frames stay encoded in memory (tier ``window``). Axes: B windows, W deltas, N frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tendon.data.episode import Camera, Mask
from tendon.data.tario import MP4, RAW
from tendon.errors import DataError
from tendon.loader.frames import decode_jpeg_into, decode_mp4_into, open_array
from tendon.loader.unit_cache import CachedUnit, UnitCache
from tendon.loader.video_decoder import ChunkTable, chunk_table

JOBS_PER_THREAD = 4
LEAST_FRAMES = 16  # per job, so that handing a job to a thread costs little


JpegJob = tuple[int, str, memoryview, int, int, np.ndarray]  # episode, member, content, begin, end, output [H, W, C]


class VideoJob(NamedTuple):
    """A chunk of video to decode. ``outputs``: by frame number, the arrays ``[H, W, C]`` that get its pixels."""

    episode: int
    member: str
    content: memoryview
    outputs: Mapping[int, Sequence[np.ndarray]]
    unit: CachedUnit  # keeps the chunk's table


class ArrayJob(NamedTuple):
    """Masks or raw frames of one window, all in one member; ``outputs`` by place, ``steps`` of the episode."""

    episode: int
    member: str
    content: np.ndarray
    of: Camera | Mask
    length: int
    steps: Sequence[int]
    outputs: Sequence[np.ndarray]


FrameFailure = tuple[int, str, str]  # episode, member, why


def decode_windows(
    cache: UnitCache,
    pinned: Mapping[int, CachedUnit],
    camera: Camera | Mask,
    e_B: np.ndarray,
    steps_BW: np.ndarray,
    out: np.ndarray,
) -> dict[int, DataError]:
    """Decode frames or masks into ``out`` ``[B, W, H, W, C]`` or ``[B, W, H, W]``.

    Returns:
        Per episode whose frames cannot be decoded, the error.
    """
    video = camera.codec == MP4
    if isinstance(camera, Mask) or camera.codec == RAW:
        jobs: list[Any] = [*_array_jobs(cache, pinned, camera, e_B, steps_BW, out)]
    else:
        jobs = [*(_video_jobs if video else _jpeg_jobs)(cache, pinned, camera, e_B, steps_BW, out)]
    num_parts = 1 if cache.num_threads == 1 else cache.num_threads * JOBS_PER_THREAD
    size = max(1 if video else LEAST_FRAMES, -(-len(jobs) // num_parts))
    decode: Callable[[list[Any]], list[FrameFailure]] = _decode_videos if video else _decode_jpegs
    if jobs and isinstance(jobs[0], ArrayJob):
        decode = _copy_arrays
    futures = [cache.pool.submit(decode, jobs[i : i + size]) for i in range(0, len(jobs), size)]
    failures: list[FrameFailure] = []
    with cache.meter.waiting("decode"):
        for future in futures:
            failures += future.result()
    if steps_BW.shape[1] > 1:
        _copy_repeated(steps_BW, out)
    layout = cache.layout
    return {episode: layout.damaged(layout.member(episode, name), why) for episode, name, why in failures}


def _copy_repeated(steps_BW: np.ndarray, out: np.ndarray) -> None:
    """Copy frames that a window has more than once, such as the one at an edge, instead of decoding them again."""
    first_BW = np.argmax(steps_BW[:, :, None] == steps_BW[:, None, :], axis=1)  # the first delta with the same step
    copies = np.argwhere(first_BW != np.arange(steps_BW.shape[1]))
    for b, w in copies.tolist():
        out[b, w] = out[b, first_BW[b, w]]


def _jpeg_jobs(
    cache: UnitCache,
    pinned: Mapping[int, CachedUnit],
    camera: Camera,
    e_B: np.ndarray,
    steps_BW: np.ndarray,
    out: np.ndarray,
) -> list[JpegJob]:
    member, layout = f"{camera.member}.mjpeg", cache.layout
    episodes, units = e_B.tolist(), layout.unit_of[e_B].tolist()
    contents = [pinned[unit].members.get((episode, member)) for episode, unit in zip(episodes, units, strict=True)]
    views = [None if content is None else content.data for content in contents]  # None: a bad episode, replaced later
    is_new_BW = np.ones(steps_BW.shape, bool)
    is_new_BW[:, 1:] = steps_BW[:, 1:] != steps_BW[:, :-1]  # _copy_repeated fills the rest
    b_N, w_N = np.nonzero(is_new_BW)
    begin_N, end_N = layout.frame_bounds(member, e_B[b_N], steps_BW[b_N, w_N])
    return [
        (episodes[b], member, view, begin, end, out[b, w])
        for b, w, begin, end in zip(b_N.tolist(), w_N.tolist(), begin_N.tolist(), end_N.tolist(), strict=True)
        if (view := views[b]) is not None
    ]


def _decode_jpegs(jobs: Sequence[JpegJob]) -> list[FrameFailure]:
    """Decode; return the members that cannot be decoded although their checksum is right."""
    failures = []
    for episode, member, content, begin, end, output in jobs:
        try:
            decode_jpeg_into(content[begin:end], output)
        except (ValueError, OSError) as error:  # noqa: PERF203 - each on its own
            failures.append((episode, member, f"it cannot be decoded: {error}"))
    return failures


def _array_jobs(
    cache: UnitCache,
    pinned: Mapping[int, CachedUnit],
    of: Camera | Mask,
    e_B: np.ndarray,
    steps_BW: np.ndarray,
    out: np.ndarray,
) -> list[ArrayJob]:
    """One job per window."""
    member, layout, jobs = f"{of.member}.{of.codec}", cache.layout, []
    for b, (episode, unit) in enumerate(zip(e_B.tolist(), layout.unit_of[e_B].tolist(), strict=True)):
        content = pinned[unit].members.get((episode, member))
        if content is not None:
            outputs, length = list(out[b]), int(layout.lengths[episode])
            jobs.append(ArrayJob(episode, member, content, of, length, steps_BW[b].tolist(), outputs))
    return jobs


def _copy_arrays(jobs: Sequence[ArrayJob]) -> list[FrameFailure]:
    failures = []
    for job in jobs:
        try:
            write = open_array(job.content, job.of, job.length)
            for step, output in zip(job.steps, job.outputs, strict=True):
                write(step, output)
        except (ValueError, IndexError) as error:  # noqa: PERF203 - each on its own
            failures.append((job.episode, job.member, f"it cannot be decoded: {error}"))
    return failures


def _video_jobs(
    cache: UnitCache,
    pinned: Mapping[int, CachedUnit],
    camera: Camera,
    e_B: np.ndarray,
    steps_BW: np.ndarray,
    out: np.ndarray,
) -> list[VideoJob]:
    """One job per chunk with the frames of all windows, so that every chunk is decoded once per batch."""
    outputs: dict[tuple[int, int], dict[int, list[np.ndarray]]] = {}  # by (episode, chunk), by frame
    for b, episode in enumerate(e_B.tolist()):
        firsts, _, skips = cache.layout.chunks(camera.member, episode)
        chunks = np.searchsorted(firsts, steps_BW[b], "right") - 1
        seen: set[int] = set()
        for w, (step, chunk) in enumerate(zip(steps_BW[b].tolist(), chunks.tolist(), strict=True)):
            if step not in seen:
                seen.add(step)
                number = step - int(firsts[chunk]) + int(skips[chunk])
                outputs.setdefault((episode, chunk), {}).setdefault(number, []).append(out[b, w])
    jobs: list[VideoJob] = []
    for (episode, chunk), outputs_by_frame in outputs.items():
        cached = pinned[int(cache.layout.unit_of[episode])]
        member = f"{camera.member}.{chunk:04d}.{MP4}"
        content = cached.members.get((episode, member))
        if content is not None:
            jobs.append(VideoJob(episode, member, content.data, outputs_by_frame, cached))
    return jobs


def _table_of(unit: CachedUnit, episode: int, member: str, content: memoryview) -> ChunkTable | None:
    """The table of a chunk, made once; two threads that make it at once make the same."""
    key = (episode, member)
    if key not in unit.tables:
        unit.tables[key] = chunk_table(content)
    return unit.tables[key]


def _decode_videos(jobs: Sequence[VideoJob]) -> list[FrameFailure]:
    failures = []
    for episode, member, content, outputs, unit in jobs:
        try:
            decode_mp4_into(content, outputs, _table_of(unit, episode, member, content))
        except (ValueError, OSError) as error:  # noqa: PERF203 - each on its own
            failures.append((episode, member, f"it cannot be decoded: {error}"))
    return failures
