"""Pickles that cannot do anything: numbers, text, containers and numpy arrays come out, everything else is refused.

A pickle is a program; the ordinary reader runs whatever it names. This one knows eight names, all of numpy.
"""

from __future__ import annotations

import codecs
import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np


class RefusedError(ValueError):
    """The pickle names something that is not data."""


def loads(content: bytes) -> Any:
    """The value in a pickle.

    Raises:
        RefusedError: it wants to call something else than the makers of numpy arrays.
        ValueError: it is damaged.
    """
    try:
        return _Reader(io.BytesIO(content)).load()
    except RefusedError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise ValueError(f"it is not a whole pickle ({type(error).__name__}: {error})") from error


def _scalar(dtype: np.dtype[Any], content: bytes | None = None) -> np.generic:
    if dtype.hasobject or not isinstance(content, bytes):
        raise RefusedError("it holds a numpy scalar of Python objects")
    value: np.generic = np.frombuffer(content, dtype, 1)[0]
    return value


def _frombuffer(content: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any, *axes: Any) -> np.ndarray:
    if np.dtype(dtype).hasobject or axes:
        raise RefusedError("it holds a numpy array of Python objects")
    array: np.ndarray = np.frombuffer(content, dtype).reshape(shape, order=order)
    return array


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    if kind is not np.ndarray:
        raise RefusedError(f"it makes a {kind}")
    array: np.ndarray = np.ndarray(shape, np.dtype(code.decode()))
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise RefusedError(f"it uses the codec {encoding}")
    return codecs.latin_1_encode(text)[0]


NUMPY: dict[str, object] = {
    "ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": _reconstruct, "scalar": _scalar, "_frombuffer": _frombuffer,
}  # fmt: skip
MODULES = {
    "numpy": ("ndarray", "dtype"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"), "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.numeric": ("_frombuffer",), "numpy._core.numeric": ("_frombuffer",),
}  # fmt: skip


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in MODULES.get(module, ()):
            return NUMPY[name]
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "numpy.dtypes" and name.endswith("DType"):
            return getattr(np.dtypes, name)
        raise RefusedError(f"it wants {module}.{name}, which is not data")

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedError("it names an object outside of itself")
