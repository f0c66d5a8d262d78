"""Frames of windows straight out of encoded members into the batch: only those that are asked for, each once per window.

Called by gather.py when the tier of frames is ``window``. Axes: B windows, W deltas, N frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tendon.data.episode import Camera
from tendon.data.tario import MP4
from tendon.errors import DataError
from tendon.loader.frames import decode_jpeg_into, decode_mp4_into
from tendon.loader.shelf import Held, Shelf

JOBS_PER_THREAD, LEAST_FRAMES = 4, 16  # of a job, so that handing it over costs little


Jpeg = tuple[int, str, memoryview, int, int, np.ndarray]  # episode, member, content, begin, end, and its place


class Chunk(NamedTuple):
    """A chunk of video, and where pixels belong by the number of their frame."""

    episode: int
    member: str
    content: memoryview
    places: Mapping[int, Sequence[np.ndarray]]


Failure = tuple[int, str, str]  # episode, member, why


def decode_windows(
    shelf: Shelf, pinned: Mapping[int, Held], camera: Camera, e_B: np.ndarray, steps_BW: np.ndarray, out: np.ndarray
) -> dict[int, DataError]:
    """Decode into ``out`` ``[B, W, H, W, C]``; what is wrong with the episodes whose frames cannot be had."""
    video = camera.codec == MP4
    todo: list[Any] = [*(_chunks if video else _jpegs)(shelf, pinned, camera, e_B, steps_BW, out)]
    parts = 1 if shelf.num_threads == 1 else shelf.num_threads * JOBS_PER_THREAD
    size = max(1 if video else LEAST_FRAMES, -(-len(todo) // parts))
    run: Callable[[list[Any]], list[Failure]] = _decode_chunks if video else _decode_jpegs
    done = [shelf.pool.submit(run, todo[i : i + size]) for i in range(0, len(todo), size)]
    with shelf.meter.waiting("decode"):
        failed = [failure for each in done for failure in each.result()]
    if steps_BW.shape[1] > 1:
        _repeat(steps_BW, out)
    layout = shelf.layout
    return {episode: layout.damaged(layout.part(episode, member), why) for episode, member, why in failed}


def _repeat(steps_BW: np.ndarray, out: np.ndarray) -> None:
    """What a window has twice, such as the frame at an edge, is copied."""
    first_BW = np.argmax(steps_BW[:, :, None] == steps_BW[:, None, :], axis=1)  # the first place with the same step
    copies = np.argwhere(first_BW != np.arange(steps_BW.shape[1]))
    for b, w in copies.tolist():
        out[b, w] = out[b, first_BW[b, w]]


def _jpegs(
    shelf: Shelf, pinned: Mapping[int, Held], camera: Camera, e_B: np.ndarray, steps_BW: np.ndarray, out: np.ndarray
) -> list[Jpeg]:
    member, layout = f"{camera.member}.mjpeg", shelf.layout
    episodes, units = e_B.tolist(), layout.unit_of[e_B].tolist()
    contents = [pinned[unit].members.get((episode, member)) for episode, unit in zip(episodes, units, strict=True)]
    views = [None if content is None else content.data for content in contents]  # None: it is bad, and replaced
    first_BW = np.ones(steps_BW.shape, bool)
    first_BW[:, 1:] = steps_BW[:, 1:] != steps_BW[:, :-1]  # what is repeated at an edge is copied afterwards
    b_N, w_N = np.nonzero(first_BW)
    begin_N, end_N = layout.frame_bounds(member, e_B[b_N], steps_BW[b_N, w_N])
    return [
        (episodes[b], member, view, begin, end, out[b, w])
        for b, w, begin, end in zip(b_N.tolist(), w_N.tolist(), begin_N.tolist(), end_N.tolist(), strict=True)
        if (view := views[b]) is not None
    ]


def _decode_jpegs(jobs: Sequence[Jpeg]) -> list[Failure]:
    """Decode; what cannot be decoded although its checksum is right, with the reason."""
    failed = []
    for episode, member, content, begin, end, place in jobs:
        try:
            decode_jpeg_into(content[begin:end], place)
        except (ValueError, OSError) as error:  # noqa: PERF203 - each on its own
            failed.append((episode, member, f"it cannot be decoded: {error}"))
    return failed


def _chunks(
    shelf: Shelf, pinned: Mapping[int, Held], camera: Camera, e_B: np.ndarray, steps_BW: np.ndarray, out: np.ndarray
) -> list[Chunk]:
    """Per chunk the frames of all windows of the batch, so that a chunk is decoded once."""
    wanted: dict[tuple[int, int], dict[int, list[np.ndarray]]] = {}
    for b, episode in enumerate(e_B.tolist()):
        firsts, _, skips = shelf.layout.chunks(camera.member, episode)
        chunks = np.searchsorted(firsts, steps_BW[b], "right") - 1
        seen: set[int] = set()
        for w, (step, chunk) in enumerate(zip(steps_BW[b].tolist(), chunks.tolist(), strict=True)):
            if step not in seen:
                seen.add(step)
                number = step - int(firsts[chunk]) + int(skips[chunk])
                wanted.setdefault((episode, chunk), {}).setdefault(number, []).append(out[b, w])
    jobs: list[Chunk] = []
    for (episode, chunk), places in wanted.items():
        held = pinned[int(shelf.layout.unit_of[episode])]
        member = f"{camera.member}.{chunk:04d}.{MP4}"
        content = held.members.get((episode, member))
        if content is not None:
            jobs.append(Chunk(episode, member, content.data, places))
    return jobs


def _decode_chunks(jobs: Sequence[Chunk]) -> list[Failure]:
    failed = []
    for episode, member, content, places in jobs:
        try:
            decode_mp4_into(content, places)
        except (ValueError, OSError) as error:  # noqa: PERF203 - each on its own
            failed.append((episode, member, f"it cannot be decoded: {error}"))
    return failed
