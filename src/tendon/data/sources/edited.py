"""Any source with a recipe applied: episodes skipped, cut, split, merged, relabelled and weighted as they are read.

The recipe's digest is part of the source's, and so of the dataset's address and digest. Made by ``open_source`` for an
address with ``?recipe=FILE``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tendon.data.episode import Episode, Frames, LazyImages, VideoChunk
from tendon.data.manifest import digest_of
from tendon.data.masks import RunLengths
from tendon.data.recipe import EditedEpisode, Recipe, Span
from tendon.data.sources.source import EpisodeInfo, Source, SourceInfo
from tendon.errors import ConfigError

log = logging.getLogger(__name__)

TIMESTAMP, FRAME = "timestamp", "frame_index"


class EditedSource:
    """A Source made of another one and a Recipe."""

    def __init__(self, uri: str, inner: Source, recipe: Recipe) -> None:
        self.uri, self.inner, self.recipe = uri, inner, recipe
        self._info: SourceInfo | None = None
        self._edited: dict[str, EditedEpisode] = {}

    @property
    def parser(self) -> str:
        """Of the inner source: which C library reads its files, if one does."""
        return str(getattr(self.inner, "parser", ""))

    def __getstate__(self) -> dict[str, Any]:
        return {
            "uri": self.uri,
            "inner": self.inner,
            "recipe": self.recipe,
            "_info": self._info,
            "_edited": self._edited,
        }

    def num_bytes_on_disk(self) -> int:
        """How much is hashed."""
        size = getattr(self.inner, "num_bytes_on_disk", None)
        return int(size()) if size is not None else 0

    def check_unchanged(self) -> None:
        """Nothing, if the source's files are still those whose digest was taken."""
        check = getattr(self.inner, "check_unchanged", None)
        if check is not None:
            check()

    def check_used_unchanged(self) -> None:
        """The same for the files that were read since this was asked last, where the source can tell them."""
        check = getattr(self.inner, "check_used_unchanged", None)
        (check or self.check_unchanged)()

    def exactly(self) -> Source:
        """An exact copy of what is edited is none."""
        raise ConfigError(
            "an edited dataset is no exact copy",
            where=self.uri,
            why="data.exact keeps the bytes of a source file, and the recipe changes episodes",
            fix="leave one of them away",
        )

    def describe(self) -> SourceInfo:
        """Everything but the values.

        Raises:
            ConfigError: the recipe names an episode or steps that are not there.
        """
        if self._info is None:
            info = self.inner.describe()
            edited = self.recipe.applied(info.episodes)
            self._edited = {each.episode_id: each for each in edited}
            weights = {each.episode_id: each.weight for each in edited if each.weight != 1.0}
            told = {"digest": self.recipe.digest, "edits": self.recipe.to_json(), "weights": weights}
            self._info = replace(
                info,
                uri=self.uri,
                digest=digest_of({"source": info.digest, "recipe": self.recipe.digest}),
                episodes=tuple(EpisodeInfo(e.episode_id, e.length, e.splits, e.problems) for e in edited),
                metadata={**info.metadata, "recipe": told},
            )
        return self._info

    def read(self, episode_id: str, images: bool = True) -> Episode:
        """One edited episode; without ``images`` only its low-dimensional features."""
        schema = self.describe().schema
        edited = self._edited[episode_id]
        sources = {span.episode_id: self.inner.read(span.episode_id, images) for span in edited.spans}
        first = sources[edited.spans[0].episode_id]
        if edited.task is not None:
            first = replace(first, task=edited.task)
        if not edited.is_cut:
            return replace(first, episode_id=episode_id)
        features = {
            key: np.concatenate(
                [np.asarray(sources[s.episode_id].features[key])[s.begin : s.end] for s in edited.spans]
            )
            for key in first.features
        }
        _count_anew(features, schema.fps)
        if first.extras:
            log.info(
                "convert: the extra files of %s are left out: they belong to steps that the recipe moves", episode_id
            )
        return replace(
            first,
            episode_id=episode_id,
            length=edited.length,
            features=features,
            images=LazyImages({name: _Frames(name, sources, edited.spans) for name in first.images}),
            masks={name: _masks(name, sources, edited.spans) for name in first.masks},
            success=sources[edited.spans[-1].episode_id].success,
            provenance={**first.provenance, "edited": [[s.episode_id, s.begin, s.end] for s in edited.spans]},
            extras={},
        )


class _Frames:
    """The frames of one camera in all spans, made when they are asked for."""

    def __init__(self, name: str, sources: Mapping[str, Episode], spans: Sequence[Span]) -> None:
        self._name, self._sources, self._spans = name, sources, spans

    def __call__(self) -> Frames:
        parts = [_steps_of(self._sources[s.episode_id].images[self._name], s.begin, s.end) for s in self._spans]
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(parts)  # type: ignore[arg-type]
        if not any(isinstance(part, tuple) and part and isinstance(part[0], VideoChunk) for part in parts):
            return tuple(picture for part in parts for picture in part)  # type: ignore[return-value]
        chunks: list[VideoChunk] = []
        at = 0
        for part, span in zip(parts, self._spans, strict=True):
            videos = [each for each in part if isinstance(each, VideoChunk)]
            chunks += [replace(each, first_frame=each.first_frame + at) for each in videos]
            at += span.end - span.begin
        return tuple(chunks)


def _steps_of(frames: Frames, begin: int, end: int) -> Frames:
    """Frames ``[begin, end)`` of an episode, in the form that they have; video is not decoded."""
    if isinstance(frames, np.ndarray):
        return frames[begin:end]
    if not frames or not isinstance(frames[0], VideoChunk):
        return frames[begin:end]
    chunks = []
    for each in frames:
        assert isinstance(each, VideoChunk)
        low, high = max(begin, each.first_frame), min(end, each.first_frame + each.num_frames)
        if low < high:
            chunks.append(VideoChunk(each.content, low - begin, high - low, each.skip + low - each.first_frame))
    return tuple(chunks)


def _masks(name: str, sources: Mapping[str, Episode], spans: Sequence[Span]) -> np.ndarray | RunLengths:
    parts = [sources[span.episode_id].masks[name] for span in spans]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate([part[s.begin : s.end] for part, s in zip(parts, spans, strict=True)])  # type: ignore[index]
    runs = []
    for part, span in zip(parts, spans, strict=True):
        lengths = part if isinstance(part, RunLengths) else RunLengths.of(part)
        runs += [lengths.runs[lengths.first[t] : lengths.first[t + 1]] for t in range(span.begin, span.end)]
    return RunLengths.joined(runs)


def _count_anew(features: dict[str, np.ndarray], fps: float) -> None:
    """Seconds and numbers of frames begin at 0 again, and go on where episodes meet."""
    if TIMESTAMP in features:
        times = features[TIMESTAMP].astype(np.float64)
        steps = np.diff(times, axis=0)
        steps = np.where((steps <= 0) | (steps > 1.5 / fps), 1 / fps, steps)
        whole = np.concatenate([np.zeros_like(times[:1]), np.cumsum(steps, axis=0)])
        features[TIMESTAMP] = whole.astype(features[TIMESTAMP].dtype)
    if FRAME in features:
        numbers = np.arange(len(features[FRAME])).reshape(-1, *[1] * (features[FRAME].ndim - 1))
        features[FRAME] = np.broadcast_to(numbers, features[FRAME].shape).astype(features[FRAME].dtype)
