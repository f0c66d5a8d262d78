"""LeRobot datasets in, versions 2.0, 2.1 and 3.0: a folder -> SourceInfo and Episodes.

Tables become arrays without a loop over steps; videos are cut at key frames and copied, never decoded; pictures in a
table are decoded one camera at a time. Values keep their dtype.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tendon.data.episode import Camera, Episode, Frames, LazyImages, Schema
from tendon.data.features import TASK
from tendon.data.sources.folder import SourceFolder
from tendon.data.sources.hashes import Meanwhile
from tendon.data.sources.lerobot_layout import (
    TASK_INDEX,
    EpisodeAt,
    LeRobotLayout,
    column_of,
    episode_columns,
    episodes_v2,
    episodes_v3,
    json_lines,
    layout_of,
    splits_of,
)
from tendon.data.sources.lerobot_numbers import NumberBlocks
from tendon.data.sources.lerobot_table import DataFiles, masks_at, numbers_of, pictures_at, text_numbers
from tendon.data.sources.lerobot_video import VideoFiles
from tendon.data.sources.source import EpisodeInfo, SourceInfo, digest_with_features
from tendon.errors import DataError, Problem
from tendon.storage import join, open_store

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

INFO = "meta/info.json"
TIMESTAMP = "timestamp"
CHUNK_FRAMES = 256
FILE_COST = 100_000  # bytes that are read in the time of opening one
MODALITY = "meta/modality.json"  # of GR00T and InternManip; here it is only kept
MAX_TEXTS = 1_000_000  # characters of all texts of a column
MAX_TASK_TEXT = 40_000  # bytes of all tasks that still go into the manifest


def sniff(uri: str) -> bool:
    """Whether ``uri`` is a folder with LeRobot's meta/info.json."""
    store = open_store(uri)
    if uri.lower().endswith((".hdf5", ".h5")) or store.head(INFO) is None:
        return False
    try:
        return "codebase_version" in json.loads(store.read(INFO))
    except (ValueError, TypeError, RecursionError):
        return False


def open_uri(uri: str) -> LeRobotSource:
    """The reader of a local or S3 folder."""
    return LeRobotSource(uri)


class LeRobotSource:
    """A Source over one LeRobot dataset."""

    parser = "Arrow and FFmpeg"
    libraries = ("pyarrow.parquet",)

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.folder = SourceFolder(uri)
        self._info: SourceInfo | None = None
        self._layout: LeRobotLayout | None = None
        self._episodes: dict[str, EpisodeAt] = {}
        self._data = DataFiles(self.folder)
        self._videos = VideoFiles(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "folder": self.folder, "info": self._info, "layout": self._layout,
                "episodes": self._episodes}  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["uri"])  # type: ignore[misc]
        self.folder, self._info = state["folder"], state["info"]
        self._layout, self._episodes = state["layout"], state["episodes"]
        self._data, self._videos = DataFiles(self.folder), VideoFiles(self.folder)

    def describe(self) -> SourceInfo:
        """Everything but the values; local videos are looked at to see whether they show what the tables say."""
        if self._info is None:
            self._info = self._describe()
        return self._info

    def num_bytes_on_disk(self) -> int:
        """How much is read for the digest and the tables, in bytes: opening a file or a row group takes time too."""
        sizes = self.folder.sizes
        return (
            sum(sizes.values())
            + sum(5 * n for key, n in sizes.items() if key.endswith(".parquet"))
            + FILE_COST * len(sizes)
        )

    def check_unchanged(self) -> None:
        """Nothing, if the files are still those whose digest was taken.

        Raises:
            DataError: a file was written, replaced, added or removed.
        """
        self.folder.check_unchanged()

    def check_used_unchanged(self) -> None:
        """The same for the files that were read since this was asked last."""
        self.folder.check_used_unchanged()

    @cached_property
    def _numbers(self) -> NumberBlocks:
        assert self._layout is not None
        layout = self._layout

        def as_arrays(table: pa.Table, where: str) -> dict[str, np.ndarray]:
            return {
                each.key: text_numbers(table.column(each.key), self._text_numbers, where)
                if each.key in layout.strings
                else numbers_of(table.column(column_of(each.key)), each, where)
                for each in layout.features
            }

        return NumberBlocks(self._data, [column_of(each.key) for each in layout.features], as_arrays)

    def read(self, episode_id: str, images: bool = True) -> Episode:
        """One episode; without ``images`` only its low-dimensional features.

        Raises:
            DataError: a file is missing or unreadable, or does not hold what the dataset's tables say.
        """
        self.describe()
        assert self._layout is not None
        at, layout = self._episodes[episode_id], self._layout
        features = self._numbers.features(at)
        frames: dict[str, Callable[[], Frames]] = {}
        times = features[TIMESTAMP].astype(np.float64) if TIMESTAMP in features else np.arange(at.length) / layout.fps
        if not images and self.folder.is_local:  # the check phase: do the timestamps fit the videos?
            for each in layout.videos:
                self._videos.check(at, each.name, times)
        if images:
            frames = {each.name: partial(pictures_at, self._data, at, each) for each in layout.images}
            frames |= {
                each.name: partial(self._videos.cut, at, each.name, times, CHUNK_FRAMES) for each in layout.videos
            }
        masks = {each.name: masks_at(self._data, at, each) for each in (layout.masks if images else ())}
        return Episode(
            episode_id, at.length, features, LazyImages(frames), self._task(at, features),
            _success(features), {"episode_index": at.number, "file": at.data_key}, masks=masks,
        )  # fmt: skip

    def _task(self, at: EpisodeAt, features: Mapping[str, np.ndarray]) -> str:
        """Of several tasks that of the first frame: the table of episodes lists them in any order."""
        if TASK in features and self._info is not None:
            number, texts = int(features[TASK].reshape(-1)[0]), self._info.schema.texts
            if 0 <= number < len(texts):
                return texts[number]
        return at.tasks[0] if at.tasks else ""

    @cached_property
    def _text_numbers(self) -> dict[str, int]:
        return {text: number for number, text in enumerate(self.describe().schema.texts)}

    def task_texts(self) -> list[str]:
        """The text of every task by its number."""
        self.describe()
        assert self._layout is not None
        return self._tasks(self._layout)

    def _describe(self) -> SourceInfo:
        info = json.loads(self.folder.read(INFO))
        used = [key for key in self.folder.sizes if key.startswith(("meta/", "data/", "videos/"))]
        hashed = Meanwhile(partial(self.folder.digest, used))
        layout = layout_of(info, self.uri, many_tasks=True)
        episodes = self._tables(layout)
        if not any(len(each.tasks) > 1 for each in episodes):
            layout = layout_of(info, self.uri, many_tasks=False)
        if not any(each.length for each in episodes):
            raise DataError(
                "the dataset is empty",
                where=self.uri,
                why=f"it has {len(episodes)} episodes and no step",
                fix="record demonstrations into it, or name another folder",
            )
        layout = replace(layout, videos=tuple(self._seen(each, episodes, layout.fps) for each in layout.videos))
        layout, strings, constants = self._with_texts(layout, episodes)
        self._layout, self._episodes = layout, {each.episode_id: each for each in episodes}
        for key, reason in layout.left_out.items():
            log.info("convert: %s of %s is left out: %s", key, self.uri, reason)
        has_texts = any(each.kind == "text" for each in layout.features)
        tasks = self._tasks(layout) if has_texts else []
        known = set(tasks)
        texts = (*tasks, *(text for text in strings if text not in known))  # a task keeps its number
        schema = Schema(layout.features, (*layout.images, *layout.videos), layout.fps, layout.masks, texts)
        digest = digest_with_features(hashed.result(), schema)
        return SourceInfo(
            "lerobot", self.uri, digest, sum(self.folder.sizes[key] for key in used), schema,
            tuple(EpisodeInfo(e.episode_id, e.length, splits_of(e.number, layout), tuple(self._problems(e, layout)))
                  for e in episodes),
            {"lerobot": self._metadata(layout, episodes)} | self._texts_told(layout, constants), layout.left_out,
        )  # fmt: skip

    def _with_texts(
        self, layout: LeRobotLayout, episodes: Sequence[EpisodeAt]
    ) -> tuple[LeRobotLayout, list[str], dict[str, str]]:
        """The layout with the columns of texts that are kept, their texts, and those columns that hold one text only."""
        keys = [key for key in dict.fromkeys(each.data_key for each in episodes) if key in self.folder.sizes]
        kept: dict[str, list[str]] = {}
        left_out: dict[str, str] = {}
        for name in layout.strings:
            found = self._data.texts_of(keys, name, MAX_TEXTS)
            if isinstance(found, str):
                left_out[name] = found
            else:
                kept[name] = found
        constants = {name: texts[0] if texts else "" for name, texts in kept.items() if len(texts) <= 1}
        changing = [name for name in kept if name not in constants]
        texts = sorted({text for name in changing for text in kept[name]})
        return layout.with_texts(changing, left_out), texts, constants

    def _texts_told(self, layout: LeRobotLayout, constants: Mapping[str, str]) -> dict[str, Any]:
        """What a writer needs to make columns of texts again."""
        changing = [each.key for each in layout.features if each.key in layout.strings]
        told: dict[str, Any] = {"strings": changing} if changing else {}
        return told | ({"constant_texts": dict(constants)} if constants else {})

    def _tables(self, layout: LeRobotLayout) -> list[EpisodeAt]:
        try:
            if layout.version != "v3.0":
                episodes = episodes_v2(json_lines(self.folder.read("meta/episodes.jsonl")), layout)
            else:
                episodes = episodes_v3(self._episode_table(layout), layout)
            numbers = [each.number for each in episodes]
            repeated = sorted({a for a, b in pairwise(numbers) if a == b})
            if repeated:
                raise ValueError(f"episode {repeated[0]} is there {numbers.count(repeated[0])} times")
            return episodes
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise DataError(
                "LeRobot's table of episodes is not understood",
                where=f"{self.uri}/meta/episodes*",
                why=f"{type(error).__name__}: {error}",
                fix="write the dataset again with LeRobot (finalize() was not called, if a parquet file has no footer)",
            ) from error

    def _episode_table(self, layout: LeRobotLayout) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        keys = [key for key in self.folder.sizes if key.startswith("meta/episodes/") and key.endswith(".parquet")]
        read = [pq.read_table(io.BytesIO(self.folder.read(key)), columns=episode_columns(layout)) for key in keys]
        return pa.concat_tables(read)

    def _tasks(self, layout: LeRobotLayout) -> list[str]:
        """The text of every task by its number."""
        if layout.version != "v3.0":
            lines = json_lines(self.folder.read("meta/tasks.jsonl")) if "meta/tasks.jsonl" in self.folder.sizes else []
            return [str(line["task"]) for line in sorted(lines, key=lambda line: int(line["task_index"]))]
        import pyarrow.parquet as pq

        if "meta/tasks.parquet" not in self.folder.sizes:
            return []
        table = pq.read_table(io.BytesIO(self.folder.read("meta/tasks.parquet")))
        text = next(name for name in table.column_names if name != TASK_INDEX)
        return [str(task) for task in table.sort_by(TASK_INDEX).column(text).to_pylist()]

    def _metadata(self, layout: LeRobotLayout, episodes: Sequence[EpisodeAt]) -> dict[str, Any]:
        """What a writer needs to say again and no array holds."""
        kept = ("codebase_version", "robot_type", "fps", "splits", "features")
        metadata = {key: layout.info[key] for key in kept if key in layout.info}
        metadata["order"] = list(layout.info["features"])  # a manifest's objects are sorted by key
        if MODALITY in self.folder.sizes:
            metadata["modality"] = self.folder.read(MODALITY).decode("utf-8", "replace")
        tasks = self._tasks(layout)
        needed = any(each.kind == "text" for each in layout.features)
        return metadata | ({"tasks": tasks} if needed or sum(map(len, tasks)) <= MAX_TASK_TEXT else {})

    def _seen(self, camera: Camera, episodes: Sequence[EpisodeAt], fps: float) -> Camera:
        """The camera with what the first of its videos says that is there."""
        keys = [each.videos[camera.name].key for each in episodes]
        encoding, width, height = self._videos.look(next((key for key in keys if key in self.folder.sizes), keys[0]))
        return replace(
            camera, height=height, width=width, channels=3, codec="mp4", encoding=encoding, fps=fps, chunk=CHUNK_FRAMES
        )

    def _problems(self, at: EpisodeAt, layout: LeRobotLayout) -> list[Problem]:
        """What is wrong with an episode, as far as its files show without reading values."""
        skip = f"data.skip_episodes=[{at.episode_id}], or record it again"
        name, problems = at.episode_id, []
        if at.length <= 0:
            problems.append(Problem(f"{name} has no steps", self.uri, f"its length is {at.length}", skip))
        for key in [at.data_key, *(each.key for each in at.videos.values())]:
            if key not in self.folder.sizes:
                why = "the dataset's tables name it"
                problems.append(Problem(f"a file of {name} is missing", join(self.uri, key), why, skip))
        if not problems and self.folder.is_local:
            rows = self._data.num_rows(at)
            if at.first_row + at.length > rows:
                where = join(self.uri, at.data_key)
                why = f"the dataset's tables give it {at.length:,} steps from row {at.first_row:,}, the file has {rows:,} rows"
                return [Problem(f"{name} is longer than its file", where, why, skip)]
            times = np.arange(at.length) / layout.fps
            problems += [each for camera in layout.videos for each in self._videos.problems(at, camera, times, skip)]
        return problems


def _success(features: dict[str, np.ndarray]) -> bool | None:
    """Whether the episode ever succeeded; None where nothing says so."""
    return bool(features["next.success"].any()) if "next.success" in features else None
