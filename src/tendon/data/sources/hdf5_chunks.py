"""Where the values of an HDF5 array lie in the file: in one piece, or in gzip chunks, inflated outside of HDF5's lock.

hdf5_file.py asks first here and reads the ordinary way when the answer is None. Any chunk shape will do, also those
that h5py chooses, whose chunks are tiles across frames.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

DEFLATE, SHUFFLE = 1, 2  # filter numbers of HDF5
MIN_BYTES = 64 << 10  # smaller arrays are read faster the ordinary way


@dataclass(frozen=True)
class StoredArray:
    """What is known of an array without its values; ``offset``: where it lies in the file in one piece, else None."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None

    @classmethod
    def of(cls, array: Any, plist: Any = None) -> StoredArray:
        """That of ``array``, a low-level h5py dataset; ``plist``: how it was created, where that is at hand."""
        plist = array.get_create_plist() if plist is None else plist
        dtype = array.dtype
        return cls(array.shape or (), dtype, _block_offset(array, plist, dtype))

    @property
    def num_bytes(self) -> int:
        """In memory."""
        return math.prod(self.shape) * max(self.dtype.itemsize, 1)


def _block_offset(array: Any, plist: Any, dtype: np.dtype[Any]) -> int | None:
    import h5py

    if plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_external_count() or dtype.kind not in "fiub":
        return None
    offset = array.get_offset()  # None where no value was ever written
    return None if offset is None else int(offset)


def read_chunks(file: int, array: Any) -> np.ndarray | None:
    """All values of ``array`` (a low-level h5py dataset), its chunks read through the file descriptor ``file``.

    None where only HDF5 itself can tell: another filter, chunks that were never written, a small array.
    """
    import h5py

    plist = array.get_create_plist()
    if plist.get_layout() != h5py.h5d.CHUNKED or math.prod(array.shape) * array.dtype.itemsize < MIN_BYTES:
        return None
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if filters not in ([DEFLATE], [SHUFFLE, DEFLATE]) or array.dtype.hasobject:
        return None
    chunk = plist.get_chunk()
    places: list[Any] = []
    array.chunk_iter(places.append)
    if len(places) != math.prod(-(-dim // each) for dim, each in zip(array.shape, chunk, strict=True)):
        return None
    if any(place.filter_mask for place in places):
        return None
    num_bytes = math.prod(chunk) * array.dtype.itemsize
    inflate = _inflater()
    values = np.empty(array.shape, array.dtype)
    for place in sorted(places, key=lambda place: place.byte_offset):
        content = inflate(os.pread(file, place.size, place.byte_offset), num_bytes)
        if len(content) != num_bytes:
            return None
        if SHUFFLE in filters:
            content = np.frombuffer(content, np.uint8).reshape(array.dtype.itemsize, -1).T.tobytes()
        at = tuple(slice(o, min(o + c, n)) for o, c, n in zip(place.chunk_offset, chunk, array.shape, strict=True))
        inside = tuple(slice(0, each.stop - each.start) for each in at)
        values[at] = np.frombuffer(content, array.dtype).reshape(chunk)[inside]
    return values


@lru_cache(maxsize=1)
def _inflater() -> Callable[[bytes, int], bytes]:
    """The fastest one that is installed."""
    try:
        deflate = import_module("deflate")  # libdeflate
        return lambda content, size: bytes(deflate.zlib_decompress(content, size))
    except ImportError:
        return lambda content, size: zlib.decompress(content, bufsize=size)
