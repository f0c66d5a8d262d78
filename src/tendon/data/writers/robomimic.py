"""A dataset as one robomimic HDF5 file, which robomimic from 0.3 on opens; ``write_dataset`` calls it.

Names, dtypes, masks and env_args are those of the source where it was a robomimic file. Converted with
``exact=true`` every array leaves byte for byte, with ``states``, ``next_obs``, attributes and the rest; otherwise
numbers have float32 precision, frames are decoded JPEGs, and ``next_obs`` (obs one step later) is not written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.dataset import Dataset, EpisodeRow
from tendon.data.extras import npy_array
from tendon.data.sources import robomimic_rest as rest
from tendon.data.writers import Progress

NAMES = {"action": "actions", "action_abs": "actions_abs", "next.reward": "rewards", "next.done": "dones"}
GYM = 2  # env type of robomimic for data from elsewhere; its training does not look at it


def write(dataset: Dataset, target: Path, progress: Progress) -> None:
    """Make the file ``target``."""
    import h5py

    metadata = dataset.manifest.metadata
    names = demo_names(dataset.rows)
    with h5py.File(target, "w") as file:
        data = file.create_group("data")
        for done, (row, name) in enumerate(zip(dataset.rows, names, strict=True), 1):
            _write_demo(dataset, row, data.create_group(name))
            progress(done, len(names), "episodes written")
        kept = metadata.get("robomimic", {}).get("attributes", {})
        for key, value in kept.items():
            data.attrs[key] = rest.of_plain(value)
        if "env_args" not in kept:
            data.attrs["env_args"] = json.dumps(_env_args(dataset), indent=4)
        data.attrs["total"] = sum(row.length for row in dataset.rows)
        for mask, members in _masks(dataset, names).items():
            file[f"mask/{mask}"] = np.array(members, dtype="S")


def demo_names(rows: Sequence[EpisodeRow]) -> list[str]:
    """``demo_<number>`` of every episode: its own name where all have such names, else by position."""
    own = [row.episode_id for row in rows]
    return own if all(re.fullmatch(r"demo_\d+", name) for name in own) else [f"demo_{i}" for i in range(len(rows))]


def array_path(name: str) -> str:
    """Where a feature or camera lies in a demonstration when the source did not say."""
    key = name.removeprefix("observation.").removeprefix("images.")
    return NAMES.get(name) or (f"obs/{key}" if name.startswith("observation.") else f"action_dict/{key}")


def _write_demo(dataset: Dataset, row: EpisodeRow, group: Any) -> None:
    metadata, schema = dataset.manifest.metadata, dataset.manifest.schema
    paths: dict[str, str] = metadata.get("paths", {})
    rows = dataset.lowdim(row)
    group.attrs["num_samples"] = row.length
    written: dict[str, np.ndarray] = {}
    for feature in schema.columns:
        path = paths.get(feature.key) or array_path(feature.key)
        written[path] = np.ascontiguousarray(rows[feature.key], feature.source_dtype)
    for camera in schema.cameras:
        written[paths.get(camera.name) or array_path(camera.name)] = dataset.frames(row, camera.name)
    extras = dataset.extras(row)
    written |= {path: npy_array(extras[name]) for name, path in metadata.get("extras", {}).items() if name in extras}
    if rest.FILE in extras:
        others = rest.unpack(extras[rest.FILE])
        written |= others.arrays
        for key, last in others.last.items():
            written[f"next_obs/{key}"] = np.concatenate([written[f"obs/{key}"][1:], last])
    elif row.task and row.task != _env_args(dataset).get("env_name"):
        group.attrs["ep_meta"] = json.dumps({"lang": row.task})
    for path, values in written.items():
        group.create_dataset(path, data=values)
    if rest.FILE in extras:
        for path, attributes in others.attributes.items():
            at = group[path] if path in group else group.require_group(path) if path else group
            for key, value in attributes.items():
                at.attrs[key] = value
    actions = group.get("actions")
    if actions is not None and actions.ndim == 1:  # robomimic expects two axes
        values = actions[()]
        del group["actions"]
        group["actions"] = values[:, None]


def _env_args(dataset: Dataset) -> dict[str, Any]:
    known: dict[str, Any] = dict(dataset.manifest.metadata.get("env_args", {}))
    return known or {"env_name": dataset.manifest.name, "type": GYM, "env_kwargs": {}}


def _masks(dataset: Dataset, names: list[str]) -> dict[str, list[str]]:
    """Names of demonstrations per mask; a train split that the source did not name is left out."""
    kept: dict[str, list[str]] | None = dataset.manifest.metadata.get("robomimic", {}).get("masks")
    if kept is not None:
        there = set(names)
        return {mask: [name for name in members if name in there] for mask, members in kept.items()}
    own = dataset.manifest.metadata.get("masks", list(dataset.manifest.splits))
    return {
        mask: [name for row, name in zip(dataset.rows, names, strict=True) if mask in row.splits]
        for mask in sorted(own)
    }
