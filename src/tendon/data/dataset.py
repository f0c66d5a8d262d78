"""Reads a committed dataset: its manifest, its episodes and their bytes, verified at every read.

``open_dataset(uri)`` reads manifest.json. The index is read when an episode is first asked for. Used by stats, the
loader and the report.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.episode import Camera, Mask, Schema, VideoChunk
from tendon.data.index import PLACE, IndexTable
from tendon.data.manifest import Manifest, load_manifest
from tendon.data.masks import RunLengths, decoded, run_lengths
from tendon.data.rows import EpisodeRow, Rows
from tendon.data.tario import CHUNK_KEYS, EXTRA, LOWDIM, MP4, RAW, chunk_member, crc32c, npy_rows
from tendon.errors import ConfigError, DataError, nearest
from tendon.storage import Store, join, open_store
from tendon.storage.local import LocalStore
from tendon.storage.trees import download, file_sha256

__all__ = ["ALL", "Dataset", "EpisodeRow", "Rows", "open_dataset"]

ALL = "all"  # the split that holds every episode
JOIN_GAP = 128 << 10  # bytes between two members that are read rather than skipped
JOIN_MAX = 16 << 20
READERS = 8
LOWDIM_AT_ONCE = 64 << 20  # bytes of low-dimensional members that a pass holds
IN_MEMORY = 64 << 20  # a larger index of a remote dataset goes to a temporary file


class Dataset:
    """A committed dataset. Cheap to make; the index is read at the first need."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.store, self.manifest, self.uri = store, manifest, store.uri
        self._columns: dict[str, np.ndarray] = {}
        self.stacked_sums: dict[str, np.ndarray] = {}  # filled by stats

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits, besides ``all``."""
        return tuple(self.manifest.splits)

    @property
    def name(self) -> str:
        """What it was converted as."""
        return self.manifest.name

    @property
    def schema(self) -> Schema:
        """What every episode holds."""
        return self.manifest.schema

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the source said of its environment."""
        return self.manifest.metadata

    @property
    def has_index(self) -> bool:
        """Whether the index has been read."""
        return "table" in self.__dict__

    @cached_property
    def table(self) -> IndexTable:
        """The index, see data/index.py; columns are read when they are asked for.

        Raises:
            DataError: it is missing or damaged.
        """
        import pyarrow as pa

        entry = self.manifest.index
        if isinstance(self.store, LocalStore):
            path = self.store.root / entry.key
            sha256 = file_sha256(path) if path.is_file() else hashlib.sha256(self.store.read(entry.key)).hexdigest()
            file = pa.memory_map(str(path))
        elif entry.bytes > IN_MEMORY:
            self._folder = tempfile.TemporaryDirectory(prefix="tendon-index-")
            sha256 = download(self.store, entry.key, Path(self._folder.name) / "index.parquet")
            file = pa.memory_map(str(Path(self._folder.name) / "index.parquet"))
        else:
            content = self.store.read(entry.key)
            sha256, file = hashlib.sha256(content).hexdigest(), pa.BufferReader(content)
        if sha256 != entry.sha256:
            raise DataError(
                "the index of a dataset is damaged",
                where=f"{self.uri}/{entry.key}",
                why="its bytes do not have the sha256 that the manifest names",
                fix="delete the dataset's manifest.json and convert again: whole shards are kept",
            )
        return IndexTable(file)

    @cached_property
    def rows(self) -> Rows:
        """Every episode, in the order of its number."""
        return Rows(self.table, np.arange(self.table.num_rows))

    def episodes(self, split: str = ALL, skip_episodes: Sequence[str] = ()) -> Rows:
        """The episodes of a split, without those to skip.

        Raises:
            ConfigError: there is no such split or episode, or nothing is left.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        self._check_names(split, skip_episodes)
        mask = np.ones(len(self.rows), bool)
        if split != ALL:
            splits = self.table.combined("splits")  # one list per episode
            is_split = pc.equal(splits.flatten(), split).to_numpy(zero_copy_only=False)
            episode_of_entry = pc.list_parent_indices(splits).to_numpy()
            mask[:] = False
            mask[episode_of_entry[is_split]] = True
        if skip_episodes:
            wanted = pa.array(list(skip_episodes), pa.string())
            mask &= ~pc.is_in(self.table.combined("episode_id"), wanted).to_numpy(zero_copy_only=False)
        rows = self.rows.chosen(mask)
        if not len(rows):
            raise ConfigError(
                f"no episode is left in split {split}",
                where=self.uri,
                why=f"it has {len(self.rows)} episodes, {len(set(skip_episodes))} are skipped",
                fix="choose another split, or skip fewer episodes",
            )
        return rows

    def lowdim(self, row: EpisodeRow) -> np.ndarray:
        """The steps of an episode as one structured array ``[T]``, verified by its crc32c."""
        return npy_rows(self._read_span(self._spans([row.index], LOWDIM)[0])[row.index])

    def lowdims(self, rows: Sequence[EpisodeRow]) -> Iterator[np.ndarray]:
        """``lowdim`` of many episodes in the order asked for; members that lie close together are read at once."""
        numbers = rows.numbers if isinstance(rows, Rows) else np.array([row.index for row in rows], np.int64)
        ends = np.cumsum(self.table.array(f"{LOWDIM}/size")[numbers].astype(np.int64))
        cuts = np.flatnonzero(np.diff(ends // LOWDIM_AT_ONCE)) + 1  # so many bytes are held at a time
        with ThreadPoolExecutor(READERS) as pool:
            for some in np.split(numbers, cuts):
                contents: dict[int, bytes] = {}
                for contents_of_span in pool.map(self._read_span, self._spans(some.tolist(), LOWDIM)):
                    contents |= contents_of_span
                for number in some.tolist():
                    yield npy_rows(contents[number])

    def values(self, row: EpisodeRow, kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
        """The steps of an episode by key, ``[T, ...]``: numbers, decoded frames, masks, indexes of texts; ``kinds`` by key."""
        numbers = self.lowdim(row)
        columns = numbers.dtype.names or ()

        def of_key(key: str, kind: str) -> np.ndarray:
            if kind == "mask":
                return self.masks(row, key)
            if key in columns:
                return np.asarray(numbers[key])
            return np.full(len(numbers), self.task_numbers[row.index]) if kind == "text" else self.frames(row, key)

        return {key: of_key(key, kind) for key, kind in kinds.items()}

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
            _append_member(spans, row.shard, _Member(row.index, chunk_member(of, k), *place))
        contents = [content for span in spans for content in self._read_members(span)]
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

    def masks(self, row: EpisodeRow, name: str) -> np.ndarray:
        """All masks of one name, ``uint8 [T, H, W]`` of zeros and ones."""
        of = self.mask(name)
        return decoded(self._mask_array(row, of), of.codec, (row.length, of.height, of.width))

    def run_lengths(self, row: EpisodeRow, name: str) -> RunLengths:
        """All masks of one name as runs, whatever they are stored as."""
        of = self.mask(name)
        if of.codec == "rle":
            return run_lengths(self._mask_array(row, of), row.length)
        return RunLengths.of(self.masks(row, name))

    def mask(self, name: str) -> Mask:
        """The mask of that key, from the schema."""
        return next(each for each in self.manifest.schema.masks if each.name == name)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The table of texts: that of the schema, then tasks of episodes that it lacks, in the order of the episodes."""
        tasks = self.table.combined("task").unique().to_pylist()
        return tuple(dict.fromkeys([*self.manifest.schema.texts, *tasks]))

    @cached_property
    def task_numbers(self) -> np.ndarray:
        """The number of every episode's task in ``texts``, by the episode's number; int64."""
        import pyarrow as pa
        import pyarrow.compute as pc

        numbers = pc.index_in(self.table.combined("task"), pa.array(self.texts, pa.string()))
        return np.asarray(numbers.to_numpy(zero_copy_only=False), np.int64)

    def extras(self, row: EpisodeRow) -> dict[str, bytes]:
        """The files of an episode that are neither low-dimensional nor a camera, by name, verified."""
        if f"{EXTRA}name" not in self.table.column_names:
            return {}  # an older dataset: converted before extras existed
        columns = [self.table.column(f"{EXTRA}{key}")[row.index].as_py() or [] for key in ("name", *PLACE)]
        names = columns[0]
        spans: list[_Span] = []
        for name, *place in zip(*columns, strict=True):
            _append_member(spans, row.shard, _Member(row.index, f"{EXTRA}{name}", *place))
        return dict(zip(names, [content for span in spans for content in self._read_members(span)], strict=True))

    def camera(self, name: str) -> Camera:
        """The camera of that feature name, from the schema."""
        return next(each for each in self.manifest.schema.cameras if each.name == name)

    def _mask_array(self, row: EpisodeRow, of: Mask) -> np.ndarray:
        return npy_rows(self._read_span(self._spans([row.index], f"{of.member}.{of.codec}")[0])[row.index])

    def _column(self, name: str) -> np.ndarray:
        if name not in self._columns:
            self._columns[name] = self.table.array(name)
        return self._columns[name]

    def _spans(self, numbers: Sequence[int], member: str) -> list[_Span]:
        """Members of many episodes, grouped so that one read serves neighbours in a shard."""
        shards = self._column("shard")
        offsets, sizes, crcs = (self._column(f"{member}/{key}") for key in ("offset", "size", "crc32c"))
        spans: list[_Span] = []
        for i in sorted(set(numbers), key=lambda i: (shards[i], offsets[i])):
            _append_member(spans, int(shards[i]), _Member(i, member, int(offsets[i]), int(sizes[i]), int(crcs[i])))
        return spans

    def _read_span(self, span: _Span) -> dict[int, bytes]:
        return {part.row: content for part, content in zip(span.parts, self._read_members(span), strict=True)}

    def _read_members(self, span: _Span) -> list[bytes]:
        shard = self.manifest.shards[span.shard]
        try:
            content = self.store.read_range(shard.key, span.start, span.end - span.start)
        except DataError as error:
            raise self._damaged(shard.key, span.parts[0], error.problems[0].why) from error
        contents = []
        for part in span.parts:
            begin = part.offset - span.start
            contents.append(content[begin : begin + part.size])
            if crc32c(contents[-1]) != part.crc32c:
                raise self._damaged(shard.key, part, "its bytes do not have the crc32c that the index names")
        return contents

    def _damaged(self, key: str, part: _Member, why: str) -> DataError:
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
        ids = set(self.rows.ids()) | set(converted_without) if skip_episodes else set()
        for kind, name, known in [
            ("split", split, {ALL, *self.splits}),
            *(("episode", each, ids) for each in skip_episodes),
        ]:
            if name not in known:
                near = nearest(name, sorted(known), 0.4)
                some = ", ".join(sorted(known)[:8])
                raise ConfigError(
                    f"the dataset has no {kind} named {name}",
                    where=self.uri,
                    why=f"it has {some}{' ...' if len(known) > 8 else ''}",
                    fix=f"write {near}" if near else f"choose one of them ({ALL} is every episode)",
                )


@dataclass(frozen=True)
class _Member:
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
    parts: list[_Member]

    @property
    def start(self) -> int:
        return self.parts[0].offset

    @property
    def end(self) -> int:
        return self.parts[-1].offset + self.parts[-1].size


def _append_member(spans: list[_Span], shard: int, part: _Member) -> None:
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

    Example:
        ``rows = open_dataset("s3://bucket/datasets/lift/0123456789abcdef").episodes("train")``
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
