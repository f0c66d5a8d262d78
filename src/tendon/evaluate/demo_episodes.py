"""A simulator's scripted expert in, Episodes out: a Source that ``convert`` and every writer take, with no file in between.

Features, dtypes, order and names are those that its robomimic file would be read with, so that both become one dataset.
Axes: T steps.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tendon.config.feature_map import ACTION, OBSERVATION, FeatureMap
from tendon.data.episode import Camera, Episode, Frames, LazyImages, Mask, Schema
from tendon.data.features import INTEGER_KINDS, Feature, column
from tendon.data.sources.episodes import EpisodesSource, no_exact_copy
from tendon.data.sources.robomimic import DEFAULT_FPS
from tendon.data.sources.robomimic_layout import json_attribute
from tendon.evaluate.attempt import Attempt
from tendon.evaluate.experts import ExpertSettings, Lost, successes, validation_episodes

Array = NDArray[Any]
FIRST = ("action", "next.reward", "next.done", "next.success")  # of the columns that are no observations


class ExpertSource(EpisodesSource):
    """The recorded Episodes of an expert."""

    lost: Lost

    def exactly(self) -> NoReturn:
        """There are no bytes of a file to keep."""
        raise no_exact_copy(self.uri)


@contextmanager
def expert_episodes(
    settings: ExpertSettings,
    uri: str,
    digest: str,
    progress: Callable[[int, int], None] | None = None,
    *,
    says_success: bool = False,
) -> Iterator[ExpertSource]:
    """Record the expert; frames lie in a temporary folder, so that memory holds numbers only.

    Args:
        settings: what is recorded.
        uri: how messages and the manifest call it.
        digest: what the demonstrations are known by.
        progress: called with (episodes recorded, episodes in all).
        says_success: success is a column too, ``next.success``, as in LeRobot's datasets of simulators.
    """
    with tempfile.TemporaryDirectory(prefix="tendon-frames-") as folder:
        maker, lost = _EpisodeMaker(FeatureMap.of(settings.env), Path(folder), says_success), Lost()
        with successes(settings, lost, states=False, progress=progress) as attempts:
            episodes = [maker.episode(number, attempt) for number, attempt in enumerate(attempts)]
        valid = validation_episodes(len(episodes), settings.seed)
        ids = [episode.episode_id for episode in episodes]
        splits = {
            "train": [name for number, name in enumerate(ids) if number not in valid],
            "valid": [name for number, name in enumerate(ids) if number in valid],
        }
        source = ExpertSource(uri, maker.schema(settings.env.fps), episodes, digest, splits, maker.metadata)
        source.lost = lost
        yield source


@dataclass(frozen=True)
class _Column:
    """A column, and what it is called in a robomimic file."""

    feature: Feature
    path: str


class _EpisodeMaker:
    """Turns attempts into Episodes of one schema, which the first one decides."""

    def __init__(self, features: FeatureMap, folder: Path, says_success: bool) -> None:
        self._features, self._folder, self._says_success = features, folder, says_success
        self._columns: dict[str, _Column] = {}
        self._cameras: dict[str, Camera] = {}
        self._masks: dict[str, Mask] = {}
        self._texts: dict[str, int] = {}  # text to its number
        self._env_args: Mapping[str, Any] = {}

    def schema(self, control_hz: float) -> Schema:
        """What all episodes hold. Where the simulator has a robomimic description, this says the frame rate."""
        kwargs = self._env_args.get("env_kwargs")
        said = float((kwargs if isinstance(kwargs, dict) else {}).get("control_freq") or DEFAULT_FPS)
        columns = sorted((each.feature for each in self._columns.values()), key=_rank)
        fps = said if self._env_args else control_hz
        return Schema(
            tuple(columns), tuple(self._cameras.values()), fps, tuple(self._masks.values()), tuple(self._texts)
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """What a robomimic file would say of itself; writers keep its names."""
        paths = {each.feature.key: each.path for each in self._columns.values()}
        images = {camera.name: f"obs/{observation}" for observation, camera in self._cameras.items()}
        return {"env_args": dict(self._env_args), "masks": ["train", "valid"], "paths": paths | images}

    def episode(self, number: int, attempt: Attempt) -> Episode:
        """One attempt as an Episode; its frames go to the folder."""
        if not number:
            self._env_args = json_attribute(attempt.first.env_args)
        length = len(attempt.actions)
        features, images, masks = self._action(attempt), {}, {}
        for name, values in sorted(attempt.observations.items()):
            kind, key = self._features.kinds.get(name, "state"), self._features.key_of(name)
            steps = values[:length]
            if self._features.camera_of(name) or (kind == "state" and _is_image(steps)):
                images[self._camera(name, steps).name] = self._spilt(number, name, steps)
            elif kind == "mask":
                self._masks.setdefault(name, Mask(key, _member(name), *steps.shape[1:3]))
                masks[key] = (steps != 0).reshape(length, *steps.shape[1:3]).astype(np.uint8)
            elif kind == "text":
                features[key] = self._numbered(key, name, steps)
            else:
                features[key] = self._cast(key, f"obs/{name}", steps, kind)
        task = attempt.instruction or str(self._env_args.get("env_name") or "")
        provenance = {"group": f"data/demo_{number}"}
        return Episode(f"demo_{number}", length, features, images=LazyImages(images), task=task, success=True,
                       provenance=provenance, masks=masks)  # fmt: skip

    def _action(self, attempt: Attempt) -> dict[str, Array]:
        last = np.arange(len(attempt.rewards)) == len(attempt.rewards) - 1  # an attempt ends with its first success
        features = {
            "next.reward": self._cast("next.reward", "rewards", attempt.rewards),
            "next.done": self._cast("next.done", "dones", last.astype(np.int64), stored="bool"),
        }
        if self._says_success:
            features["next.success"] = self._cast("next.success", "successes", last, stored="bool")
        parts = self._features.parts_of(attempt.actions)
        for part, values in parts.items():
            key, names = f"{ACTION}.{part}", self._features.action_names.get(part, ())
            features[key] = self._cast(key, f"action_dict/{part}", values, names=names)
        if not parts:
            features[ACTION] = self._cast(ACTION, "actions", attempt.actions)
        return features

    def _cast(
        self, key: str, path: str, values: Array, kind: str = "state", stored: str = "", names: tuple[str, ...] = ()
    ) -> Array:
        """Values as they are stored: numbers as float32, indexes and bytes as they are."""
        kept = kind in INTEGER_KINDS or values.dtype == np.uint8
        source = values if kept or stored else np.asarray(values, np.float64)
        dtype = stored or (source.dtype.name if kept else "float32")
        said: Any = None if kind == "state" else kind
        feature = column(key, dtype, source.shape[1:], source.dtype.name, kind=said, names=names)
        self._columns.setdefault(key, _Column(feature, path))
        return source.astype(dtype)

    def _numbered(self, key: str, name: str, texts: Array) -> Array:
        numbers = [self._texts.setdefault(str(text), len(self._texts)) for text in texts]
        self._columns.setdefault(key, _Column(column(key, "int64", kind="text"), f"obs/{name}"))
        return np.array(numbers, np.int64)

    def _camera(self, name: str, frames: Array) -> Camera:
        if name not in self._cameras:
            mapped = self._features.camera_of(name)
            key = mapped.key if mapped is not None else f"{OBSERVATION}images.{name}"
            height, width, channels = frames.shape[1:]
            self._cameras[name] = Camera(key, _member(name), height, width, channels)
        return self._cameras[name]

    def _spilt(self, number: int, name: str, frames: Array) -> Callable[[], Frames]:
        path = self._folder / f"{number}.{_member(name)}.npy"
        np.save(path, frames)
        return partial(_frames, path)


def _frames(path: Path) -> Frames:
    return np.asarray(np.load(path, mmap_mode="r"))


def _is_image(values: Array) -> bool:
    return values.dtype == np.uint8 and values.ndim == 4 and values.shape[3] in (1, 3)


def _rank(feature: Feature) -> tuple[int, str]:
    first = FIRST.index(feature.key) + 2 if feature.key in FIRST else int(feature.key.startswith("action"))
    return first, feature.key


def _member(name: str) -> str:
    """What a camera or mask is called inside a shard."""
    return re.sub(r"[^a-z0-9_]", "_", name.lower())[:60]
