"""What travels beside features and cameras, as bytes: arrays by path in an .npz, one array in a .npy.

Sources make them, writers and tools read them back. Equal values give equal bytes; nothing is ever unpickled.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every file in the archive


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An .npz file, not compressed; names may be paths."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, values in sorted(arrays.items()):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(values), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), content.getvalue())
    return buffer.getvalue()


def npz_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays in an .npz file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def npy_bytes(values: np.ndarray) -> bytes:
    """A .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(values), allow_pickle=False)
    return buffer.getvalue()


def npy_array(content: bytes) -> np.ndarray:
    """The array in a .npy file."""
    return np.asarray(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))
