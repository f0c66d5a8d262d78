"""Memory of batches, used again: a slab goes back to its pool when nobody holds an array of it any more.

Fresh pages cost as much as hashing them, so nothing is allocated per batch. No copy is needed either to keep a batch:
what is held is simply not used again.
"""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np

ALIGN = 64
HUGE = 4 << 20  # bytes from which huge pages pay


@dataclass(frozen=True)
class Field:
    """One array of a batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @cached_property
    def bytes(self) -> int:
        """Its size."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


def slab_bytes(fields: tuple[Field, ...]) -> int:
    """The size of a batch."""
    return sum(-(-each.bytes // ALIGN) * ALIGN for each in fields)


def arrays_in(whole: np.ndarray, fields: tuple[Field, ...]) -> dict[str, np.ndarray]:
    """The arrays of a batch as views of ``whole``, uint8."""
    found, at = {}, 0
    for each in fields:
        found[each.name] = whole[at : at + each.bytes].view(each.dtype).reshape(each.shape)
        at += -(-each.bytes // ALIGN) * ALIGN
    return found


class Slabs:
    """A pool of slabs of one size."""

    def __init__(self, size: int, pin: Callable[[memoryview], None] | None = None) -> None:
        self.size, self.made, self._pin = max(size, 1), 0, pin
        self._free: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def lend(self, fields: tuple[Field, ...]) -> Mapping[str, np.ndarray]:
        """The arrays of one batch; their memory comes back by itself."""
        with self._lock:
            slab = self._free.pop() if self._free else None
            if slab is None:
                self.made += 1
        if slab is None:
            slab = _memory(self.size)
            if self._pin is not None:
                self._pin(memoryview(slab))
        whole = np.frombuffer(slab, np.uint8)
        weakref.finalize(whole, self._free.append, slab).atexit = False
        return arrays_in(whole, fields)


def _memory(size: int) -> mmap.mmap:
    """Pages of this process, huge ones where the system has them: copying into small ones takes twice as long."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
