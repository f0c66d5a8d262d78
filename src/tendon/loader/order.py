"""The order of samples as a pure function of (seed, epoch): no random object, no state, the same on every machine.

Order is the argsort of 64-bit keys made by splitmix64, so it depends on no library's random streams. The loader asks
for samples ``[first, first + count)`` of one endless stream in which every epoch holds every window once.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

MASK = (1 << 64) - 1
EPOCHS_KEPT = 2  # a batch may lie across the border of two


def splitmix64(values: np.ndarray) -> np.ndarray:
    """Mix 64-bit integers so that neighbours share nothing; a bijection."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def salt(*parts: int) -> np.ndarray:
    """One 64-bit salt from a chain of integers, as an array of one."""
    mixed = np.zeros(1, np.uint64)
    for part in parts:
        mixed = splitmix64(mixed ^ np.uint64(part & MASK))
    return mixed


def keyed_order(num: int, *salts: int) -> np.ndarray:
    """A permutation of ``range(num)`` that depends on the salts alone."""
    return np.argsort(splitmix64(np.arange(num, dtype=np.uint64) ^ salt(*salts)))  # no two keys are equal


class Order:
    """Which window stands at which position of the endless stream. Its cache changes speed, never the answer.

    One lane: each epoch is a true permutation of all windows. Several lanes (for sets that do not fit in memory) will
    permute inside blocks of episodes; positions and epochs keep their meaning.
    """

    def __init__(self, num_windows: int, seed: int, lanes: int = 1) -> None:
        assert num_windows > 0
        assert lanes == 1, "more lanes come with streaming"
        self.num_windows, self.seed, self.lanes = num_windows, seed, lanes
        self._epochs: OrderedDict[int, np.ndarray] = OrderedDict()

    def epoch_of(self, position: int) -> int:
        """The epoch of a position."""
        return position // self.num_windows

    def windows(self, first: int, count: int) -> np.ndarray:
        """The windows at positions ``[first, first + count)``."""
        epoch, start = divmod(first, self.num_windows)
        if start + count <= self.num_windows:
            return self._epoch(epoch)[start : start + count]
        parts = []
        while count > 0:
            part = self._epoch(epoch)[start : start + count]
            parts.append(part)
            count, epoch, start = count - len(part), epoch + 1, 0
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            self._epochs[epoch] = keyed_order(self.num_windows, self.seed, epoch, 0)
            if len(self._epochs) > EPOCHS_KEPT:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]
