"""MineStudio's ``mode='event'``: clips that end at events, each an episode of its own. Opened by minestudio.py.

``FOLDER?mode=event&event_regex=minecraft.kill_entity:.*&win_len=128``: of every event whose name matches, the ``win_len``
frames before it (``bias`` moves them). Names and rules are those of its EventDataset: events before frame 128 are left out,
then those within ``min_nearby`` frames of the last one of their kind, then all but the first ``max_within`` of a kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from tendon.data.episode import Episode, Masks, VideoChunk
from tendon.data.manifest import digest_of
from tendon.data.masks import RunLengths
from tendon.data.sources import lmdb_folder as lmdb
from tendon.data.sources.source import EpisodeInfo, Source, SourceInfo
from tendon.errors import ConfigError, DataError, nearest

FIRST_FRAME = 128  # events before it are left out, whatever win_len is
PREFIX = "minecraft."


@dataclass(frozen=True)
class EventQuery:
    """Which events, and how much of what is before them."""

    win_len: int = 128
    event_regex: str = ""
    bias: int = 0
    min_nearby: int | None = None
    max_within: int | None = None
    split_ratio: float = 1.0  # of the events of every kind: the first ones are trained on

    @classmethod
    def of(cls, query: str, uri: str) -> EventQuery:
        """What stands behind the ``?``.

        Raises:
            ConfigError: a key or its value is not understood.
        """
        kinds = {
            "win_len": int,
            "event_regex": str,
            "bias": int,
            "min_nearby": int,
            "max_within": int,
            "split_ratio": float,
        }
        values: dict[str, Any] = {}
        for key, text in parse_qsl(query, keep_blank_values=True):
            if key == "mode":
                continue
            if key not in kinds:
                near = nearest(key, kinds, 0.4)
                fix = f"write {near}" if near else "leave it out"
                raise ConfigError(
                    f"{key} is no key of mode=event", where=uri, why=f"it has {', '.join(kinds)}", fix=fix
                )
            try:
                values[key] = kinds[key](text)
                re.compile(text if key == "event_regex" else "")
            except (ValueError, re.error) as error:
                raise ConfigError(f"{key} is {text!r}", where=uri, why=str(error), fix=f"{key}=...") from None
        made = cls(**values)
        if made.win_len < 1 or not 0 < made.split_ratio <= 1:
            why = "win_len is at least 1, split_ratio more than 0 and at most 1"
            raise ConfigError("the clips are not understood", where=uri, why=why, fix="win_len=128&split_ratio=0.9")
        return made


@dataclass(frozen=True)
class Clip:
    """Frames ``[start, start + length)`` of an episode, before an event."""

    name: str
    episode: str
    event: str
    start: int
    length: int
    split: str


class EventSource:
    """A Source whose episodes are clips of another one's."""

    def __init__(self, source: Any, query: EventQuery, uri: str) -> None:
        self._source, self._query, self.uri = source, query, uri
        self._read: tuple[str, Episode] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_source": self._source, "_query": self._query, "uri": self.uri, "_read": None}

    def describe(self) -> SourceInfo:
        """The clips as episodes."""
        info: SourceInfo = self._source.describe()
        if not self._clips:
            raise DataError(
                "no event is left",
                where=self.uri,
                why=f"{self._query} takes none of the events of {len(info.episodes)} episodes",
                fix="another event_regex, or a smaller min_nearby",
            )
        episodes = tuple(EpisodeInfo(clip.name, clip.length, (clip.split,)) for clip in self._clips.values())
        digest = digest_of(
            {"source": info.digest, "clips": [[c.name, c.start, c.length, c.split] for c in self._clips.values()]}
        )
        return replace(info, uri=self.uri, digest=digest, episodes=episodes)

    def read(self, episode_id: str, images: bool = True) -> Episode:
        """One clip; what its episode keeps beside the features is left out."""
        clip = self._clips[episode_id]
        if self._read is None or self._read[0] != clip.episode or (images and not self._read[1].images):
            self._read = (clip.episode, self._source.read(clip.episode, images))
        whole, end = self._read[1], clip.start + clip.length
        return Episode(
            clip.name,
            clip.length,
            {key: values[clip.start : end] for key, values in whole.features.items()},
            {key: _cut_video(frames, clip.start, end) for key, frames in whole.images.items()} if images else {},
            clip.event.removeprefix(PREFIX),
            None,
            {**whole.provenance, "clip": [clip.episode, clip.start, end], "event": clip.event},
            {},
            {key: _cut_masks(masks, clip.start, end) for key, masks in whole.masks.items()} if images else {},
        )

    @cached_property
    def _clips(self) -> dict[str, Clip]:
        query = self._query
        lengths = {info.episode_id: info.length for info in self._source.describe().episodes}
        clips: dict[str, Clip] = {}
        for event, items in sorted(self._events().items()):
            kept = list(_thinned(items, query))
            num_trained_on = int(len(kept) * query.split_ratio)
            for i, (episode, frame) in enumerate(kept):
                if episode not in lengths or frame >= lengths[episode]:
                    continue
                start = max(frame - query.win_len + query.bias, 0)
                length = min(query.win_len, lengths[episode] - start)
                name = f"{episode}@{event}#{i}"
                if length > 0:
                    clips[name] = Clip(name, episode, event, start, length, "train" if i < num_trained_on else "valid")
        return clips

    def _events(self) -> dict[str, list[list[tuple[str, int]]]]:
        """By event and folder, episode and frame of each in the order of their numbers."""
        events: dict[str, list[list[tuple[str, int]]]] = {}
        for found in self._source.events_by_folder():
            for event, items in found.items():
                if re.match(self._query.event_regex, event):
                    events.setdefault(event, []).append(items)
        return events


def _thinned(folders: list[list[tuple[str, int]]], query: EventQuery) -> Iterator[tuple[str, int]]:
    """The events of one kind that are taken, folder by folder."""
    for items in folders:
        last: dict[str, int] = {}
        count = 0
        for episode, frame in items:
            if frame < FIRST_FRAME:
                continue
            if query.min_nearby is not None and episode in last and frame - last[episode] <= query.min_nearby:
                continue
            if query.max_within is not None and count >= query.max_within:
                break
            last[episode] = frame
            count += 1
            yield episode, frame


def _cut_video(frames: Any, start: int, end: int) -> tuple[VideoChunk, ...]:
    """The chunks of a clip, whole as they are; frames before and behind it are skipped."""
    chunks = []
    for chunk in frames:
        first, last = max(start, chunk.first_frame), min(end, chunk.first_frame + chunk.num_frames)
        if first < last:
            skip = chunk.skip + first - chunk.first_frame
            chunks.append(VideoChunk(chunk.content, first - start, last - first, skip))
    return tuple(chunks)


def _cut_masks(masks: Masks, start: int, end: int) -> Masks:
    if not isinstance(masks, RunLengths):
        return masks[start:end]
    runs = [masks.runs[masks.first[t] : masks.first[t + 1]] for t in range(start, end)]
    return RunLengths.joined([np.asarray(one) for one in runs])


def read_events(root: Any, folder: str, uri: str) -> dict[str, list[tuple[str, int]]]:
    """Episode and frame of every event in an event folder, in the order of their numbers."""
    names = set(lmdb.keys(root, folder))
    short = lmdb.read_value(root, folder, "__codebook__", uri) if "__codebook__" in names else {}
    codebook = {value: key for key, value in short.items()}
    numbered: dict[str, dict[int, tuple[str, int]]] = {}
    for key in names:
        match = re.fullmatch(r"\('(.*)', (\d+)\)", key) or re.fullmatch(r'\("(.*)", (\d+)\)', key)
        if match is not None:
            episode, frame, _ = lmdb.read_value(root, folder, key, uri)
            numbered.setdefault(match[1], {})[int(match[2])] = (str(codebook.get(episode, episode)), int(frame))
    return {event: [items[i] for i in sorted(items)] for event, items in numbered.items()}


def opened(source: Any, query: str, uri: str) -> Source:
    """The clips of a source."""
    return EventSource(source, EventQuery.of(query, uri), uri)
