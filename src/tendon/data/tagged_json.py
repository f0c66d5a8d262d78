"""Python values as JSON and back without loss: tuples, dictionaries with any key, numpy arrays and numbers are tagged.

For what foreign formats keep in pickles and we keep in extras: readable without us, and nothing in it can be executed.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

TUPLE, DICT, ARRAY = "$tuple", "$dict", "$array"  # $array: dtype, shape (null for a scalar), values
TAGS = {TUPLE, DICT, ARRAY}


def dumps(value: object) -> bytes:
    """The JSON of a value; equal values of equal order give equal bytes."""
    return json.dumps(_tagged(value), separators=(",", ":")).encode()


def loads(content: bytes) -> Any:
    """The value that ``dumps`` wrote."""
    return _untagged(json.loads(content))


def _tagged(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [_tagged(each) for each in value]
    if isinstance(value, tuple):
        return {TUPLE: [_tagged(each) for each in value]}
    if isinstance(value, dict):
        if all(type(key) is str for key in value) and not TAGS & value.keys():
            return {key: _tagged(each) for key, each in value.items()}
        return {DICT: [[_tagged(key), _tagged(each)] for key, each in value.items()]}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufSU":
        values = value.tolist() if value.dtype.kind != "S" else np.char.decode(value, "latin-1").tolist()
        return {ARRAY: [value.dtype.str, list(value.shape) if isinstance(value, np.ndarray) else None, values]}
    raise TypeError(f"a value of type {type(value).__name__}")


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(each) for each in value]
    if not isinstance(value, dict):
        return value
    if TUPLE in value:
        return tuple(_untagged(each) for each in value[TUPLE])
    if DICT in value:
        return {_untagged(key): _untagged(each) for key, each in value[DICT]}
    if ARRAY in value:
        dtype, shape, values = value[ARRAY]
        return np.array(values, dtype)[()] if shape is None else np.array(values, dtype).reshape(shape)
    return {key: _untagged(each) for key, each in value.items()}
