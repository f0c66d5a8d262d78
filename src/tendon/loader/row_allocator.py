"""Allocators of reused memory: runs of rows in the unit cache's arrays, and byte buffers for reads."""

from __future__ import annotations

import bisect
import threading

import numpy as np

SMALLEST = 1 << 16


class RowAllocator:
    """Hands out runs of neighbouring rows. ``whole``: the dataset fits, so each unit has rows of its own, unmanaged."""

    def __init__(self, rows: int, whole: bool) -> None:
        self.whole = whole
        self._free: list[tuple[int, int]] = [(0, rows)]  # first row and number, in order

    def take(self, rows: int) -> int | None:
        """The first row of a run, None when no run is long enough."""
        for i, (first, count) in enumerate(self._free):
            if count >= rows:
                if count == rows:
                    del self._free[i]
                else:
                    self._free[i] = (first + rows, count - rows)
                return first
        return None

    def give_back(self, first: int, rows: int) -> None:
        """Free a run; it is merged with free neighbours."""
        i = bisect.bisect(self._free, (first, 0))
        if i < len(self._free) and self._free[i][0] == first + rows:
            rows += self._free.pop(i)[1]
        if i and sum(self._free[i - 1]) == first:
            self._free[i - 1] = (self._free[i - 1][0], self._free[i - 1][1] + rows)
        else:
            self._free.insert(i, (first, rows))


class ReadBuffers:
    """Byte buffers in powers of two; up to ``keep`` bytes of free ones are kept."""

    def __init__(self, keep: int) -> None:
        self._keep, self._kept = keep, 0
        self._free: dict[int, list[np.ndarray]] = {}
        self._lock = threading.Lock()

    def take(self, size: int) -> np.ndarray:
        """A buffer of exactly ``size`` bytes, a view of a larger one."""
        capacity = max(SMALLEST, 1 << (size - 1).bit_length()) if size else SMALLEST
        with self._lock:
            free = self._free.get(capacity)
            if free:
                self._kept -= capacity
                return free.pop()[:size]
        return np.empty(capacity, np.uint8)[:size]

    def give_back(self, buffers: list[np.ndarray]) -> None:
        """Free buffers that ``take`` gave."""
        with self._lock:
            for view in buffers:
                whole = view if view.base is None else view.base
                if self._kept + len(whole) <= self._keep:
                    self._free.setdefault(len(whole), []).append(whole)
                    self._kept += len(whole)
