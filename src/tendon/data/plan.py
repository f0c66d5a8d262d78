"""The plan of a conversion, made before the first byte: its digest, its episodes, and the shard of each.

A pure function of the source's description and the options; shard n is a pure function of (plan, n). Used by convert.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tendon.data.episode import Schema
from tendon.data.images import planned_cameras, planned_masks
from tendon.data.manifest import digest_of
from tendon.data.sources.source import EpisodeInfo, SourceInfo
from tendon.errors import ConfigError, DataError, nearest
from tendon.storage import join

MB = 1 << 20
ADDRESS_FORMAT = 1  # of what an address is made from; a source whose features need a newer manifest has another digest
JPEG_BYTES_PER_VALUE = 0.15  # of a q90 4:2:0 JPEG, for sizing shards only
VIDEO_BYTES_PER_VALUE = 0.01
RUNS_BYTES_PER_LINE = 8  # one run in every line of a mask
MANY_SHARDS = 64  # plain webdataset users need at least as many shards as readers
SMALL_DATASET = 256 * MB
SMALL_SHARD = 16 * MB  # smaller datasets still give several processes something to do
MAX_SHARD = 1024 * MB
MAX_EPISODES_PER_SHARD = 4096
MAX_PROBLEMS = 20
SHUFFLE_SEED = 0  # MineStudio's


@dataclass(frozen=True)
class ConversionOptions:
    """The options of a conversion. Each that is not at its default is part of the plan's digest."""

    skip_episodes: tuple[str, ...] = ()
    jpeg_quality: int = 90
    resize: tuple[int, int] | None = None  # height and width of every camera and mask
    codec: str = ""  # mjpeg, or npy (raw frames up to 64 px); as in the source when empty
    exact: bool = False  # keep the source's dtypes, raw frames and all else, so that it can leave again byte for byte
    split_ratio: float = 1.0  # share of the episodes in the split train; the others are in valid
    shuffle_episodes: bool = False  # which those are: the last by name, or as MineStudio shuffles the names
    shard_bytes: int = 128 * MB  # target; a dataset above 256 MB has at least 64 shards, none is above 1 GB


@dataclass(frozen=True)
class ConversionPlan:
    """``episodes[i]`` becomes the sample ``ep_<i>``; ``shards[n]`` lists the numbers of the episodes in shard n.

    ``schema`` is what is written; ``info.schema`` what the source has.
    """

    digest: str
    info: SourceInfo
    schema: Schema
    options: ConversionOptions
    episodes: tuple[EpisodeInfo, ...]
    shards: tuple[tuple[int, ...], ...]

    @cached_property
    def steps(self) -> int:
        """How many steps all episodes have."""
        return sum(episode.length for episode in self.episodes)


def plan_digest(source_digest: str, options: ConversionOptions | None = None) -> str:
    """The 16 hex digits under which the dataset will lie; known without opening the source."""
    chosen = option_values(options or ConversionOptions())
    return digest_of({"source": source_digest, "options": chosen, "format": ADDRESS_FORMAT})[:16]


def option_values(options: ConversionOptions) -> dict[str, Any]:
    """The options that are not at their defaults, as plain values; a new option leaves old digests as they are."""
    usual = asdict(ConversionOptions())
    chosen = {name: value for name, value in asdict(options).items() if value != usual[name]}
    if "skip_episodes" in chosen:
        chosen["skip_episodes"] = sorted(chosen["skip_episodes"])
    if "resize" in chosen:
        chosen["resize"] = list(chosen["resize"])
    return chosen


def dataset_uri(store_uri: str, name: str, plan: str) -> str:
    """The address of a dataset in a store."""
    return join(store_uri, "datasets", name, plan)


def plan_conversion(info: SourceInfo, options: ConversionOptions | None = None) -> ConversionPlan:
    """Decide what a conversion does.

    Raises:
        DataError: an episode that is not skipped cannot be converted (all such episodes at once), or none is left.
        ConfigError: an episode to skip does not exist.
    """
    options = options or ConversionOptions()
    _check_skips(info, options)
    schema = replace(
        info.schema,
        cameras=planned_cameras(info.schema.cameras, options.resize, options.codec),
        masks=planned_masks(info.schema.masks, options.resize),
    )
    skipped = set(options.skip_episodes)
    episodes = tuple(each for each in info.episodes if each.episode_id not in skipped)
    problems = [problem for episode in episodes for problem in episode.problems]
    if problems:
        raise DataError.of(problems[:MAX_PROBLEMS])
    if not episodes:
        raise DataError(
            "the dataset is empty",
            where=info.uri,
            why=f"all {len(info.episodes)} demonstrations are in data.skip_episodes",
            fix="skip fewer of them",
        )
    episodes = _divided(episodes, info, options)
    shards = deal([_key(each.episode_id) for each in episodes], _estimated_bytes(schema, episodes), options.shard_bytes)
    return ConversionPlan(plan_digest(info.digest, options), info, schema, options, episodes, shards)


def _divided(
    episodes: tuple[EpisodeInfo, ...], info: SourceInfo, options: ConversionOptions
) -> tuple[EpisodeInfo, ...]:
    """The episodes with the splits train and valid, as MineStudio divides them.

    Raises:
        ConfigError: the source has splits of its own.
    """
    if options.split_ratio == 1:
        return episodes
    divided_already = sorted({split for episode in episodes for split in episode.splits} - {"train"})
    if divided_already:
        raise ConfigError(
            f"data.split_ratio is {options.split_ratio}, and the demonstrations are divided already",
            where=info.uri,
            why=f"it has the split {', '.join(divided_already)}",
            fix="data.split_ratio=1.0",
        )
    names = sorted(episode.episode_id for episode in episodes)
    if options.shuffle_episodes:
        random.Random(SHUFFLE_SEED).shuffle(names)
    trained_on = set(names[: int(len(names) * options.split_ratio)])
    if not trained_on:
        raise ConfigError(
            "no episode is left to train on",
            where=info.uri,
            why=f"data.split_ratio is {options.split_ratio}, and there are {len(names)} episodes",
            fix="a larger data.split_ratio",
        )
    return tuple(
        replace(episode, splits=("train",) if episode.episode_id in trained_on else ("valid",)) for episode in episodes
    )


def deal(keys: Sequence[bytes], sizes: Sequence[int], shard_bytes: int) -> tuple[tuple[int, ...], ...]:
    """Episodes into shards in the order of their keys, cut where the running size passes the next multiple.

    The order is a shuffle: neighbours in a shard are unrelated, so that plain sequential readers see mixed data.
    """
    total = sum(sizes)
    num = -(-total // shard_bytes)
    num = max(num, MANY_SHARDS) if total > SMALL_DATASET else max(num, -(-total // SMALL_SHARD))
    num = max(num, -(-total // MAX_SHARD), -(-len(sizes) // MAX_EPISODES_PER_SHARD), 1)
    words = np.frombuffer(b"".join(key.ljust(32, b"\0") for key in keys), ">u8").reshape(-1, 4)
    order = np.lexsort(words.T[::-1])
    filled = np.cumsum(np.asarray(sizes)[order])[:-1]  # before every episode but the first
    # an episode begins the next shard when what lies before it reaches the next multiple; at most one shard at a time
    reached = np.searchsorted(total / num * np.arange(1, num + 1), filled, "right")
    begins = [at + 1 for at in np.flatnonzero(np.diff(_one_at_a_time(reached), prepend=0)).tolist()]
    return tuple(tuple(part.tolist()) for part in np.split(order, begins))


def _one_at_a_time(reached: np.ndarray) -> np.ndarray:
    """The same, where a jump by several is taken in single steps."""
    if not len(reached) or (np.diff(reached, prepend=0) <= 1).all():
        return reached
    taken, at = [], 0
    for goal in reached.tolist():
        at += goal > at
        taken.append(at)
    return np.array(taken)


def _check_skips(info: SourceInfo, options: ConversionOptions) -> None:
    ids = [each.episode_id for each in info.episodes]
    unknown = sorted(set(options.skip_episodes) - set(ids))
    if unknown:
        near = nearest(unknown[0], ids, 0.5)
        raise ConfigError(
            f"data.skip_episodes names {unknown[0]}, which does not exist",
            where=info.uri,
            why=f"it has {len(ids)} demonstrations, {ids[0] if ids else 'none'} to {ids[-1] if ids else 'none'}",
            fix=f"write {near}" if near else "remove it from the list",
        )


def _estimated_bytes(schema: Schema, episodes: Sequence[EpisodeInfo]) -> list[int]:
    rates = {"mjpeg": JPEG_BYTES_PER_VALUE, "mp4": VIDEO_BYTES_PER_VALUE, "npy": 1.0}
    sizes = [np.dtype(each.dtype).itemsize * each.height * each.width * each.channels for each in schema.cameras]
    images = sum(int(size * rates[each.codec]) for size, each in zip(sizes, schema.cameras, strict=True))
    masks = sum(
        each.height * (RUNS_BYTES_PER_LINE if each.codec == "rle" else each.width // 8 + 1) for each in schema.masks
    )
    per_step = schema.row_dtype.itemsize + images + masks
    return [2048 + each.length * per_step for each in episodes]


def _key(episode_id: str) -> bytes:
    """Of the id alone: an episode that is added later does not move the others."""
    return hashlib.sha256(b"tendon shard order 1:" + episode_id.encode()).digest()
