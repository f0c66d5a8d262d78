"""Batches of windows from a converted dataset, each by its number: a function of the dataset and the request alone.

``BatchMaker`` joins stream (which windows), unit cache (what is in memory) and gather (copies into a batch). loader.py
iterates over its batches, worker_pool.py runs it in other processes. Axes: B windows, T deltas, D numbers of a feature,
H, W, C of an image.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tendon.data.dataset import Dataset
from tendon.data.features import TASK
from tendon.data.tario import MP4
from tendon.errors import DataError, TendonError
from tendon.loader.argument_checks import check, no_window
from tendon.loader.batch_buffers import BatchBuffers, Field, arrays_in, batch_bytes
from tendon.loader.budget import Needs, Shares, share_out
from tendon.loader.cache import BLOCK, CachedBytes, Name
from tendon.loader.choice import BatchRequest, LoaderResources
from tendon.loader.fetch import Reader, open_bytes
from tendon.loader.gather import Group, WindowChunk, chunk_of, fields_of, gather, gather_chunk, grouped
from tendon.loader.layout import ShardLayout, as_stored
from tendon.loader.meter import Meter
from tendon.loader.stream import Stream
from tendon.loader.unit_cache import UnitCache
from tendon.loader.video_decoder import ChunkTable, chunk_table
from tendon.loader.windows import window_table

log = logging.getLogger(__name__)

CHUNK = 1 << 17  # window steps that are computed at once when the dataset is in memory
LOOK_AHEAD = 32  # batches whose units are loaded before they are needed
MOST_BAD = 0.001  # share of episodes that may be replaced, one at least


class BatchMaker:
    """Any batch of an endless stream. It remembers no position, only bytes that it may need again and bad episodes."""

    def __init__(self, dataset: Dataset, request: BatchRequest, resources: LoaderResources) -> None:
        """Check the request and plan the stream. The first batch reads the first bytes.

        Raises:
            ConfigError: a feature, split or episode does not exist, no window fits, or the memory is too small.
        """
        self.dataset, self.request, self.resources = dataset, request, resources
        self.batch_size = request.batch_size
        windows, ordering = request.windows, request.ordering
        spans = windows.training
        self.manifest = dataset.manifest.digest
        self._connected: Reader | None = None
        if not dataset.has_index and not resources.processes:
            self._connected = self._reader()
            self._connected.connect_soon(dataset.manifest.shards[0].key, request.batch_size)
        check(dataset, request)
        rows = dataset.episodes(request.split, request.skip_episodes)
        # Only a shuffled order may sort episodes by where they are stored: slots and MineStudio's order are defined on
        # the episodes' numbers, and another order of the episodes would be another stream.
        if ordering.kind == "shuffled":
            rows = as_stored(rows)
        self.num_episodes = len(rows)
        self._episode_index = rows.numbers.astype(np.int64)
        table = window_table(rows.lengths, spans.values(), windows.stride, windows.drop_last)
        if not table.num_windows:
            raise no_window(dataset, request.split, rows)
        schema = dataset.schema
        task_of_episode = TASK in spans and TASK not in schema.dims
        self._groups = grouped(spans, schema, dataset.task_numbers[self._episode_index] if task_of_episode else None)
        pictures = [each for each in schema.pictures if each.name in spans]
        lowdim = any(name in schema.dims for name in spans) or not pictures
        unit_bytes = ordering.unit_bytes if ordering.kind == "shuffled" else 1  # a slot walks through one episode
        self._layout = ShardLayout(dataset, rows, lowdim, pictures, unit_bytes)
        self._stream = Stream(dataset, self._layout, table, request)
        self.num_windows = self._stream.num_windows
        self.plan = self._stream.plan
        self._substitute = request.on_bad_sample == "substitute"
        self._bad: set[int] = set()
        self._share_size = -(-request.batch_size // request.world)
        self._fields = fields_of(self._groups, self._share_size)
        self._buffers = BatchBuffers(batch_bytes(self._fields), resources.pin)
        self._chunk: tuple[int, WindowChunk] | None = None
        self.shares = self._shares()
        self._cache: UnitCache | None = None
        self._lock = threading.RLock()
        self._now = 0
        self._expected, self._soon = (0, -1), list[int]()  # positions whose units are known, and those units

    # ------------------------------------------------------------------------------------------------------- batches

    def batch(self, k: int) -> dict[str, np.ndarray]:
        """This rank's share of the k-th batch. It does not depend on earlier calls.

        Returns:
            By kind of feature: state, action, reward and flag float32 ``[B, T, D]``, category int64 ``[B, T, D]``, text
            int64 ``[B, T]`` (indexes into ``texts``), image uint8 and depth
            float32 ``[B, T, H, W, C]``, mask uint8 ``[B, T, H, W]`` of zeros
            and ones; and ``<key>_is_pad`` bool ``[B, T]`` (True: beyond the episode); ``episode_index`` and ``frame_index``
            int64 ``[B]``; with rows that walk through episodes also ``slot`` int64 and ``first`` bool ``[B]``. Columns of one
            span are views of one array.
        """
        return self.share(k * self.batch_size)

    def share(self, first: int) -> dict[str, np.ndarray]:
        """This rank's share of the batch that begins at position ``first``."""
        with self._lock:
            if not self._opened_cache().ready or self._bad:
                self._expect(first)
                return self._at(self._stream.positions(first))
            return self._of_chunk(first)

    def at(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The windows at any positions of the stream, as ``batch`` gives them."""
        with self._lock:
            return self._at(positions)

    def share_into(self, first: int, whole: np.ndarray) -> None:
        """The share at ``first`` for a worker of a WorkerPool: into ``whole``, the memory of a SharedBuffer."""
        with self._lock:
            self._expect(first)
            positions = self._stream.positions(first)
            self._fill(positions, arrays_in(whole, fields_of(self._groups, len(positions))))

    def viewed(self, first: int, whole: np.ndarray) -> dict[str, np.ndarray]:
        """The batch at ``first`` that a worker has put into ``whole``."""
        positions = self._stream.positions(first)
        return self._named(positions, arrays_in(whole, fields_of(self._groups, len(positions))))

    def epoch_of(self, k: int) -> int:
        """The epoch in which batch ``k`` begins."""
        return self._stream.order.epoch_of(k * self.batch_size)

    def epochs(self, first: int) -> np.ndarray:
        """How often each window of the share at ``first`` came before: ``[B]``."""
        with self._lock:
            return self._stream.order.epochs(self._stream.positions(first))

    # ------------------------------------------------------------------------------------------------- what is known of it

    @property
    def bad(self) -> list[int]:
        """The episodes whose windows are replaced, by their index in the dataset."""
        return sorted(int(self._episode_index[episode]) for episode in self._bad)

    def mark_bad(self, episodes: Iterable[int]) -> None:
        """Replace the windows of episodes from now on, by their index in the dataset."""
        if episodes := list(episodes):
            self._bad |= set(np.flatnonzero(np.isin(self._episode_index, episodes)).tolist())

    def forget_bad(self) -> None:
        """Try all episodes again."""
        self._bad.clear()

    @property
    def bad_episodes(self) -> list[str]:
        """The ids of episodes whose windows were replaced."""
        return sorted(self._layout.rows[episode].episode_id for episode in self._bad)

    @property
    def texts(self) -> tuple[str, ...]:
        """The table that texts in a batch are indexes into."""
        return self.dataset.texts

    @property
    def text_keys(self) -> tuple[str, ...]:
        """The texts of a batch."""
        keys = [key for group in self._groups if group.columns for key in group.columns.texts]
        return (*keys, *(TASK for group in self._groups if group.tasks is not None))

    @property
    def fields(self) -> tuple[Field, ...]:
        """What a batch is made of, features by name with their shape."""
        fields = []
        for group in self._groups:
            num_deltas = len(group.span.deltas)
            if group.columns:
                for name, dim in zip(group.columns.names, group.columns.dims, strict=True):
                    shape = (1, num_deltas) if name in group.columns.texts else (1, num_deltas, dim)
                    fields.append(Field(name, group.columns.dtype, shape))
            else:
                fields += [field for field in fields_of([group], 1) if field.name in group.names]
        return tuple(fields)

    @property
    def buffer_bytes(self) -> int:
        """The size of a batch's memory."""
        return self._buffers.size

    @property
    def num_prefetched(self) -> int:
        """How many batches are worth making before they are asked for."""
        if self.resources.ahead is not None:
            return self.resources.ahead
        # Rows of floats in memory are gathered faster than a queue hands them over: no thread for them.
        in_memory = self.shares.tier == "resident" and not self._layout.pictures
        return self.shares.ring - 1 if not in_memory or self.resources.processes else 0

    @property
    def meter(self) -> Meter:
        """Seconds of waiting at every stage of the loader."""
        return self._opened_cache().meter

    def close(self) -> None:
        """Stop threads and free the memory; it may be used again."""
        with self._lock:
            if self._connected is not None:
                self._connected.close()
                self._connected = None
            if self._cache is not None:
                self._cache.close()
                self._cache = self._chunk = None

    # ------------------------------------------------------------------------------------------------------- internals

    def _at(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        fields = fields_of(self._groups, len(positions))
        buffers = self._buffers if len(positions) <= self._share_size else BatchBuffers(batch_bytes(fields))
        arrays = buffers.lend(fields)
        self._fill(positions, arrays)
        return self._named(positions, arrays)

    def _of_chunk(self, first: int) -> dict[str, np.ndarray]:
        """The share when the dataset is in memory: row numbers and masks are computed for many batches at once."""
        cache, B = self._opened_cache(), self.batch_size
        widest = max(len(group.span.deltas) for group in self._groups)
        many = max(1, min(CHUNK // (self._share_size * widest), self.num_windows // B))
        begin, inside = first - first % (many * B), first % (many * B)
        if inside % B or not self._stream.shuffled or begin % self.request.world:  # another grid than k * batch_size
            return self._at(self._stream.positions(first))
        if self._chunk is None or self._chunk[0] != begin:
            located = self._stream.located_run(begin, many * B)
            used = self._chunk and self._chunk[1]
            self._chunk = (begin, chunk_of(cache, self._groups, self._episode_index, *located, used))
        rank, world = self.request.rank, self.request.world
        low, high = ((at - rank + world - 1) // world for at in (inside, inside + B))
        fields = self._fields if high - low == self._share_size else fields_of(self._groups, high - low)
        arrays = self._buffers.lend(fields)
        with cache.meter.waiting("gather"):
            gather_chunk(cache, self._groups, self._chunk[1], low, high, arrays)
        return self._named(None, arrays)

    def _fill(self, positions: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        cache = self._opened_cache()
        episodes_B, t_B = self._stream.located(positions)
        while self._bad or self._substitute:
            episodes_B, t_B = self._stream.without(self._bad, positions, episodes_B, t_B)
            bad = gather(cache, self._groups, episodes_B, t_B, arrays)
            if not bad:
                break
            self._mark(bad)
        else:
            for error in gather(cache, self._groups, episodes_B, t_B, arrays).values():
                raise error
        np.take(self._episode_index, episodes_B, out=arrays["episode_index"], mode="clip")
        arrays["frame_index"][...] = t_B

    def _named(self, positions: np.ndarray | None, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = {"episode_index": arrays["episode_index"], "frame_index": arrays["frame_index"]}
        if not self._stream.shuffled and positions is not None:
            batch["slot"], batch["first"] = (
                positions % self.batch_size,
                batch["frame_index"] == self._stream.table.t0[0],
            )
        for i, group in enumerate(self._groups):
            at = 0
            for j, name in enumerate(group.names):
                if group.columns:
                    dim, values = group.columns.dims[j], arrays[f"values {i}"]
                    batch[name] = values[:, :, at] if name in group.columns.texts else values[:, :, at : at + dim]
                    at += dim
                else:
                    batch[name] = arrays[name]
                batch[f"{name}_is_pad"] = arrays[f"pad {i}"]
        return batch

    def _mark(self, bad: Mapping[int, DataError]) -> None:
        for episode, error in bad.items():
            log.warning("loader: episode %s is replaced: %s", self._layout.rows[episode].episode_id, error)
        self._bad |= set(bad)
        if len(self._bad) > max(1, MOST_BAD * self.num_episodes) or len(self._bad) == self.num_episodes:
            raise next(iter(bad.values()))

    def _expect(self, first: int) -> None:
        """Begin to load the units of the next batches."""
        cache, shares = self._opened_cache(), self.shares
        if shares.tier != "window" and shares.rows >= cache.layout.lengths.sum() and cache.complete:
            return
        self._now = first
        begin, end = self._expected
        wanted: Sequence[int] = ()
        if not begin <= first <= (begin + end) // 2:  # look again when half of the known positions are used
            end = first + LOOK_AHEAD * self.batch_size
            positions = np.concatenate([self._stream.positions(at) for at in range(first, end, self.batch_size)])
            episodes, _ = self._stream.located(positions)
            units, first_use = np.unique(cache.layout.unit_of[episodes], return_index=True)
            self._expected, self._soon = (first, end), units[np.argsort(first_use)].tolist()
            wanted = episodes[: self._share_size].tolist() if cache.cold else ()
        cache.expect(self._soon, wanted)

    def _opened_cache(self) -> UnitCache:
        with self._lock:
            if self._cache is None:
                columns = [group.columns for group in self._groups if group.columns]
                reader, self._connected = self._connected or self._reader(), None
                self._now, self._expected = 0, (0, -1)
                self._cache = UnitCache(self._layout, columns, self.shares, reader, self.resources.threads)
                look_ahead = LOOK_AHEAD * self.batch_size
                self._cache.next_use = lambda units: self._stream.next_use(units, self._now, look_ahead)
                if isinstance(reader.source, CachedBytes):
                    reader.source.next_use = self._blocks_use
            return self._cache

    def _reader(self) -> Reader:
        source, cache = open_bytes(self.dataset.store), self.resources.cache
        if cache is not None and source.waits:
            sizes = {shard.key: shard.bytes for shard in self.dataset.manifest.shards}
            source = CachedBytes(source, cache / self.manifest[:16], self.resources.cache_bytes, sizes)
        return Reader(source, self.resources.fetches)

    def _blocks_use(self, names: list[Name]) -> list[float]:
        """When the blocks of the disk cache are needed next: when the first of their units is."""
        if not hasattr(self, "_unit_blocks"):
            layout, keys = self._layout, [shard.key for shard in self.dataset.manifest.shards]
            blocks: dict[Name, list[int]] = {}
            for unit in range(layout.num_units):
                for each in layout.ranges(unit):
                    for block in range(each.start // BLOCK, (each.end - 1) // BLOCK + 1):
                        blocks.setdefault((keys[each.shard], block), []).append(unit)
            self._unit_blocks = blocks
        uses = self._stream.next_use(np.arange(self._layout.num_units), self._now, LOOK_AHEAD * self.batch_size)
        return [float(min((uses[u] for u in self._unit_blocks.get(name, ())), default=np.inf)) for name in names]

    # --------------------------------------------------------------------------------------------------- memory budget

    def _shares(self) -> Shares:
        resources, ring = self.resources, 2 + (3 if self.resources.ahead is None else self.resources.ahead)
        shares = share_out(self._needs({}), resources.memory_budget, ring, resources.fetches, resources.tier)
        videos = [each for each in self._layout.pictures if each.codec == MP4]
        if resources.tier != "auto" or shares.tier == "resident" or not videos:
            return shares
        tables = {each.name: self._first_table(each.member) for each in videos}
        return share_out(self._needs(tables), resources.memory_budget, ring, resources.fetches, resources.tier)

    def _first_table(self, camera: str) -> ChunkTable | None:
        """The table of a camera's first chunk, whose key frames stand for those of the others; None where it is not there."""
        layout = self._layout
        chunk = next(
            each for each in layout.members(0) if each.name.startswith(f"{camera}.") and each.name.endswith(MP4)
        )
        content = np.empty(chunk.size, np.uint8)
        try:
            open_bytes(self.dataset.store).read_into(layout.key(int(layout.shard[0])), chunk.offset, content.data)
        except TendonError:  # whoever needs its frames says what is wrong
            return None
        return chunk_table(content.data)

    def _needs(self, tables: Mapping[str, ChunkTable | None]) -> Needs:
        layout, order, share = self._layout, self._stream.order, self._stream.in_play
        rows, encoded = int(layout.lengths.sum()), int(layout.bytes_E.sum())
        unit_rows = np.add.reduceat(layout.lengths, layout.unit_start[:-1])
        unit_bytes = np.add.reduceat(layout.bytes_E, layout.unit_start[:-1])
        decoded = [_decoded_per_window(group, tables.get(group.names[0])) for group in self._groups if group.picture]
        columns = [group.columns for group in self._groups if group.columns]
        return Needs(
            rows=rows,
            live_rows=max(int(rows * share), int(unit_rows.max())),
            lowdim_row=sum(int(each.dtype[-1]) * sum(each.dims) for each in columns),
            frame_row=sum(np.dtype(each.dtype).itemsize * math.prod(each.shape) for each in layout.pictures),
            encoded=encoded,
            live_encoded=max(int(encoded * share), int(unit_bytes.max())),
            batch=self._buffers.size,
            tables=int(order.num_windows * (8 if order.lanes > 1 else 24)),
            largest_rows=int(unit_rows.max()),
            largest_encoded=int(unit_bytes.max()),
            decodes_per_epoch=sum(decoded) * self.num_windows / max(rows * len(decoded), 1),
        )


def _decoded_per_window(group: Group, table: ChunkTable | None) -> float:
    """Frames that are decoded for a window of encoded frames: of a video also those before, from the key frame on."""
    return len(set(group.span.deltas)) if table is None else table.samples_per_window(np.unique(group.deltas))
