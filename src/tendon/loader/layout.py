"""Byte ranges of the members that a loader reads. Members of neighbouring episodes form units, fetched together.

Built once per loader from the dataset's index. Pure arithmetic on columns; fetch.py does the reading. Axes: E episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tendon.data.dataset import Dataset
from tendon.data.episode import Camera, Mask
from tendon.data.rows import Rows
from tendon.data.tario import LOWDIM, MP4
from tendon.errors import DataError
from tendon.storage import join

JOIN_GAP = 128 << 10  # bytes between two members that are read rather than skipped


class ShardMember(NamedTuple):
    """One member of one episode inside its shard."""

    episode: int  # index among the loader's episodes
    name: str  # such as lowdim.npy
    offset: int
    size: int
    crc32c: int
    first_frame: int = 0  # of an mp4 chunk
    num_frames: int = 0
    skip: int = 0


class Range(NamedTuple):
    """Neighbouring members of one shard, fetched in one read."""

    shard: int
    start: int
    end: int
    members: tuple[ShardMember, ...]


class ShardLayout:
    """Where in the shards the selected columns, cameras and masks of the selected episodes are stored."""

    def __init__(
        self, dataset: Dataset, rows: Rows, lowdim: bool, pictures: Sequence[Camera | Mask], unit_bytes: int
    ) -> None:
        self.dataset, self.rows, self.pictures = dataset, rows, tuple(pictures)
        self.lengths = rows.lengths.astype(np.int64)
        self.shard = rows.column("shard").to_numpy().astype(np.int64)
        number = rows.numbers
        self._plain = [LOWDIM] if lowdim else []
        self._plain += [f"{each.member}.{each.codec}" for each in pictures if each.codec != MP4]
        keys = ("offset", "size", "crc32c")
        self._columns = {
            member: [dataset.table.column(f"{member}/{key}").to_numpy().astype(np.int64)[number] for key in keys]
            for member in self._plain
        }
        self._frames = {
            member: _flat(dataset, f"{member}/frames", number) for member in self._plain if member.endswith(".mjpeg")
        }
        self._chunks = {
            camera.member: [
                _lists(dataset, f"{camera.member}.{MP4}/{key}", number)
                for key in (*keys, "first_frame", "num_frames", "skip")
            ]
            for camera in pictures
            if camera.codec == MP4
        }
        self.bytes_E = np.zeros(len(rows), np.int64)
        for _, sizes, _ in self._columns.values():
            self.bytes_E += sizes
        for columns in self._chunks.values():
            self.bytes_E += np.array([int(sizes.sum()) for sizes in columns[1]], np.int64)
        # first episode of every unit, then the number of episodes
        self.unit_start = _unit_starts(self.shard, self.bytes_E, unit_bytes)
        self.unit_of = np.repeat(np.arange(self.num_units), np.diff(self.unit_start))

    @property
    def num_units(self) -> int:
        """How many units there are."""
        return len(self.unit_start) - 1

    def episodes(self, unit: int) -> range:
        """The episodes of a unit."""
        return range(int(self.unit_start[unit]), int(self.unit_start[unit + 1]))

    def frame_starts(self, member: str, episode: int) -> np.ndarray:
        """Where the frames of an mjpeg member begin."""
        flat, first, num = self._frames[member]
        return np.asarray(flat[first[episode] :][: num[episode]])

    def frame_bounds(self, member: str, episodes: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where frames of an mjpeg member begin and end."""
        flat, first, num = self._frames[member]
        at, sizes = first[episodes] + frames, self._columns[member][1]
        following = flat[np.minimum(at + 1, len(flat) - 1)]
        return flat[at], np.where(frames + 1 < num[episodes], following, sizes[episodes])

    def chunks(self, member: str, episode: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First frame, number of frames and frames to skip of the chunks of a video."""
        first, num, skip = (column[episode] for column in self._chunks[member][3:])
        return first, num, skip

    def ranges(self, unit: int) -> list[Range]:
        """The reads of a unit. Members with a small gap between them share one read."""
        members = [member for episode in self.episodes(unit) for member in self.members(episode)]
        members.sort(key=lambda member: member.offset)
        runs: list[list[ShardMember]] = []
        end = -1
        for member in members:
            if runs and member.offset - end <= JOIN_GAP:
                runs[-1].append(member)
            else:
                runs.append([member])
            end = member.offset + member.size
        shard = int(self.shard[self.unit_start[unit]])
        return [range_of(shard, run) for run in runs]

    def members(self, episode: int) -> list[ShardMember]:
        """The members of an episode."""
        members = [
            ShardMember(episode, name, int(offset[episode]), int(size[episode]), int(crc[episode]))
            for name, (offset, size, crc) in self._columns.items()
        ]
        for name, columns in self._chunks.items():
            chunks = zip(*(column[episode].tolist() for column in columns), strict=True)
            members += [ShardMember(episode, f"{name}.{i:04d}.{MP4}", *chunk) for i, chunk in enumerate(chunks)]
        return members

    def member(self, episode: int, name: str) -> ShardMember:
        """One member of an episode."""
        return next(member for member in self.members(episode) if member.name == name)

    def key(self, shard: int) -> str:
        """The key of a shard in the dataset's store."""
        return self.dataset.manifest.shards[shard].key

    def damaged(self, member: ShardMember, why: str) -> DataError:
        """The error for a member that cannot be read. It names shard, member, offset, episode and source file."""
        row, manifest = self.rows[member.episode], self.dataset.manifest
        source = manifest.sources[0].uri if manifest.sources else "its source"
        where = f"{join(self.dataset.uri, self.key(row.shard))}, member ep_{row.index:08d}.{member.name}"
        return DataError(
            "a shard is missing or damaged",
            where=f"{where}, offset {member.offset}, episode {row.episode_id} of {source}",
            why=why,
            fix="delete the shard and the dataset's manifest.json, then convert again: only what is missing is made; "
            "or leave the episode out (data.skip_episodes)",
        )


def range_of(shard: int, members: Sequence[ShardMember]) -> Range:
    """One read from the first of ``members`` to the last; they are sorted by offset."""
    return Range(shard, members[0].offset, members[-1].offset + members[-1].size, tuple(members))


def as_stored(rows: Rows) -> Rows:
    """The episodes in their order within the shards, so that neighbours can be fetched together."""
    offset, shard = rows.column(f"{LOWDIM}/offset"), rows.column("shard")
    return rows.chosen(np.lexsort((offset.to_numpy(), shard.to_numpy())))


def _flat(dataset: Dataset, name: str, number: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A column of lists as one array: all values, then per episode the index of its first value and their count."""
    column = dataset.table.column(name).combine_chunks()
    flat, offsets = column.flatten().to_numpy(zero_copy_only=False), column.offsets.to_numpy().astype(np.int64)
    offsets = offsets - offsets[0]
    return flat, offsets[number], offsets[number + 1] - offsets[number]


def _lists(dataset: Dataset, name: str, number: np.ndarray) -> list[np.ndarray]:
    flat, first, num = _flat(dataset, name, number)
    return [flat[at : at + count] for at, count in zip(first.tolist(), num.tolist(), strict=True)]


def _unit_starts(shard_E: np.ndarray, bytes_E: np.ndarray, max_bytes: int) -> np.ndarray:
    # Units decide which episodes are dealt to a lane together: another rule here is another order of windows.
    starts, unit_bytes = [0], 0
    for episode in range(len(shard_E)):
        new_shard = episode and shard_E[episode] != shard_E[episode - 1]
        if episode and (new_shard or unit_bytes + bytes_E[episode] > max_bytes):
            starts.append(episode)
            unit_bytes = 0
        unit_bytes += int(bytes_E[episode])
    return np.array([*starts, len(shard_E)], np.int64)
