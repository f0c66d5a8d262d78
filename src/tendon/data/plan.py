"""What a conversion will do, decided before the first byte: its digest, its episodes, and which shard holds which.

A pure function of the source's description and the options; shard n is a pure function of (plan, n). Used by convert.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tendon.data.manifest import FORMAT_VERSION, digest_of
from tendon.data.sources.source import EpisodeInfo, SourceInfo
from tendon.errors import ConfigError, DataError
from tendon.storage import join

MB = 1 << 20
JPEG_BYTES_PER_VALUE = 0.15  # of a q90 4:2:0 JPEG, for sizing shards only
VIDEO_BYTES_PER_VALUE = 0.01
MANY_SHARDS = 64  # plain webdataset users need at least as many shards as readers
SMALL_DATASET = 256 * MB
SMALL_SHARD = 16 * MB  # smaller datasets still give several processes something to do
MAX_SHARD = 1024 * MB
MAX_EPISODES_PER_SHARD = 4096
MAX_PROBLEMS = 20


@dataclass(frozen=True)
class ConversionOptions:
    """What may differ between two conversions of one source; each is part of the plan's digest."""

    skip_episodes: tuple[str, ...] = ()
    jpeg_quality: int = 90
    exact: bool = False  # keep the source's dtypes, raw frames and all else, so that it can leave again byte for byte
    shard_bytes: int = 128 * MB  # target; a dataset above 256 MB has at least 64 shards, none is above 1 GB


@dataclass(frozen=True)
class ConversionPlan:
    """``episodes[i]`` becomes the sample ``ep_<i>``; ``shards[n]`` lists the numbers of the episodes in shard n."""

    digest: str
    info: SourceInfo
    options: ConversionOptions
    episodes: tuple[EpisodeInfo, ...]
    shards: tuple[tuple[int, ...], ...]

    @property
    def steps(self) -> int:
        """How many steps all episodes have."""
        return sum(episode.length for episode in self.episodes)


def plan_digest(source_digest: str, options: ConversionOptions | None = None) -> str:
    """The 16 hex digits under which the dataset will lie; known without opening the source."""
    options = options or ConversionOptions()
    chosen = asdict(options) | {"skip_episodes": sorted(options.skip_episodes)}
    return digest_of({"source": source_digest, "options": chosen, "format": FORMAT_VERSION})[:16]


def dataset_uri(store_uri: str, name: str, plan: str) -> str:
    """Where a dataset lies in a store."""
    return join(store_uri, "datasets", name, plan)


def plan_conversion(info: SourceInfo, options: ConversionOptions | None = None) -> ConversionPlan:
    """Decide what a conversion does.

    Raises:
        DataError: an episode that is not skipped cannot be converted (all such episodes at once), or none is left.
        ConfigError: an episode to skip does not exist.
    """
    options = options or ConversionOptions()
    _check_skips(info, options)
    episodes = tuple(each for each in info.episodes if each.episode_id not in options.skip_episodes)
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
    shards = deal([_key(each.episode_id) for each in episodes], _estimated_bytes(info, episodes), options.shard_bytes)
    return ConversionPlan(plan_digest(info.digest, options), info, options, episodes, shards)


def deal(keys: Sequence[bytes], sizes: Sequence[int], shard_bytes: int) -> tuple[tuple[int, ...], ...]:
    """Episodes into shards in the order of their keys, cut where the running size passes the next multiple.

    The order is a shuffle: neighbours in a shard are unrelated, so that plain sequential readers see mixed data.
    """
    total = sum(sizes)
    num = -(-total // shard_bytes)
    num = max(num, MANY_SHARDS) if total > SMALL_DATASET else max(num, -(-total // SMALL_SHARD))
    num = max(num, -(-total // MAX_SHARD), -(-len(sizes) // MAX_EPISODES_PER_SHARD), 1)
    per_shard = total / num
    shards: list[list[int]] = [[]]
    filled = 0
    for i in sorted(range(len(keys)), key=lambda i: keys[i]):
        if shards[-1] and filled >= per_shard * len(shards):
            shards.append([])
        shards[-1].append(i)
        filled += sizes[i]
    return tuple(tuple(shard) for shard in shards)


def _check_skips(info: SourceInfo, options: ConversionOptions) -> None:
    ids = [each.episode_id for each in info.episodes]
    unknown = sorted(set(options.skip_episodes) - set(ids))
    if unknown:
        near = difflib.get_close_matches(unknown[0], ids, 1, 0.5)
        raise ConfigError(
            f"data.skip_episodes names {unknown[0]}, which does not exist",
            where=info.uri,
            why=f"it has {len(ids)} demonstrations, {ids[0] if ids else 'none'} to {ids[-1] if ids else 'none'}",
            fix=f"write {near[0]}" if near else "remove it from the list",
        )


def _estimated_bytes(info: SourceInfo, episodes: Sequence[EpisodeInfo]) -> list[int]:
    values = {"mjpeg": 0, "mp4": 0, "npy": 0}
    for camera in info.schema.cameras:
        values[camera.codec] += camera.height * camera.width * camera.channels
    images = values["npy"] + int(values["mjpeg"] * JPEG_BYTES_PER_VALUE) + int(values["mp4"] * VIDEO_BYTES_PER_VALUE)
    per_step = info.schema.row_dtype.itemsize + images
    return [2048 + each.length * per_step for each in episodes]


def _key(episode_id: str) -> bytes:
    """Of the id alone: an episode that is added later does not move the others."""
    return hashlib.sha256(b"tendon shard order 1:" + episode_id.encode()).digest()
