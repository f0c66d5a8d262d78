"""How the first batch is read: into how many requests its episodes are divided. Pure; unit_cache.py asks.

Each request waits for one answer of the store, and a connection answers one at a time. So there should be about as many
requests as connections: fewer would leave some idle, more would wait again and again. Axes: E episodes as stored.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

LEAST_READ = 256 << 10  # bytes of a request that others were divided into
GAPS = (0, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20)  # read in the time of another request, at most


def first_reads(wanted: Collection[int], unit_of_E: np.ndarray, bytes_E: np.ndarray, connections: int) -> list[range]:
    """The episodes of every request: neighbours of one unit, beginning and ending with one that is wanted.

    Others between them are read along where the gap is small and there would be more requests than connections. They are
    of the same unit, which is needed as a whole later.
    """
    episodes = np.sort(np.fromiter(wanted, np.int64))
    if not len(episodes):
        return []
    ends = np.cumsum(bytes_E)[episodes]
    starts, unit_of = ends - bytes_E[episodes], unit_of_E[episodes]
    gaps = np.where(unit_of[1:] == unit_of[:-1], starts[1:] - ends[:-1], GAPS[-1] + 1)
    allowed = [most for most in GAPS if (gaps > most).sum() < connections] or GAPS[-1:]
    plans = [_plan(starts, ends, gaps, most, connections) for most in allowed]
    runs = min(plans, key=lambda plan: max(run.bytes / run.parts for run in plan))
    reads: list[range] = []
    for first, last, size, num in runs:
        run, middles = episodes[first : last + 1], (starts + ends)[first : last + 1] / 2 - starts[first]
        part_of = (middles * (num / size)).astype(np.int64)
        parts = [run[part_of == part] for part in range(num)]
        reads += [range(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]
    return reads


class _Run(NamedTuple):
    """Wanted episodes, by their place among them, that are read along with what lies between; in so many parts."""

    first: int
    last: int
    bytes: int
    parts: int


def _plan(starts: np.ndarray, ends: np.ndarray, gaps: np.ndarray, most: int, connections: int) -> list[_Run]:
    """Runs without a gap of more than ``most`` bytes, the largest in parts so that every connection has one."""
    cuts = np.flatnonzero(gaps > most)
    firsts, lasts = [0, *(cuts + 1).tolist()], [*cuts.tolist(), len(starts) - 1]
    sizes = (ends[lasts] - starts[firsts]).tolist()
    parts = [1] * len(sizes)
    for _ in range(connections - len(sizes)):
        part_sizes = [size / num for size, num in zip(sizes, parts, strict=True)]
        largest = part_sizes.index(max(part_sizes))
        if sizes[largest] / (parts[largest] + 1) < LEAST_READ:
            break
        parts[largest] += 1
    return [_Run(*run) for run in zip(firsts, lasts, sizes, parts, strict=True)]
