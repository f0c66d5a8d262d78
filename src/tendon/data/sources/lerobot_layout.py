"""What LeRobot's meta folder says of a dataset: features, cameras, tasks, and where every episode lies. Versions 2.0, 2.1, 3.0.

Values in, values out: ``layout_of`` reads info.json's object, ``episodes_v2`` and ``episodes_v3`` the episode tables.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tendon.data.episode import Camera, Mask
from tendon.data.features import DECLARED, KINDS, TASK, Feature, column
from tendon.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

VERSIONS = ("v2.0", "v2.1", "v3.0")
DERIVED = ("frame_index", "episode_index", "index")  # follow from an episode's place and length
TASK_INDEX = "task_index"
MAX_SIZE = 1 << 16  # of one axis
MAX_VALUES = 4096  # per step; more than this is no low-dimensional feature
DATA_V2 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_V2 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
DATA_V3 = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_V3 = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True, slots=True)
class VideoAt:
    """Where an episode's video lies: the file and the second at which it begins."""

    key: str
    start_s: float


@dataclass(frozen=True, slots=True)
class EpisodeAt:
    """Where an episode lies. ``first_row`` counts in its file."""

    number: int
    length: int
    tasks: tuple[str, ...]
    data_key: str
    first_row: int
    videos: Mapping[str, VideoAt]  # by camera

    @property
    def episode_id(self) -> str:
        """Its name in our dataset."""
        return f"episode_{self.number:06d}"


@dataclass(frozen=True)
class LeRobotLayout:
    """What is read from every episode. Columns have the names of the features and of the cameras, but for the task."""

    version: str
    fps: float
    features: tuple[Feature, ...]
    images: tuple[Camera, ...]  # encoded pictures in the table
    videos: tuple[Camera, ...]  # their encoding is only known from a file
    masks: tuple[Mask, ...]  # pictures that info.json declares to be masks
    left_out: Mapping[str, str]
    splits: Mapping[str, range]
    info: Mapping[str, Any]  # info.json
    strings: tuple[str, ...] = ()  # columns of texts

    def with_texts(self, keys: Sequence[str], left_out: Mapping[str, str]) -> LeRobotLayout:
        """The layout in which these columns of texts are features, and others are left out for a reason."""
        texts = [column(key, "int64", kind="text") for key in keys]
        features = tuple(sorted((*self.features, *texts), key=_place))
        return replace(self, features=features, left_out={**self.left_out, **left_out})


def layout_of(info: Mapping[str, Any], uri: str, many_tasks: bool) -> LeRobotLayout:
    """The layout that info.json describes; ``many_tasks``: an episode has more than one, so that the column is kept.

    Raises:
        DataError: the version is another one, or an entry is not understood.
    """
    version = str(info.get("codebase_version"))
    if version not in VERSIONS:
        raise DataError(
            f"LeRobot's dataset version {version} is not read",
            where=f"{uri}/meta/info.json",
            why=f"the versions are {', '.join(VERSIONS)}",
            fix="convert it with LeRobot's own scripts first"
            if version < "v2"
            else "use a newer version of tendon, or write the dataset with LeRobot 0.4",
        )
    features: list[Feature] = []
    images: list[Camera] = []
    videos: list[Camera] = []
    masks: list[Mask] = []
    strings: list[str] = []
    left_out = {name: "follows from the episode's place and length" for name in DERIVED}
    try:
        fps = float(info["fps"])
        if not (math.isfinite(fps) and fps > 0) or isinstance(info["fps"], bool):
            raise ValueError(f"fps is {info['fps']}, it must be a positive number")
        for name, entry in info["features"].items():
            shape, dtype = tuple(int(each) for each in entry["shape"]), str(entry["dtype"])
            if name in DERIVED:
                continue
            if any(not 0 < size <= MAX_SIZE for size in shape):
                raise ValueError(f"the shape of {name} is {list(shape)}, every size must be from 1 to {MAX_SIZE:,}")
            reason = _reason_to_leave_out(name, dtype, shape, entry, many_tasks)
            declared = (entry.get("info") or {}).get(DECLARED) or {}
            if reason:
                left_out[name] = reason
            elif dtype == "string":
                strings.append(name)
            elif dtype == "image" and declared.get("kind") == "mask":
                height, width, _ = _height_width_channels(shape, entry.get("names"))
                masks.append(Mask(name, _member(name), height, width, "bits"))
            elif dtype in ("image", "video"):
                to = images if dtype == "image" else videos
                taken = [camera.member for camera in (*images, *videos)]
                to.append(_camera(name, _height_width_channels(shape, entry.get("names")), taken, uri))
            else:
                numbers_of_texts = name == TASK_INDEX
                features.append(
                    column(
                        TASK if numbers_of_texts else name,
                        dtype,
                        () if shape == (1,) else shape,
                        kind="text"
                        if numbers_of_texts
                        else declared["kind"]
                        if declared.get("kind") in KINDS
                        else None,
                        names=tuple(declared.get("names") or _names(entry.get("names"), shape)),
                    )
                )
        splits = _splits(info)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            "LeRobot's info.json is not understood",
            where=f"{uri}/meta/info.json",
            why=f"{type(error).__name__}: {error}",
            fix="write the dataset again with LeRobot, or repair the entry",
        ) from error
    features.sort(key=_place)
    return LeRobotLayout(
        version,
        fps,
        tuple(features),
        tuple(images),
        tuple(videos),
        tuple(masks),
        left_out,
        splits,
        info,
        tuple(strings),
    )


def _place(feature: Feature) -> tuple[int, str]:
    rank = {"action": 1, "next.reward": 2, "next.done": 3, "next.success": 4, "timestamp": 5, TASK: 6}
    return rank.get(feature.key, 0), feature.key


def column_of(key: str) -> str:
    """The column of a table that a feature is read from."""
    return TASK_INDEX if key == TASK else key


def episodes_v2(lines: Sequence[Mapping[str, Any]], layout: LeRobotLayout) -> list[EpisodeAt]:
    """Versions 2.0 and 2.1: a line of episodes.jsonl, a parquet file and a video per camera each."""
    per_chunk = int(layout.info.get("chunks_size") or 1000)
    data, video = layout.info.get("data_path") or DATA_V2, layout.info.get("video_path") or VIDEO_V2
    episodes = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # one object for all episodes of the same tasks
    for line in lines:
        number = int(line["episode_index"])
        place = {"episode_chunk": number // per_chunk, "episode_index": number}
        videos = {each.name: VideoAt(_filled(video, video_key=each.name, **place), 0.0) for each in layout.videos}
        tasks = tuple(str(task) for task in line.get("tasks") or ())
        tasks = known.setdefault(tasks, tasks)
        episodes.append(EpisodeAt(number, int(line["length"]), tasks, _filled(data, **place), 0, videos))
    return sorted(episodes, key=lambda each: each.number)


def episode_columns(layout: LeRobotLayout) -> list[str]:
    """The columns of version 3's episode table that are read."""
    names = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index"]
    for camera in layout.videos:
        names += [f"videos/{camera.name}/{each}" for each in ("chunk_index", "file_index", "from_timestamp")]
    return names


def episodes_v3(table: pa.Table, layout: LeRobotLayout) -> list[EpisodeAt]:
    """Version 3.0: a row of the episode table; files hold many episodes."""
    columns = {name: table.column(name).to_pylist() for name in episode_columns(layout)}
    data, video = layout.info.get("data_path") or DATA_V3, layout.info.get("video_path") or VIDEO_V3
    keys = [
        _filled(data, chunk_index=chunk, file_index=file)
        for chunk, file in zip(columns["data/chunk_index"], columns["data/file_index"], strict=True)
    ]
    first_of: dict[str, int] = {}
    for key, first in zip(keys, columns["dataset_from_index"], strict=True):
        first_of[key] = min(first_of.get(key, first), first)
    episodes = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # one object for all episodes of the same tasks
    for i, number in enumerate(columns["episode_index"]):
        videos = {}
        for each in layout.videos:
            chunk, file, start = (
                columns[f"videos/{each.name}/{part}"][i] for part in ("chunk_index", "file_index", "from_timestamp")
            )
            key = _filled(video, video_key=each.name, chunk_index=chunk, file_index=file)
            videos[each.name] = VideoAt(key, float(start))
        tasks = tuple(str(task) for task in columns["tasks"][i] or ())
        tasks = known.setdefault(tasks, tasks)
        first = columns["dataset_from_index"][i] - first_of[keys[i]]
        episodes.append(EpisodeAt(int(number), int(columns["length"][i]), tasks, keys[i], int(first), videos))
    return sorted(episodes, key=lambda each: each.number)


@lru_cache(4096)
def _filled(template: str, **values: int | str) -> str:
    """A path out of a template, whose fields are the names of values and whose widths are short.

    Raises:
        ValueError: it asks for something else.
    """
    _check_template(template, tuple(values))
    return template.format(**values)


@lru_cache(64)
def _check_template(template: str, names: tuple[str, ...]) -> None:
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is not None and (name not in names or conversion or not re.fullmatch(r"(0?\d{1,2}d?)?", spec or "")):
            raise ValueError(f"the path {template[:200]!r} is no template of {', '.join(names)}")


def json_lines(content: bytes) -> list[dict[str, Any]]:
    """The objects of a .jsonl file."""
    return [json.loads(line) for line in content.decode().splitlines() if line.strip()]


def splits_of(number: int, layout: LeRobotLayout) -> tuple[str, ...]:
    """The splits that an episode is in."""
    return tuple(name for name, numbers in layout.splits.items() if number in numbers)


def _splits(info: Mapping[str, Any]) -> dict[str, range]:
    splits = {}
    for name, text in (info.get("splits") or {"train": "0:"}).items():
        first, _, end = str(text).partition(":")
        splits[str(name)] = range(int(first or 0), int(end) if end else np.iinfo(np.int32).max)
    return splits


def _reason_to_leave_out(
    name: str, dtype: str, shape: tuple[int, ...], entry: Mapping[str, Any], many_tasks: bool
) -> str:
    if name == TASK_INDEX and not many_tasks:
        return "every episode has one task, which is its text"
    details = entry.get("info") or entry.get("video_info") or {}
    if dtype == "video" and details.get("video.is_depth_map"):
        return "a video of depth"
    if dtype in ("image", "video"):
        return ""
    if dtype == "string":
        return "" if shape in ((), (1,)) else f"{list(shape)} texts per step"
    if dtype == "language" or np.dtype(dtype).kind not in "fiub":
        return f"values of type {dtype} are not numbers"
    if np.prod(shape, dtype=np.int64) > MAX_VALUES:
        return f"{int(np.prod(shape))} values per step: not low-dimensional"
    return ""


def _names(names: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The names of a vector's dimensions: a list, or a list in an object such as ``{"motors": [...]}``."""
    if isinstance(names, dict) and len(names) == 1:
        names = next(iter(names.values()))
    fits = isinstance(names, list) and len(shape) == 1 and len(names) == shape[0]
    return tuple(names) if fits and all(isinstance(each, str) for each in names) else ()


def _height_width_channels(shape: tuple[int, ...], names: Any) -> tuple[int, int, int]:
    """LeRobot says (h, w, c), and (c, h, w) when the third name is not that of the channels."""
    if len(shape) != 3:
        raise ValueError(f"an image has three dimensions, not {shape}")
    third = names[2] if isinstance(names, list) and len(names) == 3 else "channels"
    if third in ("channel", "channels"):
        return (shape[0], shape[1], shape[2])
    return (shape[1], shape[2], shape[0])


def _member(name: str) -> str:
    key = name.removeprefix("observation.").removeprefix("images.").removeprefix("masks.")
    return re.sub(r"[^a-z0-9_]", "_", key.lower())[:60]


def _camera(name: str, shape: tuple[int, int, int], taken: Sequence[str], uri: str) -> Camera:
    member = _member(name)
    if member in taken:
        raise DataError(
            "two cameras have the same name",
            where=f"{uri}, {name}",
            why=f"both would be called {member} inside a shard, where names are lower case",
            fix="rename one of them in the source",
        )
    return Camera(name, member, *shape)
