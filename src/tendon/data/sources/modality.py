"""LeRobot datasets with meta/modality.json (InternManip, GR00T) in: the same episodes with named parts of state and action.

Three variants are read: ``start`` and ``end`` given, columns of their own (``state.<key>``), or both optional. With
``?data_config=<name>`` behind the address, ``observation.state`` and ``action`` are joined in that configuration's order
(with ``&joined=0`` its parts stay features of their own, in its order, and no others). The name is tendon's, of an
installed package (entry points ``tendon.data_configs``), or a trusted Python file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tendon.data.episode import Camera, Episode, LazyImages, Schema
from tendon.data.features import TASK, Feature, column
from tendon.data.manifest import digest_of
from tendon.data.sources.lerobot import INFO, MODALITY, LeRobotSource
from tendon.data.sources.lerobot_layout import TASK_INDEX
from tendon.data.sources.modality_configs import DataConfig, find_data_config
from tendon.data.sources.source import SourceInfo, digest_with_features
from tendon.errors import DataError
from tendon.storage import open_store

FIRST_TEXT = "human.action.task_description"  # the annotation that is the task where there are several
WHOLE = {"state": "observation.state", "action": "action"}
PREFIX = {"state": "observation.", "action": "action."}
COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.S)
TRAILING = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


def sniff(uri: str) -> bool:
    """Whether ``uri`` is a LeRobot folder with meta/modality.json."""
    store = open_store(uri.partition("?")[0])
    return (
        not uri.lower().endswith((".hdf5", ".h5")) and store.head(MODALITY) is not None and store.head(INFO) is not None
    )


def open_uri(uri: str) -> ModalitySource:
    """The reader of a local or S3 folder; ``?data_config=<name>`` chooses a configuration.

    Raises:
        ConfigError: there is no such configuration, or it is a file that is not trusted.
    """
    folder, _, question = uri.partition("?")
    asked = dict(part.partition("=")[::2] for part in question.split("&"))
    name, joined = asked.get("data_config", ""), asked.get("joined", "1") != "0"
    return ModalitySource(uri, LeRobotSource(folder), *(find_data_config(name, uri) if name else ()), joined=joined)


@dataclass(frozen=True)
class ModalityKey:
    """A named part of a column: its values ``[start:end]``; ``entry`` is what modality.json says of it."""

    kind: str
    key: str
    column: str
    start: int
    end: int
    entry: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The feature that it becomes."""
        return PREFIX[self.kind] + self.key


class ModalitySource:
    """A Source over a LeRobot dataset, seen through its modality.json."""

    parser = LeRobotSource.parser
    libraries = LeRobotSource.libraries

    def __init__(
        self,
        uri: str,
        inner: LeRobotSource,
        config: str = "",
        data_config: DataConfig | None = None,
        *,
        joined: bool = True,
    ) -> None:
        self.uri, self.inner, self.config, self._data_config = uri, inner, config, data_config
        self.joins = joined and bool(config)
        self._info: SourceInfo | None = None
        self._parts: tuple[ModalityKey, ...] = ()
        self._cameras: dict[str, str] = {}  # our name -> that of the LeRobot dataset
        self._texts: dict[str, str] = {}  # our text features -> the columns of numbers of texts

    @property
    def data_config(self) -> DataConfig:
        """The configuration that joins the parts."""
        assert self._data_config is not None
        return self._data_config

    def describe(self) -> SourceInfo:
        """Everything but the values."""
        if self._info is None:
            self._info = self._describe()
        return self._info

    def check_unchanged(self) -> None:
        """Nothing, if the files are still those whose digest was taken."""
        self.inner.check_unchanged()

    def num_bytes_on_disk(self) -> int:
        """How much is read for the digest and the tables."""
        return self.inner.num_bytes_on_disk()

    def check_used_unchanged(self) -> None:
        """The same for the files that were read since this was asked last."""
        self.inner.check_used_unchanged()

    def read(self, episode_id: str, images: bool = True) -> Episode:
        """One episode; without ``images`` only its low-dimensional features."""
        schema = self.describe().schema
        episode = self.inner.read(episode_id, images)
        values = dict(episode.features)
        parts = {each.name: _part_of(values[each.column], each) for each in self._parts}
        if self.joins:
            parts = {
                WHOLE[kind]: np.concatenate([parts[p.name] for p in chosen], 1)
                for kind, chosen in self._joined().items()
            }
        features = {
            each.key: parts[each.key] if each.key in parts else values[self._texts.get(each.key, each.key)]
            for each in schema.columns
        }
        features |= {key: features[key].reshape(-1) for key in self._texts}
        task = episode.task
        if TASK in self._texts and 0 <= int(features[TASK][0]) < len(schema.texts):
            task = schema.texts[int(features[TASK][0])]
        theirs = self._cameras if images else {}
        frames = LazyImages({ours: partial(episode.images.__getitem__, name) for ours, name in theirs.items()})
        return replace(episode, features=features, images=frames, task=task)

    def _describe(self) -> SourceInfo:
        info = self.inner.describe()
        modality = lenient_json(self.inner.folder.read(MODALITY), f"{self.uri}, {MODALITY}")
        by_name = {each.key: each for each in info.schema.columns}
        self._parts = tuple(
            self._part(kind, key, entry or {}, by_name)
            for kind in WHOLE
            for key, entry in (modality.get(kind) or {}).items()
        )
        cameras = self._mapped_cameras(info.schema.cameras, modality.get("video") or {})
        strings = info.metadata.get("strings", ())
        self._texts = self._find_texts(modality.get("annotation") or {}, by_name, strings)
        features = self._features(info.schema.columns, by_name)
        texts = info.schema.texts or (tuple(self.inner.task_texts()) if self._texts else ())
        schema = Schema(tuple(features), cameras, info.schema.fps, info.schema.masks, texts)
        described = {
            "data_config": self.config,
            "language": self._texts.get(TASK, ""),
            "parts": {
                kind: {each.key: self._described(each, by_name) for each in self._parts if each.kind == kind}
                for kind in WHOLE
            },
            "video": {each.name.rpartition(".")[2]: self._cameras[each.name] for each in cameras},
            "annotation": modality.get("annotation") or {},
        }
        if tasks := info.metadata.get("lerobot", {}).get("tasks"):
            described["tasks"] = list(tasks)
        if self.config:
            described["normalization"] = dict(self.data_config.normalization)
        if self.joins:
            described["order"] = {kind: [each.key for each in parts] for kind, parts in self._joined().items()}
        metadata = {key: each for key, each in info.metadata.items() if key != "lerobot"} | {"modality": described}
        # other features than of plain LeRobot
        digest = digest_with_features(digest_of({"modality": self._known_as, "lerobot": info.digest}), schema)
        return replace(info, format="modality", uri=self.uri, digest=digest, schema=schema, metadata=metadata)

    @property
    def _known_as(self) -> str:
        return self.config if self.joins or not self.config else f"{self.config} in parts"

    def _part(self, kind: str, key: str, entry: Mapping[str, Any], features: Mapping[str, Feature]) -> ModalityKey:
        same_name = f"{kind}.{key}"
        start, end = entry.get("start"), entry.get("end")
        stored = entry.get("original_key")
        if stored is None:
            stored = same_name if start is None and end is None and same_name in features else WHOLE[kind]
        if stored not in features:
            raise self._broken(
                f"{kind} {key} names a column that does not exist", f"{stored}; there are {', '.join(features)}"
            )
        dim = features[stored].dim
        start, end = 0 if start is None else int(start), dim if end is None else int(end)
        if not 0 <= start < end <= dim:
            raise self._broken(
                f"{kind} {key} lies outside of its column", f"{stored} has {dim} values, it asks for {start} to {end}"
            )
        return ModalityKey(kind, key, stored, start, end, entry)

    def _features(self, columns: Sequence[Feature], by_name: Mapping[str, Feature]) -> list[Feature]:
        """What is kept of the columns (those that no part is cut from), then the parts, or the joined vectors."""
        cut = {each.column for each in self._parts} | set(self._texts.values())
        kept = [each for each in columns if each.key not in cut and each.key not in self._texts]
        if self.config and not self.joins:  # the configuration names all states and actions that there are
            kept = [each for each in kept if each.kind not in ("state", "action")]
        made = []
        if self.joins:
            for kind, parts in self._joined().items():
                dtype = np.result_type(*(by_name[each.column].dtype for each in parts)).name
                dim = sum(each.end - each.start for each in parts)
                made.append(column(WHOLE[kind], dtype, (dim,)))
        else:
            chosen = [part for parts in self._joined().values() for part in parts] if self.config else self._parts
            for each in chosen:
                of = by_name[each.column]
                whole = each.end - each.start == of.dim
                names = of.names if whole else of.names[each.start : each.end]
                width = (each.end - each.start,)
                part = column(each.name, of.dtype, width, of.source_dtype, names=names)
                made.append(replace(part, kind=of.kind) if whole and of.kind != "state" else part)
        made += [column(key, by_name[name].dtype, kind="text") for key, name in self._texts.items()]
        rank = {"action": 1, "next": 2, TASK: 3, "annotation": 4}
        features = {each.key: each for each in [*kept, *made]}
        return sorted(features.values(), key=lambda each: rank.get(each.key.partition(".")[0], 0))

    def _joined(self) -> dict[str, list[ModalityKey]]:
        """The parts that the configuration asks for, in its order."""
        config = self.data_config
        parts_by_kind = {}
        for kind, keys in (("state", config.state), ("action", config.action)):
            parts = {each.key: each for each in self._parts if each.kind == kind}
            missing = [key for key in keys if key not in parts]
            if missing:
                why = f"{self.config} asks for {', '.join(missing)}; {MODALITY} has {', '.join(parts) or 'none'}"
                raise self._broken(f"the dataset lacks a {kind} of the configuration", why)
            parts_by_kind[kind] = [parts[key] for key in keys]
        return parts_by_kind

    def _mapped_cameras(self, cameras: Sequence[Camera], video: Mapping[str, Any]) -> tuple[Camera, ...]:
        by_name = {each.name: each for each in cameras}
        renamed = []
        for new, entry in video.items():
            old = (entry or {}).get("original_key") or f"observation.images.{new}"
            if old not in by_name:
                raise self._broken(
                    f"video {new} names a camera that does not exist", f"{old}; there are {', '.join(by_name)}"
                )
            name, member = f"observation.images.{new}", re.sub(r"[^a-z0-9_]", "_", new.lower())[:60]
            self._cameras[name] = old
            renamed.append(replace(by_name[old], name=name, member=member))
        wanted = self.data_config.video if self.config else ()
        lacking = [key for key in wanted if f"observation.images.{key}" not in self._cameras]
        if lacking:
            raise self._broken(
                "the dataset lacks a camera of the configuration", f"{self.config} asks for {', '.join(lacking)}"
            )
        return tuple(each for each in renamed if not wanted or each.name.rpartition(".")[2] in wanted)

    def _find_texts(
        self, annotation: Mapping[str, Any], features: Mapping[str, Feature], strings: Sequence[str]
    ) -> dict[str, str]:
        """The columns whose numbers point at the tasks' texts, by the features they become.

        One of them is the task. None: the task is that of the LeRobot dataset, often the episode's own.
        """
        first = self.data_config.language.removeprefix("annotation.") if self.config else FIRST_TEXT
        texts: dict[str, str] = {}
        for key in sorted(annotation, key=lambda key: (key != first, key)):
            name = (annotation[key] or {}).get("original_key") or f"annotation.{key}"
            name = TASK if name == TASK_INDEX else name
            if name in features and np.dtype(features[name].dtype).kind in "iu" and name not in texts.values():
                if name in strings:  # the column holds the texts themselves
                    continue
                texts[f"annotation.{key}" if texts else TASK] = name
        return texts

    def _described(self, part: ModalityKey, features: Mapping[str, Feature]) -> dict[str, Any]:
        """What GR00T's metadata says of a part."""
        entry, dtype = part.entry, str(part.entry.get("dtype") or features[part.column].dtype)
        return {
            "column": part.column, "start": part.start, "end": part.end, "absolute": entry.get("absolute", True),
            "rotation_type": entry.get("rotation_type"), "shape": [part.end - part.start],
            "continuous": np.dtype(dtype).kind == "f", "range": entry.get("range"),
        }  # fmt: skip

    def _broken(self, what: str, why: str) -> DataError:
        return DataError(
            what, where=f"{self.uri}, {MODALITY}", why=why, fix=f"correct {MODALITY}, or choose another data_config"
        )


def lenient_json(content: bytes, where: str) -> dict[str, Any]:
    """JSON in which comments and commas before a bracket are allowed, as in published files.

    Raises:
        DataError: it is something else.
    """
    text = COMMENT.sub(lambda match: match[1] or "", content.decode("utf-8", "replace"))
    try:
        parsed = json.loads(TRAILING.sub(lambda match: match[1] or "", text))
    except ValueError as error:
        raise DataError(
            "a JSON file cannot be read", where=where, why=str(error), fix="correct it at that place"
        ) from error
    return parsed if isinstance(parsed, dict) else {}


def _part_of(values: np.ndarray, part: ModalityKey) -> np.ndarray:
    return values.reshape(len(values), -1)[:, part.start : part.end]


__all__ = ["DataConfig", "ModalitySource", "lenient_json", "open_uri", "sniff"]
