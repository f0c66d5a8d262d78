"""Episodes in memory as a Source: what an expert yields goes into ``convert`` or any writer without a file in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tendon.data.episode import Episode, Schema
from tendon.data.sources.source import EpisodeInfo, SourceInfo
from tendon.errors import ConfigError, Problem

TRAIN, VALID = "train", "valid"


class EpisodesSource:
    """A Source of Episodes.

    Example:
        ``convert(EpisodesSource("demo://lift", schema, episodes, digest, {"valid": ["demo_3"]}), "s3://bucket/store", "lift")``
    """

    def __init__(
        self,
        uri: str,
        schema: Schema,
        episodes: Sequence[Episode],
        digest: str,
        splits: Mapping[str, Sequence[str]] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Name the parts.

        Args:
            uri: where they come from; messages and manifests name it.
            schema: what every episode holds. Raw frames become what the codec of their camera says: ``mjpeg``, ``mp4`` or
                ``npy`` (as they are).
            episodes: in the order of their numbers; their ids differ. All are in memory: many large frames come as JPEGs.
            digest: what they are known by, for example of the expert, its settings and its seeds. Two sources of one digest
                are one dataset.
            splits: episode ids by split; without ``train``, what is not in ``valid`` is in it.
            metadata: what the manifest says of their environment.
        """
        self.uri, self.schema, self.digest = uri, schema, digest
        self._episodes = {each.episode_id: each for each in episodes}
        self._splits = {name: tuple(ids) for name, ids in (splits or {}).items()}
        if TRAIN not in self._splits:
            valid = set(self._splits.get(VALID, ()))
            self._splits = {TRAIN: tuple(name for name in self._episodes if name not in valid)} | self._splits
        self._metadata = dict(metadata or {})
        assert len(self._episodes) == len(episodes), "episode ids differ"

    def describe(self) -> SourceInfo:
        """Everything but the values, and what does not fit the schema."""
        infos = tuple(
            EpisodeInfo(
                name,
                each.length,
                tuple(split for split, ids in self._splits.items() if name in ids),
                tuple(_problems(each, self.schema, self.uri)),
            )
            for name, each in self._episodes.items()
        )
        num_bytes = sum(values.nbytes for each in self._episodes.values() for values in each.features.values())
        return SourceInfo("episodes", self.uri, self.digest, num_bytes, self.schema, infos, self._metadata)

    def read(self, episode_id: str, images: bool = True) -> Episode:
        """One episode; without ``images`` only its low-dimensional features."""
        episode = self._episodes[episode_id]
        wanted = [each.key for each in self.schema.columns]
        features = {key: np.asarray(episode.features[key]) for key in wanted}
        if not images:
            return replace(episode, features=features, images={}, masks={}, extras={})
        return replace(episode, features=features)


def _problems(episode: Episode, schema: Schema, uri: str) -> list[Problem]:
    """What of the schema an episode lacks or has in another shape."""
    fix, problems = "make the episode as its schema says, or leave it out", []
    where = f"{uri}, {episode.episode_id}"
    if episode.length < 1:
        problems.append(Problem(f"{episode.episode_id} has no steps", where, f"its length is {episode.length}", fix))
    for each in schema.columns:
        shape, wanted = np.shape(episode.features.get(each.key, np.zeros(0))), (episode.length, *each.shape)
        if each.key not in episode.features:
            problems.append(Problem(f"{each.key} is missing in {episode.episode_id}", where, "its schema has it", fix))
        elif shape != wanted:
            what = f"{each.key} has the shape {shape} in {episode.episode_id}"
            problems.append(Problem(what, f"{where}, {each.key}", f"its schema says {wanted}", fix))
    pictures = [(each.name, episode.images) for each in schema.cameras]
    pictures += [(each.name, episode.masks) for each in schema.masks]  # type: ignore[misc]
    absent = [name for name, there in pictures if name not in there]
    return problems + [
        Problem(f"{n} is missing in {episode.episode_id}", where, "its schema has it", fix) for n in absent
    ]


def no_exact_copy(uri: str) -> ConfigError:
    """What is said to ``data.exact=true`` with an expert's demonstrations."""
    return ConfigError(
        "the demonstrations of a scripted expert have no file to copy exactly",
        where=uri,
        why="data.exact keeps the bytes of a source file, and an expert's episodes are converted as they are made",
        fix="data.exact=false, or tendon demo-data ... -o demos.hdf5 and convert that file",
    )
