"""Weights of episodes and repeated frames: windows that come more or less often in an epoch. Pure.

A weighted epoch has a fixed number m of items per episode. Item i of epoch e is the (e * m + i)-th step of an endless
walk through the episode's n windows, so all its windows come equally often, to within one, whatever the weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tendon.loader.windows import WindowTable


@dataclass(frozen=True)
class SampleWeights:
    """The items of a weighted epoch, numbered episode by episode."""

    table: WindowTable
    start: np.ndarray  # number of the episode's first item
    counts: np.ndarray  # items of an episode in an epoch
    num_windows: np.ndarray  # windows of the episode, repeated frames counted each time
    step: np.ndarray  # of the walk, coprime to num_windows: a part of an episode is spread over all of it
    extra_start: np.ndarray
    extra_windows: np.ndarray  # the window numbers of repeated frames, episode by episode

    @property
    def num_items(self) -> int:
        """The items of an epoch."""
        return int(self.counts.sum())

    def windows(self, items: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """The window of every item in its epoch."""
        E = np.searchsorted(self.start, items, side="right") - 1
        nth = epochs * self.counts[E] + items - self.start[E]
        num_windows = self.num_windows[E]
        # with weight 1 the walk is not needed, and without it the stream equals the unweighted one
        ordinal = np.where(self.counts[E] == num_windows, nth % num_windows, nth * self.step[E] % num_windows)
        windows = self.table.start[E] + ordinal
        beyond = ordinal >= self.table.counts[E]
        if beyond.any():
            at = self.extra_start[E[beyond]] + ordinal[beyond] - self.table.counts[E[beyond]]
            windows[beyond] = self.extra_windows[at]
        return np.asarray(windows)


def sample_weights(
    table: WindowTable,
    weights: Mapping[int, float],
    repeated: Mapping[int, Sequence[int]],
    times: int = 1,
) -> SampleWeights:
    """The weighted items of a window table.

    Args:
        table: the windows.
        weights: of episodes, by their index in the table; 1 where none is given.
        repeated: steps that come more often, by episode.
        times: how many more times they come.
    """
    num = len(table.counts)
    extras: list[np.ndarray] = []
    for episode in range(num):
        offsets, rest = np.divmod(np.asarray(repeated.get(episode, ()), np.int64) - table.t0[episode], table.stride)
        has_window = (rest == 0) & (offsets >= 0) & (offsets < table.counts[episode])
        extras.append(np.repeat(table.start[episode] + offsets[has_window], times))
    num_extras = np.array([len(each) for each in extras], np.int64)
    num_windows = table.counts + num_extras
    weight = np.array([weights.get(episode, 1.0) for episode in range(num)])
    counts = np.where(num_windows > 0, np.rint(num_windows * weight), 0).astype(np.int64)
    return SampleWeights(
        table=table,
        start=np.cumsum(counts) - counts,
        counts=counts,
        num_windows=np.maximum(num_windows, 1),
        step=np.array([_coprime(int(n)) for n in num_windows], np.int64),
        extra_start=np.cumsum(num_extras) - num_extras,
        extra_windows=np.concatenate([*extras, np.zeros(0, np.int64)]),
    )


def changing_frames(values: np.ndarray, window: int = 3) -> np.ndarray:
    """Steps near which a value, such as the gripper's, changes. InternManip's augsteps repeats these frames.

    A step is listed when the values of ``window`` steps centred on it are not all equal.
    """
    changed = np.flatnonzero(np.diff(np.asarray(values).reshape(-1)) != 0)
    reach = window // 2
    near = changed[:, None] + np.arange(1 - reach, reach + 1)
    return np.unique(near[(near >= 0) & (near < len(values))])


def _coprime(n: int) -> int:
    """The step of a walk that visits all of n: coprime to n, and near its golden section so that it spreads early."""
    step = max(1, round(n * 0.6180339887))
    while math.gcd(step, max(n, 1)) != 1:
        step += 1
    return step
