"""Memory for batches, reused: a buffer returns to its pool when the last reference to its arrays is gone.

Touching fresh pages costs as much as hashing them, so nothing is allocated per batch. To keep a batch, keep a reference
to it: no copy is needed.
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


def batch_bytes(fields: tuple[Field, ...]) -> int:
    """The size of a batch in bytes, every array aligned."""
    return sum(-(-each.bytes // ALIGN) * ALIGN for each in fields)


def arrays_in(whole: np.ndarray, fields: tuple[Field, ...]) -> dict[str, np.ndarray]:
    """The arrays of a batch as views of ``whole``, uint8."""
    arrays, at = {}, 0
    for each in fields:
        arrays[each.name] = whole[at : at + each.bytes].view(each.dtype).reshape(each.shape)
        at += -(-each.bytes // ALIGN) * ALIGN
    return arrays


class BatchBuffers:
    """A pool of buffers of one size."""

    def __init__(self, size: int, pin: Callable[[memoryview], None] | None = None) -> None:
        self.size, self.made, self._pin = max(size, 1), 0, pin
        self._free: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def lend(self, fields: tuple[Field, ...]) -> Mapping[str, np.ndarray]:
        """The arrays of one batch; their memory returns to the pool by itself."""
        with self._lock:
            buffer = self._free.pop() if self._free else None
            if buffer is None:
                self.made += 1
        if buffer is None:
            buffer = _memory(self.size)
            if self._pin is not None:
                self._pin(memoryview(buffer))
        # Every array of the batch is a view of ``whole``: it is collected after the last of them.
        whole = np.frombuffer(buffer, np.uint8)
        weakref.finalize(whole, self._free.append, buffer).atexit = False
        return arrays_in(whole, fields)


def _memory(size: int) -> mmap.mmap:
    """Anonymous memory, in huge pages where the system has them: copying into small ones takes twice as long."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
