"""Windows that are seen more often, or less: weights of episodes, and listed frames that are repeated. Pure.

An epoch then has a fixed number of items per episode. Item i of epoch e is the (e * m + i)-th of an endless walk
through the episode's n windows, so every window is seen equally often, to within one, however odd the weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tendon.loader.windows import WindowTable


@dataclass(frozen=True)
class Emphasis:
    """Items of an epoch, numbered episode by episode."""

    table: WindowTable
    start: np.ndarray  # number of the episode's first item
    counts: np.ndarray  # items of an episode in an epoch
    own: np.ndarray  # windows of the episode, repeated frames counted each time
    step: np.ndarray  # of the walk, coprime to own: a part of an episode is spread over all of it
    extra_start: np.ndarray
    extra_windows: np.ndarray  # the window numbers of repeated frames, episode by episode

    @property
    def num_items(self) -> int:
        """How many an epoch has."""
        return int(self.counts.sum())

    def windows(self, items: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """The window of every item in its epoch."""
        E = np.searchsorted(self.start, items, side="right") - 1
        nth = epochs * self.counts[E] + items - self.start[E]
        ordinal = np.where(self.counts[E] == self.own[E], nth % self.own[E], nth * self.step[E] % self.own[E])
        windows = self.table.start[E] + ordinal
        beyond = ordinal >= self.table.counts[E]
        if beyond.any():
            at = self.extra_start[E[beyond]] + ordinal[beyond] - self.table.counts[E[beyond]]
            windows[beyond] = self.extra_windows[at]
        return np.asarray(windows)


def emphasis(
    table: WindowTable,
    weights: Mapping[int, float],
    repeated: Mapping[int, Sequence[int]],
    times: int = 1,
) -> Emphasis:
    """The items of a table.

    Args:
        table: the windows.
        weights: of episodes by their place in the table; 1 when not named.
        repeated: steps of episodes that are listed again.
        times: how often they are listed in addition.
    """
    num = len(table.counts)
    extras: list[np.ndarray] = []
    for episode in range(num):
        offsets, rest = np.divmod(np.asarray(repeated.get(episode, ()), np.int64) - table.t0[episode], table.stride)
        good = (rest == 0) & (offsets >= 0) & (offsets < table.counts[episode])
        extras.append(np.repeat(table.start[episode] + offsets[good], times))
    sizes = np.array([len(each) for each in extras], np.int64)
    own = table.counts + sizes
    weight = np.array([weights.get(episode, 1.0) for episode in range(num)])
    counts = np.where(own > 0, np.rint(own * weight), 0).astype(np.int64)
    return Emphasis(
        table=table,
        start=np.cumsum(counts) - counts,
        counts=counts,
        own=np.maximum(own, 1),
        step=np.array([_coprime(int(n)) for n in own], np.int64),
        extra_start=np.cumsum(sizes) - sizes,
        extra_windows=np.concatenate([*extras, np.zeros(0, np.int64)]),
    )


def changing_frames(values: np.ndarray, window: int = 3) -> np.ndarray:
    """Steps near which a value, such as the gripper's, changes: the frames that InternManip's augsteps repeats.

    A step is listed when the values of ``window`` steps centred on it are not all equal.
    """
    changed = np.flatnonzero(np.diff(np.asarray(values).reshape(-1)) != 0)
    reach = window // 2
    near = changed[:, None] + np.arange(1 - reach, reach + 1)
    return np.unique(near[(near >= 0) & (near < len(values))])


def _coprime(n: int) -> int:
    """A step near the golden section of n that visits everything."""
    step = max(1, round(n * 0.6180339887))
    while math.gcd(step, max(n, 1)) != 1:
        step += 1
    return step
