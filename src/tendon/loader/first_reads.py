"""How the first batch is read: into how many requests its episodes are divided. Pure; unit_cache.py asks.

Each request waits for one answer of the store, and a connection answers one at a time. So there should be about as many
requests as connections: fewer would leave some idle, more would wait again and again. Axes: E episodes as stored.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np

LEAST_READ = 256 << 10  # bytes up to which a request is not divided further
GAPS = (0, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20)  # read in the time of another request, at most


def first_reads(wanted: Collection[int], unit_of_E: np.ndarray, bytes_E: np.ndarray, connections: int) -> list[range]:
    """The episodes of every request: neighbours of one unit, beginning and ending with one that is wanted.

    Others between them are read along where the gap is small and there would be more requests than connections. They are
    of the same unit, which is needed as a whole later.
    """
    episodes = sorted(wanted)
    if not episodes:
        return []
    ends_E = np.cumsum(bytes_E)
    units = unit_of_E[episodes].tolist()
    gaps = [
        int(ends_E[b - 1] - ends_E[a]) if unit == following else GAPS[-1] + 1
        for (a, b), (unit, following) in zip(pairwise(episodes), pairwise(units), strict=True)
    ]
    reads: list[range] = []
    for most in GAPS:
        reads = _divided(_runs(episodes, gaps, most), bytes_E, connections)
        if len(reads) <= connections:
            break
    return reads


def _runs(episodes: list[int], gaps: list[int], most: int) -> list[range]:
    """Runs of episodes without a gap of more than ``most`` bytes."""
    starts = [0, *(i + 1 for i, gap in enumerate(gaps) if gap > most)]
    stops = [*(start - 1 for start in starts[1:]), len(episodes) - 1]
    return [range(episodes[a], episodes[b] + 1) for a, b in zip(starts, stops, strict=True)]


def _divided(runs: list[range], bytes_E: np.ndarray, connections: int) -> list[range]:
    """The runs, long ones in parts of about the share of one connection."""
    sizes = [int(bytes_E[run.start : run.stop].sum()) for run in runs]
    share = max(LEAST_READ, sum(sizes) / connections)
    parts = []
    for run, size in zip(runs, sizes, strict=True):
        num = min(max(1, round(size / share)), len(run))
        ends = np.cumsum(bytes_E[run.start : run.stop])
        cuts = np.searchsorted(ends, size * np.arange(1, num) / num, "right").tolist()
        bounds = sorted({0, *cuts, len(run)})
        parts += [run[a:b] for a, b in pairwise(bounds)]
    return parts
