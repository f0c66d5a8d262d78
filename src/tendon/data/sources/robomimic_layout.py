"""Which arrays of a robomimic file become features and cameras, and which demonstrations do not fit. Pure.

The layout is what most demonstrations have; one that differs carries a problem that names it and the width elsewhere.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tendon.data.episode import Camera, Mask
from tendon.data.features import KINDS, Feature, column
from tendon.data.sources.hdf5_file import Demo
from tendon.data.sources.source import EpisodeInfo
from tendon.errors import DataError, Problem

log = logging.getLogger(__name__)

MAX_VALUES = 4096  # per step; more than this is no low-dimensional feature
FIXED = {"actions": "action", "actions_abs": "action_abs", "rewards": "next.reward", "dones": "next.done"}
MIN_DEPTH = 8  # pixels a side; smaller is no picture


@dataclass(frozen=True)
class ArrayAt:
    """A feature and the path of its array inside a demonstration."""

    feature: Feature
    path: str


@dataclass(frozen=True)
class CameraAt:
    """A camera and the path of its array inside a demonstration."""

    camera: Camera
    path: str


@dataclass(frozen=True)
class MaskAt:
    """A mask and the path of its array ``[T, H, W]`` inside a demonstration."""

    mask: Mask
    path: str


@dataclass(frozen=True)
class RobomimicLayout:
    """What is read from every demonstration. ``wide``: file name of an extra -> path of an array, such as depth."""

    arrays: tuple[ArrayAt, ...]
    cameras: tuple[CameraAt, ...]
    wide: Mapping[str, str]
    env_args: Mapping[str, Any]
    left_out: Mapping[str, str]
    masks: tuple[MaskAt, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features alone."""
        return tuple(each.feature for each in self.arrays)

    def feature(self, name: str) -> Feature:
        """The feature of that name."""
        return next(each.feature for each in self.arrays if each.feature.key == name)


def common_layout(
    demos: Sequence[Demo], env_args: Mapping[str, Any], exact: bool = False, declared: Mapping[str, Any] | None = None
) -> RobomimicLayout:
    """The layout that most demonstrations share; ``exact`` keeps dtypes and raw frames, and nothing is left out.

    ``declared`` is the object in the attribute DECLARED of the group data, which a file that this program wrote may have:
    what paths alone do not say, ``{"features": {path: {key, kind, names}}, "texts": [...]}``.
    """
    of_path: Mapping[str, Any] = (declared or {}).get("features", {})
    left_out = {} if exact else {"next_obs": "obs one step later"}
    wide: dict[str, str] = {}
    arrays: list[ArrayAt] = []
    cameras: list[CameraAt] = []
    masks: list[MaskAt] = []
    for path in sorted({path for demo in demos for path in demo.shapes}):
        having = [demo for demo in demos if path in demo.shapes]
        shape = Counter(demo.shapes[path][1:] for demo in having).most_common(1)[0][0]
        dtype = next(demo.dtypes[path] for demo in having if demo.shapes[path][1:] == shape)
        entry = of_path.get(path, {})
        reason = _reason_to_leave_out(path, shape, dtype, len(having), len(demos), declared="key" in entry)
        if entry.get("parts") and not exact:
            reason = f"{', '.join(entry['parts'])} side by side"
        if reason:
            if not exact:
                left_out[_group(path)] = reason
        elif entry.get("kind") == "mask":
            masks.append(MaskAt(_mask(entry["key"], shape), path))
        elif entry.get("kind") == "depth":
            taken = [each.camera.member for each in cameras]
            depth = replace(_camera(path, shape, taken, True, entry["key"]), kind="depth")
            cameras.append(CameraAt(depth, path))
        elif entry.get("kind") == "image" or ("key" not in entry and _is_image(shape, dtype)):
            taken = [each.camera.member for each in cameras]
            cameras.append(CameraAt(_camera(path, shape, taken, exact, entry.get("key")), path))
        elif _is_wide(shape):
            wide[f"{_member(path)}.npy"] = path
        else:
            arrays.append(ArrayAt(_feature(path, shape, dtype, exact, entry), path))
    arrays.sort(key=lambda each: (_rank(each.feature.key), each.feature.key))
    texts = tuple((declared or {}).get("texts", ()))
    return RobomimicLayout(tuple(arrays), tuple(cameras), wide, env_args, left_out, tuple(masks), texts)


def episode_infos(
    demos: Sequence[Demo], layout: RobomimicLayout, masks: Mapping[str, Sequence[str]], uri: str
) -> tuple[EpisodeInfo, ...]:
    """Length, splits and problems of every demonstration; without a train mask, what is not in valid is train."""
    names = {demo.name for demo in demos}
    for mask in (mask for mask, members in masks.items() if not len(members)):
        log.warning("convert: mask %s of %s is empty, and ignored", mask, uri)
    masks = {mask: members for mask, members in masks.items() if len(members)}
    for mask, members in masks.items():
        unknown = [name for name in members if name not in names]
        if unknown:
            log.warning("convert: mask %s of %s names demonstrations that do not exist: %s", mask, uri, unknown[:5])
    split_of: dict[str, list[str]] = {name: [] for name in names}
    for mask in sorted(masks):
        for name in dict.fromkeys(masks[mask]):
            split_of.get(name, []).append(mask)
    if "train" not in masks:
        for splits in split_of.values():
            if "valid" not in splits:
                splits.insert(0, "train")
    return tuple(
        EpisodeInfo(demo.name, demo.num_samples, tuple(split_of[demo.name]), tuple(_problems(demo, layout, uri)))
        for demo in demos
    )


def json_attribute(value: Any) -> dict[str, Any]:
    """The object in a JSON attribute; empty when absent or not JSON."""
    try:
        parsed = json.loads(value) if value is not None else {}
    except (TypeError, ValueError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def done_or_cast(values: np.ndarray, feature: Feature) -> np.ndarray:
    """Values in the dtype of their feature; what it cannot hold is infinite, which the check names."""
    if feature.dtype == "bool":
        truths: np.ndarray = values != 0
        return truths
    with np.errstate(over="ignore"):
        return values.astype(feature.dtype, copy=False)


def _problems(demo: Demo, layout: RobomimicLayout, uri: str) -> list[Problem]:
    skip = f"data.skip_episodes=[{demo.name}], or record it again"
    problems = []
    if demo.num_samples <= 0:
        why = f"num_samples is {demo.num_samples}"
        problems.append(Problem(f"{demo.name} has no steps", f"{uri}, data/{demo.name}", why, skip))
    wanted = [(each.path, each.feature.key, each.feature.shape) for each in layout.arrays]
    wanted += [(at.path, at.camera.name, _hwc(at.camera)) for at in layout.cameras]
    wanted += [(at.path, at.mask.name, (at.mask.height, at.mask.width)) for at in layout.masks]
    for path, name, shape in wanted:
        where = f"{uri}, data/{demo.name}/{path}"
        if path not in demo.shapes:
            problems.append(
                Problem(f"{name} is missing in {demo.name}", where, "the other demonstrations have it", skip)
            )
        elif demo.shapes[path][1:] != shape:
            what = f"{name} has {_values(demo.shapes[path][1:])} in {demo.name}, {_values(shape)} elsewhere"
            problems.append(Problem(what, where, "every step of a dataset must have the same shape", skip))
        elif demo.shapes[path][0] != demo.num_samples:
            what = f"{name} has {demo.shapes[path][0]} steps in {demo.name}, num_samples says {demo.num_samples}"
            problems.append(Problem(what, where, "arrays of one demonstration must have the same length", skip))
    return problems


def _reason_to_leave_out(
    path: str, shape: tuple[int, ...], dtype: np.dtype[Any], having: int, total: int, declared: bool = False
) -> str:
    if not (declared or path in FIXED or path.startswith(("obs/", "action_dict/"))):
        return "not an observation, action, reward or done"
    if path in ("rewards", "dones") and having < total:
        return f"only {having} of {total} demonstrations have it"
    if having * 2 <= total:
        return f"only {having} of {total} demonstrations have it"
    if dtype.kind not in "fiub":
        return f"values of type {dtype} are not numbers"
    return ""


def _is_image(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype == np.uint8 and len(shape) == 3 and shape[2] in (1, 3)


def _hwc(camera: Camera) -> tuple[int, ...]:
    return (camera.height, camera.width, camera.channels)


def _is_wide(shape: tuple[int, ...]) -> bool:
    """Depth, or more numbers per step than sums are kept of."""
    depth = len(shape) == 3 and shape[2] == 1 and min(shape[:2]) >= MIN_DEPTH
    return depth or int(np.prod(shape)) > MAX_VALUES


def _rank(name: str) -> int:
    first = ("action", "next.reward", "next.done")
    return first.index(name) + 2 if name in first else int(name.startswith("action"))


def _group(path: str) -> str:
    """What a user is told of: the array itself, or the foreign group that it is in."""
    return path if path.startswith(("obs/", "action_dict/")) else path.partition("/")[0]


def feature_name(path: str) -> str:
    """The name of a feature by the path of its array."""
    dotted = path.replace("/", ".")
    return FIXED.get(path) or (f"observation.{dotted[4:]}" if path.startswith("obs/") else dotted)


def _mask(key: str, shape: tuple[int, ...]) -> Mask:
    return Mask(key, _member(key.rpartition(".")[2]), shape[0], shape[1], "bits")


def _feature(
    path: str, shape: tuple[int, ...], dtype: np.dtype[Any], exact: bool, entry: Mapping[str, Any] | None = None
) -> Feature:
    entry = entry or {}
    name = entry.get("key") or feature_name(path)
    stored = "bool" if path == "dones" else "float32" if dtype.kind == "f" else dtype.name
    if exact:
        stored = dtype.name
    kind = entry["kind"] if entry.get("kind") in KINDS else None
    return column(name, stored, shape, dtype.name, kind=kind, names=tuple(entry.get("names", ())))


def _member(path: str) -> str:
    return re.sub(r"[^a-z0-9_]", "_", path.removeprefix("obs/").lower())[:60]


def _camera(
    path: str, shape: tuple[int, ...], taken: Sequence[str], exact: bool, declared_key: str | None = None
) -> Camera:
    key, member = path.removeprefix("obs/").replace("/", "."), _member(path)
    if member in taken:
        raise DataError(
            "two cameras have the same name",
            where=path,
            why=f"both would be called {member} inside a shard, where names are lower case",
            fix="rename one of them in the source file",
        )
    codec = "npy" if exact else "mjpeg"
    return Camera(declared_key or f"observation.images.{key}", member, shape[0], shape[1], shape[2], codec)


def _values(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} values" if len(shape) == 1 else f"shape {shape}"
