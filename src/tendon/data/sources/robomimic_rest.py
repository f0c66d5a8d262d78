"""What an exact copy of a robomimic demonstration keeps beside its features: other arrays, attributes, next_obs.

robomimic.py packs it into the extra ``robomimic.npz``, writers/robomimic.py unpacks it. Of ``next_obs`` only the last
step is kept where the rest is ``obs`` one step later. What stands beside the demonstrations is packed the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tendon.data.extras import npz_arrays, npz_bytes
from tendon.data.sources import hdf5_values as hdf5

FILE = "robomimic.npz"
ATTRIBUTES, LAST, TYPES = "attributes", "next_obs_last/", "types"


@dataclass(frozen=True)
class Rest:
    """Arrays and attributes by path inside a group; ``last`` the final next_obs of keys that follow obs.

    ``attributes`` are as hdf5_values describes them, a group without any and without members is among them. ``types``:
    type and shape of arrays that numpy would give back otherwise, and the targets of soft links.
    """

    arrays: Mapping[str, np.ndarray]
    last: Mapping[str, np.ndarray]
    attributes: Mapping[str, Mapping[str, Any]]
    types: Mapping[str, Mapping[str, Any]]

    def write_attributes(self, group: Any) -> None:
        """All of them, and groups that nothing else makes."""
        for path, attributes in self.attributes.items():
            at = group[path] if path in group else group.require_group(path) if path else group
            for key, value in attributes.items():
                if key in at.attrs:
                    del at.attrs[key]
                hdf5.write_attribute(at, key, value)

    def write_array(self, group: Any, path: str, values: np.ndarray) -> None:
        """An array as it was."""
        if path in self.types:
            hdf5.write_array(group, path, dict(self.types[path]), values)
        else:
            group.create_dataset(path, data=values)

    def write_links(self, group: Any) -> None:
        """Soft links that no copy of their target stands for."""
        import h5py

        for path, entry in self.types.items():
            if hdf5.LINK in entry and path not in group:
                group[path] = h5py.SoftLink(entry[hdf5.LINK])


def pack(
    arrays: Mapping[str, np.ndarray],
    obs: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any],
    types: Mapping[str, Any],
) -> bytes:
    """The bytes of the extra; ``obs`` are the arrays that next_obs is compared with, by key."""
    packed: dict[str, np.ndarray] = {}
    for path, values in arrays.items():
        key = path.removeprefix("next_obs/")
        before = obs.get(key) if path.startswith("next_obs/") else None
        if before is not None and follows(before, values):
            packed[LAST + key] = values[-1:]
        else:
            packed[f"arrays/{path}"] = values
    packed[ATTRIBUTES] = _text(attributes)
    if types:
        packed[TYPES] = _text(types)
    return npz_bytes(packed)


def unpack(content: bytes) -> Rest:
    """What ``pack`` packed."""
    arrays = npz_arrays(content)
    attributes = json.loads(arrays.pop(ATTRIBUTES).tobytes())
    types = json.loads(arrays.pop(TYPES).tobytes()) if TYPES in arrays else {}
    last = {name.removeprefix(LAST): arrays.pop(name) for name in list(arrays) if name.startswith(LAST)}
    return Rest({name.removeprefix("arrays/"): each for name, each in arrays.items()}, last, attributes, types)


def _text(value: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(json.dumps(value, sort_keys=True).encode(), np.uint8)


def follows(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether ``after`` is ``before`` one step later, byte for byte."""
    same = before.dtype == after.dtype and before.shape == after.shape and len(before) > 0
    return same and before[1:].tobytes() == after[:-1].tobytes()
