"""The part of the dataset that is in memory: units of episodes, their frames decoded or encoded.

Some threads fetch units, others decode them. The unit that is needed last is evicted first. gather.py calls
``acquire`` with the units of a batch; loader.py calls ``expect`` with those of later batches.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tendon.data.episode import Camera
from tendon.data.masks import CODECS
from tendon.data.tario import LOWDIM, MP4, RAW
from tendon.errors import DataError
from tendon.loader.budget import Shares
from tendon.loader.fetch import Reader
from tendon.loader.first_reads import first_reads
from tendon.loader.frames import decode_jpeg_into, decode_mp4_into, open_array
from tendon.loader.layout import Range, ShardLayout, ShardMember, range_of
from tendon.loader.meter import Meter
from tendon.loader.row_allocator import ReadBuffers, RowAllocator
from tendon.loader.video_decoder import ChunkTable, chunk_table

log = logging.getLogger(__name__)

ARRAYS = (*CODECS, RAW)  # codecs of members that are one array


@dataclass(frozen=True)
class Columns:
    """Features with the same window, side by side, ``[rows, sum of D]``."""

    names: tuple[str, ...]
    dims: tuple[int, ...]
    dtype: str = "<f4"  # or <i8, for indexes into a table
    texts: tuple[str, ...] = ()  # those of the names that have one number per step and no axis for it


@dataclass
class CachedUnit:
    """A unit in memory, or being loaded."""

    row0: int
    rows: int
    encoded: int  # bytes
    pending: dict[int, Future[None]] = field(default_factory=dict)  # by episode, while it is loaded
    members: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)  # encoded, by episode and member
    tables: dict[tuple[int, str], ChunkTable | None] = field(default_factory=dict)  # of encoded chunks of video
    bad: dict[int, DataError] = field(default_factory=dict)  # by episode
    pins: int = 0  # batches that read it now; only a unit without any may be evicted


class UnitCache:
    """Loads units into a fixed budget of memory and evicts them again."""

    def __init__(
        self, layout: ShardLayout, columns: Sequence[Columns], shares: Shares, reader: Reader, threads: int
    ) -> None:
        self.layout, self.shares, self.meter = layout, shares, Meter()
        self.next_use: Callable[[np.ndarray], np.ndarray] = lambda units: np.zeros(len(units))
        self._columns, self._reader, self._source = tuple(columns), reader, reader.source
        self.decoded = shares.tier != "window"
        self.values = [np.empty((shares.rows, sum(each.dims)), each.dtype) for each in columns]
        self.frames = {
            each.name: np.empty((shares.rows, *each.shape), each.dtype)
            for each in (layout.pictures if self.decoded else ())
        }
        rows_E = np.concatenate([[0], np.cumsum(layout.lengths)])
        self._first_row = rows_E[layout.unit_start]
        self._row_E = rows_E[:-1]  # of an episode's first step, when everything has a row
        self._row_in_unit = self._row_E - self._first_row[layout.unit_of]
        self._row_allocator = RowAllocator(shares.rows, whole=shares.rows >= int(rows_E[-1]))
        self._cached: dict[int, CachedUnit] = {}
        self._row0 = np.zeros(layout.num_units, np.int64)
        self._encoded = self._in_flight = 0
        self._ready = False
        self._lock = threading.Condition()
        self._buffers = ReadBuffers(shares.in_flight)
        self.num_threads, self.pool = threads, ThreadPoolExecutor(threads, "decode")
        self._fetchers = reader.pool
        # Before the first batch: load the episodes of that batch first, everything else (deferred) after them.
        self.cold = reader.source.waits
        self._first_reads: tuple[Set[int], dict[int, int]] | None = None  # of what is wanted, by episode
        self._deferred: list[tuple[int, CachedUnit, list[Range], int, Future[None]]] = []
        self._deferred_units: list[int] = []
        dtype = layout.dataset.manifest.schema.row_dtype
        self._dtype, self._floats = dtype, all(dtype[name].base == np.dtype("<f4") for name in dtype.names or ())
        self._floats &= all(each.dtype == "<f4" for each in self._columns)
        self._float_indices = [self._float_indices_of(each) for each in self._columns]
        self._cameras = {each.member: each for each in layout.pictures if isinstance(each, Camera)}
        self._arrays = {f"{each.member}.{each.codec}": each for each in layout.pictures if each.codec in ARRAYS}

    @property
    def complete(self) -> bool:
        """Whether every unit is in memory or being loaded."""
        return len(self._cached) == self.layout.num_units

    @property
    def ready(self) -> bool:
        """Whether the whole dataset is in memory, decoded and intact. From then on nothing is ever waited for."""
        if (
            not self._ready
            and self._row_allocator.whole
            and self.complete
            and (self.decoded or not self.layout.pictures)
        ):
            with self._lock:
                self._ready = not any(cached.pending or cached.bad for cached in self._cached.values())
        return self._ready

    def close(self) -> None:
        """Stop its threads."""
        self._reader.close()
        self.pool.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------------------------------------ used by batches

    def acquire(self, units: Sequence[int], episodes: Iterable[int]) -> tuple[dict[int, CachedUnit], list[int]]:
        """Pin as many of ``units`` as there is room for, and wait for their ``episodes``.

        Returns:
            The pinned units, and those that did not fit: acquire them after a release.
        """
        pinned: dict[int, CachedUnit] = {}
        with self._lock:
            wanted = set(episodes) if self.cold else set()
            for unit in units:
                cached = self._cached.get(unit) or self._start(unit, True, wanted)
                if cached is not None:
                    cached.pins += 1
                    pinned[unit] = cached
        if not pinned:  # later batches' units fill the memory and are still being loaded, so none can be evicted
            self._wait_for_pending()
            with self._lock:
                cached = self._start(units[0], True)
                assert cached is not None, "the budget holds the largest unit"
                cached.pins += 1
                pinned[units[0]] = cached
        missing = []
        if any(cached.pending for cached in pinned.values()):
            missing = self._pending_of(pinned, episodes)
        if not self.cold or any(job[-1] in missing for job in self._deferred):
            self._submit_deferred()
        if missing:
            with self.meter.waiting("fetch" if self._source.waits else "decode"):
                wait(missing)
            try:
                for future in missing:
                    future.result()
            except BaseException:
                self._forget(pinned)
                raise
        if not self.decoded:  # decoding the batch takes a while; copying it does not, and waits for the release
            self._submit_deferred_soon()
        self.cold = False
        return pinned, [unit for unit in units if unit not in pinned]

    def _pending_of(self, pinned: Mapping[int, CachedUnit], episodes: Iterable[int]) -> list[Future[None]]:
        """What must be waited for before the pinned ones of ``episodes`` can be read."""
        futures = []
        for episode in episodes:
            cached = pinned.get(int(self.layout.unit_of[episode]))
            if cached is not None and (future := cached.pending.get(episode)) is not None:
                futures.append(future)
        return futures

    def release(self, pinned: dict[int, CachedUnit]) -> None:
        """Unpin what ``acquire`` pinned."""
        with self._lock:
            for cached in pinned.values():
                cached.pins -= 1
        self._submit_deferred_soon()

    def expect(self, units: Iterable[int], first: Iterable[int] = ()) -> None:
        """Begin to load units that are needed soon, in that order, while there is room; ``first`` episodes first."""
        with self._lock:
            wanted = set(first) if self.cold else set()
            if wanted:  # planning the other units would hold up the requests for these
                first_units = {int(unit) for unit in self.layout.unit_of[list(wanted)]}
                self._deferred_units = [unit for unit in units if unit not in first_units]
                units = [unit for unit in units if unit in first_units]
            self._start_in_order(units, wanted)
            if not self.cold:
                self._submit_deferred()

    def _start_in_order(self, units: Iterable[int], wanted: Set[int] = frozenset(), evict: bool = True) -> None:
        """Begin to load units that are not there until one has no room."""
        for unit in units:
            if unit not in self._cached and self._start(unit, False, wanted, evict) is None:
                break

    def rows_of(self, episodes: np.ndarray) -> np.ndarray:
        """The first row of every episode; they must be pinned."""
        if self._row_allocator.whole:
            return np.asarray(self._row_E[episodes])
        return np.asarray(self._row0[self.layout.unit_of[episodes]] + self._row_in_unit[episodes])

    def errors(self, episodes: Iterable[int]) -> dict[int, DataError]:
        """The errors of those ``episodes`` that cannot be read."""
        errors = {}
        for episode in episodes:
            cached = self._cached[int(self.layout.unit_of[episode])]
            if episode in cached.bad:
                errors[episode] = cached.bad[episode]
        return errors

    # ------------------------------------------------------------------------------------------- loading and eviction

    def _start(self, unit: int, first: bool, wanted: Set[int] = frozenset(), evict: bool = True) -> CachedUnit | None:
        """Make room for a unit and begin to load it: ``wanted`` episodes at once, the others with _submit_deferred.

        The caller holds the lock. None when there is no room now; ``first`` (a batch waits for it) evicts whatever is free.
        """
        rows = int(self._first_row[unit + 1] - self._first_row[unit])
        encoded = int(self.layout.bytes_E[self.layout.unit_start[unit] : self.layout.unit_start[unit + 1]].sum())
        if not first and self._in_flight + encoded > self.shares.in_flight:
            return None
        keep = 0 if self.decoded else encoded
        row0 = self._make_room(unit, rows, keep, first, evict)
        if row0 is None:
            return None
        cached = self._cached[unit] = CachedUnit(row0, rows, keep)
        self._row0[unit] = row0
        self._encoded += keep
        for ranges in self._grouped_ranges(unit, wanted):
            size = sum(each.end - each.start for each in ranges)
            self._in_flight += size
            done: Future[None] = Future()
            for each in ranges:
                for member in each.members:
                    cached.pending[member.episode] = done
            job = (unit, cached, ranges, size, done)
            if not wanted.isdisjoint(member.episode for each in ranges for member in each.members):
                (self._fetchers or self.pool).submit(self._load, *job)
            else:
                self._deferred.append(job)
        return cached

    def _submit_deferred_soon(self) -> None:
        """In another thread: it takes as long as a small read."""
        if self._deferred or self._deferred_units:
            (self._fetchers or self.pool).submit(self._submit_deferred)

    def _submit_deferred(self) -> None:
        """Begin to load what was deferred; nothing is deferred from now on."""
        with self._lock:
            self.cold = False
            self._start_in_order(self._deferred_units, evict=False)  # another thread must not ask next_use
            self._deferred_units = []
            for job in self._deferred:
                (self._fetchers or self.pool).submit(self._load, *job)
            self._deferred.clear()

    def _make_room(self, unit: int, rows: int, encoded: int, first: bool, evict: bool) -> int | None:
        """The first row for a unit of so many rows and encoded bytes; None when not enough can be evicted."""
        evictable: list[int] | None = None
        while True:
            row0: int | None = None
            if self.decoded or self._encoded + encoded <= self.shares.encoded:
                whole = self._row_allocator.whole
                row0 = int(self._first_row[unit]) if whole else self._row_allocator.take(rows)
            if row0 is not None:
                return row0
            if evictable is None:
                evictable = self._evictable(unit, first) if evict else []
            if not evictable:
                return None
            self._drop(evictable.pop())

    def _evictable(self, unit: int, first: bool) -> list[int]:
        """Units that may be evicted for ``unit``, the one needed last at the end; every free one if it is needed now."""
        free = [u for u, cached in self._cached.items() if not cached.pins and not cached.pending]
        if not free:
            return []
        uses = self.next_use(np.array([unit, *free]))
        use_of_unit, *uses_of_free = uses.tolist()
        by_use = sorted(zip(uses_of_free, free, strict=True))
        return [u for use, u in by_use if first or use > use_of_unit]

    def _drop(self, unit: int) -> None:
        cached = self._cached.pop(unit)
        self._encoded -= cached.encoded
        if not self._row_allocator.whole:
            self._row_allocator.give_back(cached.row0, cached.rows)

    def _forget(self, pinned: dict[int, CachedUnit]) -> None:
        """After an error: drop the units that failed to load, so that the next ``acquire`` loads them again."""
        self._submit_deferred()
        wait({future for cached in pinned.values() for future in cached.pending.values()})
        with self._lock:
            for unit, cached in pinned.items():
                cached.pins -= 1
                if cached.pending and not cached.pins:
                    self._drop(unit)

    def _wait_for_pending(self) -> None:
        """Until a unit is loaded it cannot be evicted: wait for all of them."""
        self._submit_deferred()
        with self._lock:
            pending = {future for cached in self._cached.values() for future in cached.pending.values()}
        with self.meter.waiting("fetch"):
            wait(pending)

    def _grouped_ranges(self, unit: int, wanted: Set[int]) -> list[list[Range]]:
        """The reads of a unit, in groups that become available together.

        Normally one group. Before the first batch its episodes (``wanted``) come first, divided among the connections.
        """
        ranges, episodes = self.layout.ranges(unit), self.layout.episodes(unit)
        if not wanted or len(episodes) == 1:
            return [ranges]
        if self._first_reads is None or self._first_reads[0] != wanted:
            reads = first_reads(wanted, self.layout.unit_of, self.layout.bytes_E, self._reader.num)
            self._first_reads = set(wanted), {episode: i for i, read in enumerate(reads, 1) for episode in read}
        group_of = self._first_reads[1]  # group 0 is everything else
        groups: dict[int, list[Range]] = {}
        for each in ranges:
            for key, run in itertools.groupby(each.members, lambda member: group_of.get(member.episode, 0)):
                groups.setdefault(key, []).append(range_of(each.shard, list(run)))
        return [groups[key] for key in sorted(groups, key=lambda key: (key == 0, key))]

    # --------------------------------------------------------------------------------------------------- bytes to rows

    def _load(self, unit: int, cached: CachedUnit, ranges: list[Range], size: int, done: Future[None]) -> None:
        """Fetch; then decode, in another thread when fetching waits for a network."""
        try:
            contents = [self._fetched(cached, each) for each in ranges]
            if self._fetchers is None:
                self._unpack(unit, cached, ranges, contents, size, done)
            else:
                self.pool.submit(self._unpack, unit, cached, ranges, contents, size, done)
        except BaseException as error:
            self._finished(cached, ranges, size, done, error)

    def _fetched(self, cached: CachedUnit, wanted: Range) -> np.ndarray:
        """The bytes of a range; members that are damaged twice are noted in ``cached.bad``."""
        size = wanted.end - wanted.start
        content = self._buffers.take(size) if self.decoded else np.empty(size, np.uint8)
        key = self.layout.key(wanted.shard)
        try:
            self._source.read_into(key, wanted.start, memoryview(content))  # type: ignore[arg-type]
        except DataError as error:
            for member in wanted.members:
                cached.bad[member.episode] = self.layout.damaged(member, error.problems[0].why)
            return content
        for member in wanted.members:
            at = member.offset - wanted.start
            member_bytes = content[at : at + member.size]
            if _crc32c(member_bytes) != member.crc32c:
                log.warning("loader: %s, bytes from %d are damaged; reading them again", key, member.offset)
                self._source.read_into(key, member.offset, memoryview(member_bytes), fresh=True)  # type: ignore[arg-type]
                if _crc32c(member_bytes) != member.crc32c:
                    why = "its bytes do not have the crc32c that the index names, twice"
                    cached.bad[member.episode] = self.layout.damaged(member, why)
        return content

    def _unpack(
        self,
        unit: int,
        cached: CachedUnit,
        ranges: list[Range],
        contents: list[np.ndarray],
        size: int,
        done: Future[None],
    ) -> None:
        failed: BaseException | None = None
        try:
            for each, content in zip(ranges, contents, strict=True):
                for member in each.members:
                    if member.episode not in cached.bad:
                        self._store(cached, member, content[member.offset - each.start :][: member.size])
            if self.decoded:
                self._buffers.give_back(contents)
        except BaseException as error:
            failed = error
        self._finished(cached, ranges, size, done, failed)

    def _finished(
        self, cached: CachedUnit, ranges: list[Range], size: int, done: Future[None], error: BaseException | None
    ) -> None:
        with self._lock:
            self._in_flight -= size
            for each in ranges:
                for member in each.members:
                    if error is None:
                        cached.pending.pop(member.episode, None)
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def _store(self, cached: CachedUnit, member: ShardMember, content: np.ndarray) -> None:
        """Write one member into the cache's arrays, or keep it encoded."""
        row = cached.row0 + int(self._row_in_unit[member.episode])
        length = int(self.layout.lengths[member.episode])
        try:
            if member.name == LOWDIM:
                self._store_rows(content, row, length)
            elif not self.decoded:
                cached.members[(member.episode, member.name)] = content
            elif member.name.endswith(f".{MP4}"):
                frames = self.frames[self._cameras[member.name.rsplit(".", 2)[0]].name]
                first = row + member.first_frame - member.skip
                chosen = range(member.skip, member.skip + member.num_frames)
                places = {i: (frames[first + i],) for i in chosen}
                decode_mp4_into(content.data, places, chunk_table(content.data))
            elif member.name in self._arrays:
                picture = self._arrays[member.name]
                write, frames = open_array(content, picture, length), self.frames[picture.name]
                for step in range(length):
                    write(step, frames[row + step])
            else:
                frames = self.frames[self._cameras[member.name.rsplit(".", 1)[0]].name]
                starts = self.layout.frame_starts(member.name, member.episode).tolist()
                for i, (begin, end) in enumerate(zip(starts, [*starts[1:], member.size], strict=True)):
                    decode_jpeg_into(content.data[begin:end], frames[row + i])
        except (ValueError, OSError, IndexError) as error:
            cached.bad[member.episode] = self.layout.damaged(member, f"it cannot be decoded: {error}")

    def _store_rows(self, content: np.ndarray, row: int, length: int) -> None:
        """The low-dimensional member (a .npy of one structured array) into the float arrays of the column groups."""
        offset = len(content) - length * self._dtype.itemsize
        if offset < 0:
            raise ValueError(f"{len(content)} bytes are too few for {length} steps")
        if self._floats:
            matrix = np.frombuffer(content, np.float32, offset=offset).reshape(length, -1)  # type: ignore[call-overload]
            for values, indices in zip(self.values, self._float_indices, strict=True):
                # mode="clip" is only faster: the indices come from the schema and are always inside
                np.take(matrix, indices, axis=1, out=values[row : row + length], mode="clip")
            return
        steps = np.frombuffer(content, self._dtype, offset=offset)  # type: ignore[call-overload]
        for values, columns in zip(self.values, self._columns, strict=True):
            at = 0
            for name, dim in zip(columns.names, columns.dims, strict=True):
                values[row : row + length, at : at + dim] = steps[name].reshape(length, dim)
                at += dim

    def _float_indices_of(self, columns: Columns) -> np.ndarray:
        """Which floats of a stored row these columns are; empty when a row is not made of float32 alone."""
        indices = [np.zeros(0, np.int64)]
        if self._floats:
            fields: Mapping[str, Any] = self._dtype.fields or {}
            for name, dim in zip(columns.names, columns.dims, strict=True):
                start = fields[name][1] // 4
                indices.append(np.arange(start, start + dim))
        return np.concatenate(indices)


def _crc32c(content: np.ndarray) -> int:
    """The checksum of an array; google_crc32c would copy a memoryview."""
    import google_crc32c

    return int(google_crc32c.value(content))
