"""What an exact copy of a robomimic demonstration keeps beside its features: other arrays, attributes, next_obs.

robomimic.py packs it into the extra ``robomimic.npz``, writers/robomimic.py unpacks it. Of ``next_obs`` only the last
step is kept where the rest is ``obs`` one step later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tendon.data.extras import npz_arrays, npz_bytes

FILE = "robomimic.npz"
ATTRIBUTES, LAST = "attributes", "next_obs_last/"


@dataclass(frozen=True)
class Rest:
    """Arrays and attributes by path inside a demonstration; ``last`` the final next_obs of keys that follow obs."""

    arrays: Mapping[str, np.ndarray]
    last: Mapping[str, np.ndarray]
    attributes: Mapping[str, Mapping[str, Any]]


def pack(arrays: Mapping[str, np.ndarray], obs: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> bytes:
    """The bytes of the extra; ``obs`` are the arrays that next_obs is compared with, by key."""
    packed: dict[str, np.ndarray] = {}
    for path, values in arrays.items():
        key = path.removeprefix("next_obs/")
        before = obs.get(key) if path.startswith("next_obs/") else None
        if before is not None and follows(before, values):
            packed[LAST + key] = values[-1:]
        else:
            packed[f"arrays/{path}"] = values
    text = json.dumps(
        {path: {k: plain(v) for k, v in each.items()} for path, each in attributes.items()}, sort_keys=True
    )
    packed[ATTRIBUTES] = np.frombuffer(text.encode(), np.uint8)
    return npz_bytes(packed)


def unpack(content: bytes) -> Rest:
    """What ``pack`` packed."""
    arrays = npz_arrays(content)
    attributes = json.loads(arrays.pop(ATTRIBUTES).tobytes())
    last = {name.removeprefix(LAST): arrays.pop(name) for name in list(arrays) if name.startswith(LAST)}
    restored = {path: {k: of_plain(v) for k, v in each.items()} for path, each in attributes.items()}
    return Rest({name.removeprefix("arrays/"): each for name, each in arrays.items()}, last, restored)


def follows(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether ``after`` is ``before`` one step later, byte for byte."""
    same = before.dtype == after.dtype and before.shape == after.shape and len(before) > 0
    return same and before[1:].tobytes() == after[:-1].tobytes()


def plain(value: Any) -> Any:
    """An attribute as JSON: text as it is, numbers with their dtype."""
    if isinstance(value, (str, bytes)):
        return value if isinstance(value, str) else value.decode("utf-8", "replace")
    values = np.asarray(value)
    if values.dtype.kind in "OSU":
        return {"text": [each.decode() if isinstance(each, bytes) else str(each) for each in values.ravel()]}
    return {"dtype": values.dtype.str, "values": values.tolist()}


def of_plain(value: Any) -> Any:
    """The attribute that ``plain`` described."""
    if isinstance(value, str):
        return value
    return value["text"] if "text" in value else np.array(value["values"], value["dtype"])[()]
