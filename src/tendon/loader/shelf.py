"""What is in memory of the dataset: rows of units, their frames decoded or encoded, loaded when they are needed.

Units are fetched by some threads and decoded by others; what is needed last is put away first. Called by gather.py with
the units of a batch; ``expect`` gives it the units of the batches after it.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tendon.data.tario import LOWDIM, MP4
from tendon.errors import DataError
from tendon.loader.budget import Shares
from tendon.loader.fetch import Bytes
from tendon.loader.frames import decode_jpeg_into, decode_mp4_into
from tendon.loader.layout import Layout, Part, Range
from tendon.loader.meter import Meter
from tendon.loader.rooms import Buffers, Rooms

log = logging.getLogger(__name__)

LEAST_READ = 256 << 10  # bytes that neighbouring episodes are joined to, as far as connections are not idle for it


@dataclass(frozen=True)
class Columns:
    """Features with the same window, side by side, float32 ``[rows, sum of D]``."""

    names: tuple[str, ...]
    dims: tuple[int, ...]


@dataclass
class Held:
    """A unit in memory, or on its way."""

    row0: int
    rows: int
    encoded: int
    coming: dict[int, Future[None]] = field(default_factory=dict)  # by episode, until it is there
    members: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)  # encoded, by episode and member
    bad: dict[int, DataError] = field(default_factory=dict)
    pins: int = 0


class Shelf:
    """The units that are in memory."""

    def __init__(
        self, layout: Layout, columns: Sequence[Columns], shares: Shares, source: Bytes, threads: int, fetches: int
    ) -> None:
        self.layout, self.shares, self.meter = layout, shares, Meter()
        self.next_use: Callable[[np.ndarray], np.ndarray] = lambda units: np.zeros(len(units))
        self._columns, self._source = tuple(columns), source
        self.decoded = shares.tier != "window"
        self.values = [np.empty((shares.rows, sum(each.dims)), np.float32) for each in columns]
        self.frames = {
            camera.name: np.empty((shares.rows, camera.height, camera.width, camera.channels), np.uint8)
            for camera in (layout.cameras if self.decoded else ())
        }
        rows_E = np.concatenate([[0], np.cumsum(layout.lengths)])
        self._first_row = rows_E[layout.unit_start]
        self._row_E = rows_E[:-1]  # of an episode's first step, when everything has a row
        self._row_in_unit = self._row_E - self._first_row[layout.unit_of]
        self._rooms = Rooms(shares.rows, whole=shares.rows >= int(rows_E[-1]))
        self._held: dict[int, Held] = {}
        self._row0 = np.zeros(layout.num_units, np.int64)
        self._encoded = self._in_flight = 0
        self._ready = False
        self._lock = threading.Condition()
        self._buffers = Buffers(shares.in_flight)
        self.num_threads, self.pool = threads, ThreadPoolExecutor(threads, "decode")
        self._fetchers = ThreadPoolExecutor(fetches, "fetch") if source.waits else None
        self._fetches = fetches
        self.cold = source.waits  # nothing is there yet, and the first batch is waited for
        self._rest: list[tuple[int, Held, list[Range], int, Future[None]]] = []  # begun after what is waited for
        dtype = layout.dataset.manifest.schema.row_dtype
        self._dtype, self._floats = dtype, all(dtype[name].base == np.dtype("<f4") for name in dtype.names or ())
        self._places = [self._places_of(each) for each in self._columns]
        self._cameras = {camera.member: camera for camera in layout.cameras}

    @property
    def complete(self) -> bool:
        """Whether every unit is there or on its way."""
        return len(self._held) == self.layout.num_units

    @property
    def ready(self) -> bool:
        """Whether everything is in memory, decoded, and nothing of it is bad: no more to wait for, for good."""
        if not self._ready and self._rooms.whole and self.complete and (self.decoded or not self.layout.cameras):
            with self._lock:
                self._ready = not any(held.coming or held.bad for held in self._held.values())
        return self._ready

    def close(self) -> None:
        """Stop its threads."""
        for pool in (self._fetchers, self.pool):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------------------------------------ what is asked

    def acquire(self, units: Sequence[int], episodes: Iterable[int]) -> tuple[dict[int, Held], list[int]]:
        """Pin as many of ``units`` as there is room for, and wait for their ``episodes``.

        Returns:
            What is pinned, by unit, and the units that must wait until it is released.
        """
        pinned: dict[int, Held] = {}
        with self._lock:
            wanted = set(episodes) if self.cold else set()
            for unit in units:
                held = self._held.get(unit) or self._start(unit, True, wanted)
                if held is not None:
                    held.pins += 1
                    pinned[unit] = held
        if not pinned:  # everything is on its way for later batches
            self._let_go_of_coming()
            with self._lock:
                held = self._start(units[0], True)
                assert held is not None, "the budget holds the largest unit"
                held.pins += 1
                pinned[units[0]] = held
        missing = []
        if any(held.coming for held in pinned.values()):
            units_e = ((episode, pinned.get(int(self.layout.unit_of[episode]))) for episode in episodes)
            missing = [f for episode, held in units_e if held is not None and (f := held.coming.get(episode))]
        if not self.cold or any(job[-1] in missing for job in self._rest):
            self._submit_rest()
        if missing:
            with self.meter.waiting("fetch" if self._source.waits else "decode"):
                wait(missing)
            try:
                for future in missing:
                    future.result()
            except BaseException:
                self._forget(pinned)
                raise
        if self._rest:  # by another thread: to start many takes as long as to read little
            (self._fetchers or self.pool).submit(self._submit_rest)
        self.cold = False
        return pinned, [unit for unit in units if unit not in pinned]

    def release(self, pinned: dict[int, Held]) -> None:
        """The opposite of acquire."""
        with self._lock:
            for held in pinned.values():
                held.pins -= 1

    def expect(self, units: Iterable[int], first: Iterable[int] = ()) -> None:
        """Begin to load units that are needed soon, in that order, as far as there is room; ``first`` episodes first."""
        with self._lock:
            wanted = set(first) if self.cold else set()
            for unit in units:
                if unit not in self._held and self._start(unit, False, wanted) is None:
                    break
            if not self.cold:
                self._submit_rest()

    def rows_of(self, episodes: np.ndarray) -> np.ndarray:
        """The first row of every episode; they must be pinned."""
        if self._rooms.whole:
            return np.asarray(self._row_E[episodes])
        return np.asarray(self._row0[self.layout.unit_of[episodes]] + self._row_in_unit[episodes])

    def errors(self, episodes: Iterable[int]) -> dict[int, DataError]:
        """What is wrong with those of ``episodes`` that cannot be had."""
        found = {}
        for episode in episodes:
            held = self._held[int(self.layout.unit_of[episode])]
            if episode in held.bad:
                found[episode] = held.bad[episode]
        return found

    # --------------------------------------------------------------------------------------------------- room for it

    def _start(self, unit: int, first: bool, wanted: Collection[int] = ()) -> Held | None:
        """Make room for a unit and begin to load it, ``wanted`` episodes alone and at once, the rest with _submit_rest.

        Called with the lock. None when there is no room now.
        """
        rows = int(self._first_row[unit + 1] - self._first_row[unit])
        encoded = int(self.layout.bytes_E[self.layout.unit_start[unit] : self.layout.unit_start[unit + 1]].sum())
        if not first and self._in_flight + encoded > self.shares.in_flight:
            return None
        keep = 0 if self.decoded else encoded
        row0 = self._make_room(unit, rows, keep, first)
        if row0 is None:
            return None
        held = self._held[unit] = Held(row0, rows, keep)
        self._row0[unit] = row0
        self._encoded += keep
        for pieces in self._pieces(unit, wanted):
            size = sum(each.end - each.start for each in pieces)
            self._in_flight += size
            done: Future[None] = Future()
            for each in pieces:
                for part in each.parts:
                    held.coming[part.episode] = done
            job = (unit, held, pieces, size, done)
            if pieces[0].parts[0].episode in wanted:
                (self._fetchers or self.pool).submit(self._load, *job)
            else:
                self._rest.append(job)
        return held

    def _submit_rest(self) -> None:
        """Begin what is not waited for: from now on nothing is held back."""
        with self._lock:
            self.cold = False
            for job in self._rest:
                (self._fetchers or self.pool).submit(self._load, *job)
            self._rest.clear()

    def _make_room(self, unit: int, rows: int, encoded: int, first: bool) -> int | None:
        if self._rooms.whole and (self.decoded or self._encoded + encoded <= self.shares.encoded):
            return int(self._first_row[unit])
        order: list[int] | None = None
        while True:
            fits = self.decoded or self._encoded + encoded <= self.shares.encoded
            row0 = (int(self._first_row[unit]) if self._rooms.whole else self._rooms.take(rows)) if fits else None
            if row0 is not None:
                return row0
            if order is None:
                order = self._evictable(unit, first)
            if not order:
                return None
            self._drop(order.pop())

    def _evictable(self, unit: int, first: bool) -> list[int]:
        """Units that may go for ``unit``, the one that is needed last at the end; all that are free if it is needed now."""
        free = [u for u, held in self._held.items() if not held.pins and not held.coming]
        if not free:
            return []
        uses = self.next_use(np.array([unit, *free]))
        own, *others = uses.tolist()
        return [u for use, u in sorted(zip(others, free, strict=True)) if first or use > own]

    def _drop(self, unit: int) -> None:
        held = self._held.pop(unit)
        self._encoded -= held.encoded
        if not self._rooms.whole:
            self._rooms.give_back(held.row0, held.rows)

    def _forget(self, pinned: dict[int, Held]) -> None:
        """After an error: what did not come may be asked for again."""
        self._submit_rest()
        wait({future for held in pinned.values() for future in held.coming.values()})
        with self._lock:
            for unit, held in pinned.items():
                held.pins -= 1
                if held.coming and not held.pins:
                    self._drop(unit)

    def _let_go_of_coming(self) -> None:
        self._submit_rest()
        with self._lock:
            coming = {future for held in self._held.values() for future in held.coming.values()}
        with self.meter.waiting("fetch"):
            wait(coming)

    def _pieces(self, unit: int, wanted: Collection[int]) -> list[list[Range]]:
        """What is read together: the whole unit; but before anything is there, episodes that are waited for first.

        Neighbours among them are read at once, up to so much that all connections are busy.
        """
        ranges, episodes = self.layout.ranges(unit), self.layout.episodes(unit)
        if not wanted or len(episodes) == 1:
            return [ranges]
        most = max(LEAST_READ, int(self.layout.bytes_E[list(wanted)].sum()) // self._fetches)
        group, number, size = dict[int, int](), 0, 0
        for episode in episodes:
            if episode in wanted:
                own = int(self.layout.bytes_E[episode])
                if size + own > most or episode - 1 not in group:
                    number, size = number + 1, 0
                group[episode], size = number, size + own
        pieces: dict[int, list[Range]] = {}
        for each in ranges:
            for key, run in itertools.groupby(each.parts, lambda part: group.get(part.episode, 0)):
                pieces.setdefault(key, []).append(_range(each.shard, list(run)))
        return [pieces[key] for key in sorted(pieces, key=lambda key: (key == 0, key))]

    # --------------------------------------------------------------------------------------------------- bytes to rows

    def _load(self, unit: int, held: Held, ranges: list[Range], size: int, done: Future[None]) -> None:
        """Fetch, then decode in another thread when fetching waits for a network."""
        try:
            contents = [self._fetched(held, each) for each in ranges]
            if self._fetchers is None:
                self._unpack(unit, held, ranges, contents, size, done)
            else:
                self.pool.submit(self._unpack, unit, held, ranges, contents, size, done)
        except BaseException as error:
            self._finished(held, ranges, size, done, error)

    def _fetched(self, held: Held, wanted: Range) -> np.ndarray:
        size = wanted.end - wanted.start
        content = self._buffers.take(size) if self.decoded else np.empty(size, np.uint8)
        key = self.layout.key(wanted.shard)
        try:
            self._source.read_into(key, wanted.start, memoryview(content))  # type: ignore[arg-type]
        except DataError as error:
            for part in wanted.parts:
                held.bad[part.episode] = self.layout.damaged(part, error.problems[0].why)
            return content
        for part in wanted.parts:
            at = part.offset - wanted.start
            own = content[at : at + part.size]
            if _crc32c(own) != part.crc32c:
                log.warning("loader: %s, bytes from %d are damaged; reading them again", key, part.offset)
                self._source.read_into(key, part.offset, memoryview(own), fresh=True)  # type: ignore[arg-type]
                if _crc32c(own) != part.crc32c:
                    why = "its bytes do not have the crc32c that the index names, twice"
                    held.bad[part.episode] = self.layout.damaged(part, why)
        return content

    def _unpack(
        self,
        unit: int,
        held: Held,
        ranges: list[Range],
        contents: list[np.ndarray],
        size: int,
        done: Future[None],
    ) -> None:
        failed: BaseException | None = None
        try:
            for each, content in zip(ranges, contents, strict=True):
                for part in each.parts:
                    if part.episode not in held.bad:
                        self._place(held, part, content[part.offset - each.start :][: part.size])
            if self.decoded:
                self._buffers.give_back(contents)
        except BaseException as error:
            failed = error
        self._finished(held, ranges, size, done, failed)

    def _finished(
        self, held: Held, ranges: list[Range], size: int, done: Future[None], error: BaseException | None
    ) -> None:
        with self._lock:
            self._in_flight -= size
            for each in ranges:
                for part in each.parts:
                    if error is None:
                        held.coming.pop(part.episode, None)
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def _place(self, held: Held, part: Part, content: np.ndarray) -> None:
        """One member to where it belongs."""
        row = held.row0 + int(self._row_in_unit[part.episode])
        length = int(self.layout.lengths[part.episode])
        try:
            if part.member == LOWDIM:
                self._place_rows(content, row, length)
            elif not self.decoded:
                held.members[(part.episode, part.member)] = content
            elif part.member.endswith(f".{MP4}"):
                frames = self.frames[self._cameras[part.member.rsplit(".", 2)[0]].name]
                first = row + part.first_frame - part.skip
                chosen = range(part.skip, part.skip + part.num_frames)
                decode_mp4_into(content.data, {i: (frames[first + i],) for i in chosen})
            else:
                frames = self.frames[self._cameras[part.member.rsplit(".", 1)[0]].name]
                starts = self.layout.frame_starts(part.member, part.episode).tolist()
                for i, (begin, end) in enumerate(zip(starts, [*starts[1:], part.size], strict=True)):
                    decode_jpeg_into(content.data[begin:end], frames[row + i])
        except (ValueError, OSError) as error:
            held.bad[part.episode] = self.layout.damaged(part, f"it cannot be decoded: {error}")

    def _place_rows(self, content: np.ndarray, row: int, length: int) -> None:
        offset = len(content) - length * self._dtype.itemsize
        if offset < 0:
            raise ValueError(f"{len(content)} bytes are too few for {length} steps")
        if self._floats:
            matrix = np.frombuffer(content, np.float32, offset=offset).reshape(length, -1)  # type: ignore[call-overload]
            for values, places in zip(self.values, self._places, strict=True):
                np.take(matrix, places, axis=1, out=values[row : row + length], mode="clip")
            return
        steps = np.frombuffer(content, self._dtype, offset=offset)  # type: ignore[call-overload]
        for values, columns in zip(self.values, self._columns, strict=True):
            at = 0
            for name, dim in zip(columns.names, columns.dims, strict=True):
                values[row : row + length, at : at + dim] = steps[name].reshape(length, dim)
                at += dim

    def _places_of(self, columns: Columns) -> np.ndarray:
        fields: Mapping[str, Any] = self._dtype.fields or {}
        starts = [fields[name][1] // 4 for name in columns.names] if self._floats else []
        return np.concatenate(
            [np.arange(start, start + dim) for start, dim in zip(starts, columns.dims if starts else (), strict=True)]
            or [np.zeros(0, np.int64)]
        )


def _range(shard: int, parts: list[Part]) -> Range:
    return Range(shard, parts[0].offset, parts[-1].offset + parts[-1].size, tuple(parts))


def _crc32c(content: np.ndarray) -> int:
    """Of an array, which unlike a memoryview is not copied for it."""
    import google_crc32c

    return int(google_crc32c.value(content))
