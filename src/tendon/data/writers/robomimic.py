"""A dataset as one robomimic HDF5 file, which robomimic from 0.3 on opens; ``write_dataset`` calls it.

Names, dtypes, masks and env_args are those of the source where it was a robomimic file. Converted with
``exact=true`` every array leaves byte for byte, with ``states``, ``next_obs``, attributes and the rest; otherwise
numbers have float32 precision, frames are decoded JPEGs, and ``next_obs`` (obs one step later) is not written.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.demonstrations import Demonstrations
from tendon.data.extras import npy_array
from tendon.data.features import DECLARED, TASK, is_action_part, kind_in_vocabulary
from tendon.data.rows import EpisodeRow
from tendon.data.sources import robomimic_rest as rest
from tendon.data.sources.hdf5_values import write_attribute
from tendon.data.sources.robomimic_layout import feature_name
from tendon.data.writers import Progress

NAMES = {"action": "actions", "action_abs": "actions_abs", "next.reward": "rewards", "next.done": "dones"}
GYM = 2  # env type of robomimic for data from elsewhere; its training does not look at it


def write(dataset: Demonstrations, target: Path, progress: Progress) -> None:
    """Make the file ``target``."""
    import h5py

    metadata = dataset.metadata
    names = demo_names(dataset.rows, exact="robomimic" in metadata)
    with h5py.File(target, "w") as file:
        data = file.create_group("data")
        paths = _Paths.in_file(dataset)
        if paths.declared:
            data.attrs[DECLARED] = json.dumps(paths.declared)
        for done, (row, name) in enumerate(zip(dataset.rows, names, strict=True), 1):
            _write_demo(dataset, row, data.create_group(name), paths)
            progress(done, len(names), "episodes written")
        exact = metadata.get("robomimic")
        kept = exact["attributes"] if exact else {}
        for key, value in kept.items():
            write_attribute(data, key, value)
        if "env_args" not in kept and not exact:
            data.attrs["env_args"] = json.dumps(_env_args(dataset), indent=4)
        is_whole = exact is not None and exact.get("episodes") == len(dataset.rows)
        if not is_whole:
            data.attrs["total"] = sum(row.length for row in dataset.rows)
        beside = rest.unpack(base64.b64decode(exact["file"])) if exact and "file" in exact else None
        for mask, members in _masks(dataset, names).items():
            if not (is_whole and beside and f"mask/{mask}" in beside.arrays):
                file[f"mask/{mask}"] = np.array(members, dtype="S")
        if beside is not None:
            _write_beside(file, beside)


def _write_beside(file: Any, beside: rest.Rest) -> None:
    for path, values in beside.arrays.items():
        if path not in file:
            beside.write_array(file, path, values)
    beside.write_links(file)
    beside.write_attributes(file)


def demo_names(rows: Sequence[EpisodeRow], *, exact: bool = False) -> list[str]:
    """``demo_<number>`` of every episode: its own name where all have such names or it is an exact copy, else by position."""
    own = [row.episode_id for row in rows]
    is_kept = exact or all(re.fullmatch(r"demo_\d+", name) for name in own)
    return own if is_kept else [f"demo_{i}" for i in range(len(rows))]


def array_path(key: str, kind: str = "state") -> str:
    """Where a feature, camera or mask lies in a demonstration when the source did not say."""
    if key in NAMES:
        return NAMES[key]
    if key.startswith("observation."):
        return "obs/" + key.removeprefix("observation.").removeprefix("images.").removeprefix("masks.")
    return f"text/{key}" if kind == "text" else f"action_dict/{key.removeprefix('action.')}"


@dataclass(frozen=True)
class _Paths:
    """Where the features of a dataset lie in a demonstration, by key, and what robomimic's paths do not say of them."""

    of: Mapping[str, str]
    parts: tuple[str, ...]  # several actions, which lie side by side in ``actions`` too
    declared: Mapping[str, Any]

    @classmethod
    def in_file(cls, dataset: Demonstrations) -> _Paths:
        schema, known = dataset.schema, dataset.metadata.get("paths", {})
        features = [each for each in schema.features if each.key != TASK or each in schema.columns]
        paths = {each.key: known.get(each.key) or array_path(each.key, each.kind) for each in features}
        parts = tuple(each.key for each in schema.columns if is_action_part(each.key))
        parts = () if NAMES["action"] in paths.values() else parts
        entries: dict[str, Any] = {NAMES["action"]: {"parts": list(parts)}} if parts else {}
        for each in features:
            path = paths[each.key]
            as_read = f"observation.images.{path.removeprefix('obs/')}" if each.kind == "image" else feature_name(path)
            usual = "image" if each.kind == "image" else kind_in_vocabulary(each.key)
            if each.names or (each.key, each.kind) != (as_read.replace("/", "."), usual):
                entries[path] = {"key": each.key, "kind": each.kind}
                entries[path] |= {"names": list(each.names)} if each.names else {}
        declared = {"features": entries, "texts": list(schema.texts)} if entries or schema.texts else {}
        return cls(paths, parts, declared)


def _write_demo(dataset: Demonstrations, row: EpisodeRow, group: Any, paths: _Paths) -> None:
    metadata, schema = dataset.metadata, dataset.schema
    rows = dataset.lowdim(row)
    written: dict[str, np.ndarray] = {}
    for feature in schema.columns:
        written[paths.of[feature.key]] = np.ascontiguousarray(rows[feature.key], feature.source_dtype)
    if paths.parts:
        side_by_side = [rows[key].reshape(row.length, -1).astype(np.float64) for key in paths.parts]
        written[NAMES["action"]] = np.concatenate(side_by_side, 1)
    for camera in schema.cameras:
        written[paths.of[camera.name]] = np.asarray(dataset.frames(row, camera.name), camera.dtype)
    for mask in schema.masks:
        written[paths.of[mask.name]] = dataset.masks(row, mask.name)
    extras = dataset.extras(row)
    written |= {path: npy_array(extras[name]) for name, path in metadata.get("extras", {}).items() if name in extras}
    if rest.FILE in extras:
        others = rest.unpack(extras[rest.FILE])
        written |= others.arrays
        for key, last in others.last.items():
            written[f"next_obs/{key}"] = np.concatenate([written[f"obs/{key}"][1:], last])
    elif row.task and row.task != _env_args(dataset).get("env_name"):
        group.attrs["ep_meta"] = json.dumps({"lang": row.task})
    if rest.FILE in extras:
        for path, values in written.items():
            others.write_array(group, path, values)
        others.write_links(group)
        others.write_attributes(group)
        return
    group.attrs["num_samples"] = row.length
    for path, values in written.items():
        group.create_dataset(path, data=values)
    actions = group.get("actions")
    if actions is not None and actions.ndim == 1:  # robomimic expects two axes
        values = actions[()]
        del group["actions"]
        group["actions"] = values[:, None]


def _env_args(dataset: Demonstrations) -> dict[str, Any]:
    known: dict[str, Any] = dict(dataset.metadata.get("env_args", {}))
    return known or {"env_name": dataset.name, "type": GYM, "env_kwargs": {}}


def _masks(dataset: Demonstrations, names: list[str]) -> dict[str, list[str]]:
    """Names of demonstrations per mask; a train split that the source did not name is left out."""
    kept: dict[str, list[str]] | None = dataset.metadata.get("robomimic", {}).get("masks")
    if kept is not None:
        there = set(names)
        return {mask: [name for name in members if name in there] for mask, members in kept.items()}
    own = dataset.metadata.get("masks", list(dataset.splits))
    return {
        mask: [name for row, name in zip(dataset.rows, names, strict=True) if mask in row.splits]
        for mask in sorted(own)
    }
