"""A committed dataset, opened: its manifest, its episodes, and their bytes, verified at every read.

``open_dataset(uri)`` reads manifest.json; the index is read when an episode is first asked for. Used by stats, the
loader and the report.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tendon.data.episode import Camera, VideoChunk
from tendon.data.index import PLACE, from_parquet
from tendon.data.manifest import Manifest, load_manifest
from tendon.data.tario import CHUNK_KEYS, EXTRA, LOWDIM, MP4, RAW, chunk_member, crc32c, npy_rows
from tendon.errors import ConfigError, DataError, Problem
from tendon.storage import Store, join, open_store

if TYPE_CHECKING:
    import pyarrow as pa

ALL = "all"  # the split that holds every episode
JOIN_GAP = 128 << 10  # bytes between two members that are read rather than skipped
JOIN_MAX = 16 << 20
READERS = 8


@dataclass(frozen=True)
class EpisodeRow:
    """One row of the index."""

    index: int  # the number in ep_<number>, which is also its row in the index
    episode_id: str
    shard: int
    length: int
    task: str
    success: bool | None
    splits: tuple[str, ...]


class Dataset:
    """A committed dataset. Cheap to make; the index is read at the first need."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.store, self.manifest, self.uri = store, manifest, store.uri
        self._columns: dict[str, np.ndarray] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits, besides ``all``."""
        return tuple(self.manifest.splits)

    @cached_property
    def table(self) -> pa.Table:
        """The index, see data/index.py.

        Raises:
            DataError: it is missing or damaged.
        """
        entry = self.manifest.index
        content = self.store.read(entry.key)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise DataError(
                "the index of a dataset is damaged",
                where=f"{self.uri}/{entry.key}",
                why="its bytes do not have the sha256 that the manifest names",
                fix="delete the dataset's manifest.json and convert again: whole shards are kept",
            )
        return from_parquet(content)

    @cached_property
    def rows(self) -> tuple[EpisodeRow, ...]:
        """Every episode, in the order of its number."""
        names = ("episode_index", "episode_id", "shard", "length", "task", "success", "splits")
        columns = [self.table.column(name).to_pylist() for name in names]
        return tuple(EpisodeRow(i, n, s, t, k, ok, tuple(of)) for i, n, s, t, k, ok, of in zip(*columns, strict=True))

    def episodes(self, split: str = ALL, skip_episodes: Sequence[str] = ()) -> tuple[EpisodeRow, ...]:
        """The episodes of a split, without those to skip.

        Raises:
            ConfigError: there is no such split or episode, or nothing is left.
        """
        self._check_names(split, skip_episodes)
        skipped = set(skip_episodes)
        rows = tuple(
            row for row in self.rows if (split == ALL or split in row.splits) and row.episode_id not in skipped
        )
        if not rows:
            raise ConfigError(
                f"no episode is left in split {split}",
                where=self.uri,
                why=f"it has {len(self.rows)} episodes, {len(skipped)} are skipped",
                fix="choose another split, or skip fewer episodes",
            )
        return rows

    def lowdim(self, row: EpisodeRow) -> np.ndarray:
        """The steps of an episode as one structured array ``[T]``, verified by its crc32c."""
        return next(self.lowdims([row]))

    def lowdims(self, rows: Sequence[EpisodeRow]) -> Iterator[np.ndarray]:
        """``lowdim`` of many episodes in the order asked for; members that lie close together are read at once."""
        spans = self._spans([row.index for row in rows], LOWDIM)
        contents: dict[int, bytes] = {}
        with ThreadPoolExecutor(min(READERS, len(spans) or 1)) as pool:
            for found in pool.map(self._read_span, spans):
                contents |= found
        for row in rows:
            yield npy_rows(contents[row.index])

    def jpegs(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> list[bytes]:
        """Encoded frames of one camera (by its feature name); all of them unless ``frames`` are given."""
        member = f"{self.camera(camera).member}.mjpeg"
        content = self._read_span(self._spans([row.index], member)[0])[row.index]
        starts = self.table.column(f"{member}/frames")[row.index].as_py()
        ends = [*starts[1:], len(content)]
        return [content[starts[i] : ends[i]] for i in (range(len(starts)) if frames is None else frames)]

    def video_chunks(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> list[VideoChunk]:
        """The mp4 chunks of one camera in order, verified; only those with one of ``frames`` where these are given."""
        of = self.camera(camera)
        values = {
            key: self.table.column(f"{of.member}.{MP4}/{key}")[row.index].as_py() for key in (*PLACE, *CHUNK_KEYS)
        }
        chosen = range(len(values["size"]))
        if frames is not None:
            chosen = np.unique(np.searchsorted(values["first_frame"], np.asarray(frames), "right") - 1).tolist()
        spans: list[_Span] = []
        for k in chosen:
            place = (int(values[key][k]) for key in PLACE)
            _append_part(spans, row.shard, _Part(row.index, chunk_member(of, k), *place))
        contents = [content for span in spans for content in self._read_parts(span)]
        return [
            VideoChunk(content, *(int(values[key][k]) for key in CHUNK_KEYS))
            for k, content in zip(chosen, contents, strict=True)
        ]

    def frames(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> np.ndarray:
        """Decoded frames of one camera, ``uint8 [N, H, W, C]``, in the order asked for; all unless ``frames`` are given."""
        from tendon.data.video import decode_chunks, decode_jpegs

        of = self.camera(camera)
        wanted = range(row.length) if frames is None else frames
        if of.codec == MP4:
            return decode_chunks(self.video_chunks(row, camera, frames), wanted)
        if of.codec == RAW:
            member = f"{of.member}.{RAW}"
            whole = npy_rows(self._read_span(self._spans([row.index], member)[0])[row.index])
            return whole if frames is None else whole[np.asarray(frames, np.int64)]
        return decode_jpegs(self.jpegs(row, camera, frames), of.channels)

    def extras(self, row: EpisodeRow) -> dict[str, bytes]:
        """What of an episode is neither low-dimensional nor a camera, by file name, verified."""
        columns = [self.table.column(f"{EXTRA}{key}")[row.index].as_py() for key in ("name", *PLACE)]
        names = columns[0]
        spans: list[_Span] = []
        for name, *place in zip(*columns, strict=True):
            _append_part(spans, row.shard, _Part(row.index, f"{EXTRA}{name}", *place))
        return dict(zip(names, [content for span in spans for content in self._read_parts(span)], strict=True))

    def camera(self, name: str) -> Camera:
        """What the schema says of a camera, by its feature name."""
        return next(each for each in self.manifest.schema.cameras if each.name == name)

    def problems(self) -> list[Problem]:
        """Shards that are missing or whose bytes are not what was committed; reads everything."""
        found = []
        for shard in self.manifest.shards:
            where = join(self.uri, shard.key)
            fix = "delete the shard and the dataset's manifest.json, then convert again: only what is missing is made"
            try:
                content = self.store.read(shard.key)
            except DataError as error:
                found.append(Problem("a shard is missing", where, error.problems[0].why, fix))
                continue
            if hashlib.sha256(content).hexdigest() != shard.sha256:
                why = f"{len(content)} of {shard.bytes} bytes, and not the sha256 that the manifest names"
                found.append(Problem("a shard is damaged", where, why, fix))
        return found

    def _column(self, name: str) -> np.ndarray:
        if name not in self._columns:
            self._columns[name] = self.table.column(name).to_numpy()
        return self._columns[name]

    def _spans(self, numbers: Sequence[int], member: str) -> list[_Span]:
        """Members of many episodes, grouped so that one read serves neighbours in a shard."""
        shards = self._column("shard")
        offsets, sizes, crcs = (self._column(f"{member}/{key}") for key in ("offset", "size", "crc32c"))
        spans: list[_Span] = []
        for i in sorted(set(numbers), key=lambda i: (shards[i], offsets[i])):
            _append_part(spans, int(shards[i]), _Part(i, member, int(offsets[i]), int(sizes[i]), int(crcs[i])))
        return spans

    def _read_span(self, span: _Span) -> dict[int, bytes]:
        return {part.row: content for part, content in zip(span.parts, self._read_parts(span), strict=True)}

    def _read_parts(self, span: _Span) -> list[bytes]:
        shard = self.manifest.shards[span.shard]
        try:
            content = self.store.read_range(shard.key, span.start, span.end - span.start)
        except DataError as error:
            raise self._damaged(shard.key, span.parts[0], error.problems[0].why) from error
        found = []
        for part in span.parts:
            begin = part.offset - span.start
            found.append(content[begin : begin + part.size])
            if crc32c(found[-1]) != part.crc32c:
                raise self._damaged(shard.key, part, "its bytes do not have the crc32c that the index names")
        return found

    def _damaged(self, key: str, part: _Part, why: str) -> DataError:
        row = self.rows[part.row]
        member = f"ep_{row.index:08d}.{part.member}"
        source = self.manifest.sources[0].uri
        return DataError(
            "a shard is missing or damaged",
            where=f"{join(self.uri, key)}, member {member}, offset {part.offset}, episode {row.episode_id} of {source}",
            why=why,
            fix="delete the shard and the dataset's manifest.json, then convert again: only what is missing is made",
        )

    def _check_names(self, split: str, skip_episodes: Sequence[str]) -> None:
        converted_without: list[str] = self.manifest.created_by.get("options", {}).get("skip_episodes", [])
        ids = {row.episode_id for row in self.rows} | set(converted_without) if skip_episodes else set()
        for kind, name, known in [
            ("split", split, {ALL, *self.splits}),
            *(("episode", each, ids) for each in skip_episodes),
        ]:
            if name not in known:
                near = difflib.get_close_matches(name, sorted(known), 1, 0.4)
                some = ", ".join(sorted(known)[:8])
                raise ConfigError(
                    f"the dataset has no {kind} named {name}",
                    where=self.uri,
                    why=f"it has {some}{' ...' if len(known) > 8 else ''}",
                    fix=f"write {near[0]}" if near else f"choose one of them ({ALL} is every episode)",
                )


@dataclass(frozen=True)
class _Part:
    """One member of one episode inside a shard."""

    row: int
    member: str
    offset: int
    size: int
    crc32c: int


@dataclass(frozen=True)
class _Span:
    """Neighbouring members of a shard that are read at once."""

    shard: int
    parts: list[_Part]

    @property
    def start(self) -> int:
        return self.parts[0].offset

    @property
    def end(self) -> int:
        return self.parts[-1].offset + self.parts[-1].size


def _append_part(spans: list[_Span], shard: int, part: _Part) -> None:
    """Add a member to the last span when it lies near in the same shard, else to a new one."""
    last = spans[-1] if spans else None
    near = last and last.shard == shard and part.offset - last.end <= JOIN_GAP
    if last and near and part.offset + part.size - last.start <= JOIN_MAX:
        last.parts.append(part)
    else:
        spans.append(_Span(shard, [part]))


def open_dataset(uri: str) -> Dataset:
    """The dataset at ``uri``.

    Raises:
        DataError: there is none, or its conversion has not finished.
    """
    store = open_store(uri)
    manifest = load_manifest(store)
    if manifest is None:
        started: Any = next(iter(store.list()), None)
        raise DataError(
            "there is no dataset here",
            where=uri,
            why="it has no manifest.json" + (": its conversion has not finished" if started else ""),
            fix="run the conversion again: it continues" if started else "convert demonstrations first: tendon convert",
        )
    return Dataset(store, manifest)
