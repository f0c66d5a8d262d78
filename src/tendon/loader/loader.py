"""Batches of windows from a converted dataset: any batch by its number, exact epochs, a state of one integer.

``Loader`` joins stream (which windows), unit cache (what is in memory) and gather (copies into a batch). Called by the
training loop, which makes tensors of the arrays. Axes: B windows, T deltas, D numbers of a feature, H, W, C of an image.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tendon.data.dataset import Dataset
from tendon.errors import DataError
from tendon.loader import argument_checks
from tendon.loader.batch_buffers import BatchBuffers, Field, arrays_in, batch_bytes
from tendon.loader.budget import Needs, Shares, share_out
from tendon.loader.cache import BLOCK, CachedBytes, Name
from tendon.loader.choice import SHUFFLED, LoaderResources, SamplingOrder
from tendon.loader.fetch import Bytes, open_bytes
from tendon.loader.gather import WindowChunk, chunk_of, fields_of, gather, gather_chunk, grouped
from tendon.loader.layout import ShardLayout, as_stored
from tendon.loader.meter import Meter
from tendon.loader.prefetcher import Prefetcher
from tendon.loader.stream import Stream, StreamSpec
from tendon.loader.unit_cache import UnitCache
from tendon.loader.windows import Span, Windows, window_table
from tendon.loader.worker_pool import LoaderSpec, WorkerPool

log = logging.getLogger(__name__)

STATE_VERSION = 3
CHUNK = 1 << 17  # window steps that are computed at once when the dataset is in memory
LOOK_AHEAD = 32  # batches whose units are loaded before they are needed
MOST_BAD = 0.001  # share of episodes that may be replaced, one at least

State = dict[str, int | str | list[int]]


class Loader:
    """Endless batches; epochs follow without a gap, so a batch may hold the end of one and the start of another."""

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        windows: Windows | Mapping[str, Sequence[int] | Span],
        batch_size: int,
        seed: int,
        *,
        skip_episodes: Sequence[str] = (),
        ordering: SamplingOrder = SHUFFLED,
        rank: int = 0,
        world: int = 1,
        on_bad_sample: str = "fail",
        resources: LoaderResources | None = None,
    ) -> None:
        """Check the arguments and plan the stream. The first batch reads the first bytes.

        Args:
            dataset: a converted dataset, as ``open_dataset`` gives it.
            split: one of its splits, or ``all``.
            windows: what the loss reads (their ``training`` spans), or just per feature the steps relative to t, such as
                ``{"action": (0, 1, 2)}``.
            batch_size: windows per batch, of all ranks together.
            seed: of the order.
            skip_episodes: ids of episodes to leave out.
            ordering: shuffled, or rows that walk through episodes; and which windows come more often.
            rank: which share of every batch this process gets.
            world: how many shares there are.
            on_bad_sample: ``fail``, or ``substitute`` the next window of the order.
            resources: memory, threads, cache; they never change the stream.

        Raises:
            ConfigError: a feature, split or episode does not exist, no window fits, or the memory is too small.

        Example:
            ``for batch in Loader(open_dataset(uri), "train", {"observation.state": (0,), "action": (0, 1)}, 256, 1): ...``
        """
        self.resources = resources or LoaderResources()
        windows = windows if isinstance(windows, Windows) else Windows.of(windows)
        self._arguments = {
            "split": split,
            "windows": windows,
            "batch_size": batch_size,
            "seed": seed,
            "skip_episodes": tuple(skip_episodes),
            "ordering": ordering,
            "rank": rank,
            "world": world,
            "on_bad_sample": on_bad_sample,
        }
        spans = windows.training
        argument_checks.check(dataset, spans, batch_size, rank, world, windows.stride, on_bad_sample)
        self.dataset, self.batch_size, self.seed, self.rank, self.world = dataset, batch_size, seed, rank, world
        rows = dataset.episodes(split, skip_episodes)
        # Only a shuffled order may sort episodes by where they are stored: slots and MineStudio's order are defined on
        # the episodes' numbers, and another order of the episodes would be another stream.
        if ordering.kind == "shuffled":
            rows = as_stored(rows)
        self.num_episodes = len(rows)
        self._episode_index = rows.numbers.astype(np.int64)
        table = window_table(rows.lengths, spans.values(), windows.stride, windows.drop_last)
        if not table.num_windows:
            raise argument_checks.no_window(dataset, split, rows)
        schema = dataset.manifest.schema
        cameras = {each.name: each for each in schema.cameras if each.name in spans}
        self._groups = grouped(spans, schema.dims, cameras)
        lowdim = any(name in schema.dims for name in spans)
        unit_bytes = ordering.unit_bytes if ordering.kind == "shuffled" else 1  # a slot walks through one episode
        self._layout = ShardLayout(dataset, rows, lowdim, list(cameras.values()), unit_bytes)
        spec = StreamSpec(split, spans, skip_episodes, windows.drop_last, ordering, batch_size, rank, world)
        self._stream = Stream(dataset, self._layout, table, spec, seed)
        self.num_windows = self._stream.num_windows
        self._manifest, self._plan = dataset.manifest.digest, self._stream.plan
        self._substitute = on_bad_sample == "substitute"
        self._bad: set[int] = set()
        self._share_size = -(-batch_size // world)
        self._fields = fields_of(self._groups, self._share_size)
        self._buffers = BatchBuffers(batch_bytes(self._fields), self.resources.pin)
        self._chunk: tuple[int, WindowChunk] | None = None
        self.shares = self._shares()
        self._cache: UnitCache | None = None
        self._lock = threading.RLock()
        self._samples = self._now = 0
        self._expected, self._soon = (0, -1), list[int]()  # positions whose units are known, and those units
        self._batches: Prefetcher | WorkerPool | None = None

    # ------------------------------------------------------------------------------------------------------- batches

    def batch(self, k: int) -> dict[str, np.ndarray]:
        """This rank's share of the k-th batch. It does not depend on earlier calls.

        Returns:
            Per feature float32 ``[B, T, D]``, per camera uint8 ``[B, T, H, W, C]``, and ``<name>_is_pad`` bool ``[B, T]``
            (True: beyond the episode); ``episode_index`` and ``frame_index`` int64 ``[B]``; with rows that walk through
            episodes also ``slot`` int64 and ``first`` bool ``[B]``. Features of one span are views of one array.
        """
        return self._share(k * self.batch_size)

    def samples(self, first: int, count: int) -> dict[str, np.ndarray]:
        """The windows at positions ``[first, first + count)`` of the endless stream of all ranks."""
        return self.at(np.arange(first, first + count))

    def at(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The windows at any positions of the stream, as ``batch`` gives them."""
        with self._lock:
            return self._at(positions)

    def epoch_of(self, k: int) -> int:
        """The epoch in which batch ``k`` begins."""
        return self._stream.order.epoch_of(k * self.batch_size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._batches is None:
            self._batches = self._start_prefetch()
        batch = self._batches.next()
        self._samples += self.batch_size
        return batch

    # --------------------------------------------------------------------------------------------------------- state

    @property
    def state(self) -> State:
        """The position of the iteration: small, JSON, the same on all ranks. Checkpoints hold it: keep its keys."""
        state: State = {
            "v": STATE_VERSION,
            "seed": self.seed,
            "samples": self._samples,
            "manifest": self._manifest,
            "plan": self._plan,
        }
        if self._bad:
            state["bad"] = sorted(int(self._episode_index[episode]) for episode in self._bad)
        return state

    def load_state(self, state: Mapping[str, int | str | list[int]]) -> None:
        """Continue at the position of ``state``. Batch size, world and resources may have changed.

        Raises:
            ConfigError: it belongs to another dataset, seed, split or set of windows.
        """
        argument_checks.check_state(state, self.state)
        self._stop_prefetch()
        self._samples = int(state["samples"])  # type: ignore[arg-type]
        listed = state.get("bad", [])
        assert isinstance(listed, list)
        self._bad = set(np.flatnonzero(np.isin(self._episode_index, listed)).tolist())

    @property
    def bad_episodes(self) -> list[str]:
        """The ids of episodes whose windows were replaced."""
        return sorted(self._layout.rows[episode].episode_id for episode in self._bad)

    @property
    def fields(self) -> tuple[Field, ...]:
        """What a batch is made of, features by name with their shape."""
        dims = self.dataset.manifest.schema.dims
        fields = []
        for group in self._groups:
            num_deltas = len(group.span.deltas)
            if group.columns:
                fields += [Field(name, "<f4", (1, num_deltas, dims[name])) for name in group.names]
            else:
                fields += [field for field in fields_of([group], 1) if field.name in group.names]
        return tuple(fields)

    @property
    def meter(self) -> Meter:
        """Seconds of waiting at every stage of the loader."""
        return self._opened_cache().meter

    @property
    def metrics(self) -> dict[str, float]:
        """Seconds of waiting at every stage, and the share of its time that the consumer waited, for the log."""
        return self._opened_cache().meter.metrics()

    def close(self) -> None:
        """Stop threads and processes; the loader may be used again."""
        self._stop_prefetch()
        with self._lock:
            if self._cache is not None:
                self._cache.close()
                self._cache = self._chunk = None

    # ------------------------------------------------------------------------------------------------------- internals

    def _share(self, first: int) -> dict[str, np.ndarray]:
        """This rank's share of the batch that begins at position ``first``."""
        with self._lock:
            if not self._opened_cache().ready or self._bad:
                self._expect(first)
                return self._at(self._stream.positions(first))
            return self._of_chunk(first)

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
        if inside % B or not self._stream.shuffled or begin % self.world:  # another grid than k * batch_size
            return self._at(self._stream.positions(first))
        if self._chunk is None or self._chunk[0] != begin:
            located = self._stream.located_run(begin, many * B)
            used = self._chunk and self._chunk[1]
            self._chunk = (begin, chunk_of(cache, self._groups, self._episode_index, *located, used))
        low, high = ((at - self.rank + self.world - 1) // self.world for at in (inside, inside + B))
        fields = self._fields if high - low == self._share_size else fields_of(self._groups, high - low)
        arrays = self._buffers.lend(fields)
        with cache.meter.waiting("gather"):
            gather_chunk(cache, self._groups, self._chunk[1], low, high, arrays)
        return self._named(None, arrays)

    def _share_into(self, first: int, whole: np.ndarray) -> None:
        """The same for a worker of a WorkerPool: into ``whole``, the memory of a SharedBuffer."""
        with self._lock:
            self._expect(first)
            positions = self._stream.positions(first)
            self._fill(positions, arrays_in(whole, fields_of(self._groups, len(positions))))

    def _viewed(self, first: int, whole: np.ndarray) -> dict[str, np.ndarray]:
        """The batch at ``first`` that a worker has put into ``whole``."""
        positions = self._stream.positions(first)
        return self._named(positions, arrays_in(whole, fields_of(self._groups, len(positions))))

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
                    batch[name] = arrays[f"values {i}"][:, :, at : at + group.columns.dims[j]]
                    at += group.columns.dims[j]
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
                source = self._source()
                self._now, self._expected = self._samples, (0, -1)
                resources = self.resources
                self._cache = UnitCache(
                    self._layout, columns, self.shares, source, resources.threads, resources.fetches
                )
                look_ahead = LOOK_AHEAD * self.batch_size
                self._cache.next_use = lambda units: self._stream.next_use(units, self._now, look_ahead)
                if isinstance(source, CachedBytes):
                    source.next_use = self._blocks_use
            return self._cache

    def _source(self) -> Bytes:
        source, cache = open_bytes(self.dataset.store), self.resources.cache
        if cache is None or not source.waits:
            return source
        sizes = {shard.key: shard.bytes for shard in self.dataset.manifest.shards}
        return CachedBytes(source, cache / self._manifest[:16], self.resources.cache_bytes, sizes)

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

    def _num_prefetched(self) -> int:
        if self.resources.ahead is not None:
            return self.resources.ahead
        # Rows of floats in memory are gathered faster than a queue hands them over: no thread for them.
        in_memory = self.shares.tier == "resident" and not self._layout.cameras
        return self.shares.ring - 1 if not in_memory or self.resources.processes else 0

    def _start_prefetch(self) -> Prefetcher | WorkerPool:
        """Start the thread or the worker processes that make the batches of the iteration."""
        resources = self.resources
        if not resources.processes:
            return Prefetcher(self, self._samples, self._num_prefetched())
        budget = resources.memory_budget // resources.processes
        worker_resources = replace(resources, processes=0, ahead=0, memory_budget=budget, pin=None)
        # the keys of ``arguments`` are the keyword arguments of Loader: a worker calls it with them
        spec = LoaderSpec(self.dataset.uri, {**self._arguments, "resources": worker_resources}, self.state)
        return WorkerPool(self, spec, self._samples, resources.processes, self.shares.ring, self._buffers.size)

    def _add_bad_episodes(self, episodes: Sequence[int]) -> None:
        """Episodes that a worker found to be bad, by their index in the dataset."""
        if episodes:
            self._bad |= set(np.flatnonzero(np.isin(self._episode_index, episodes)).tolist())

    def _stop_prefetch(self) -> None:
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    # --------------------------------------------------------------------------------------------------- memory budget

    def _shares(self) -> Shares:
        layout, order, share = self._layout, self._stream.order, self._stream.in_play
        rows, encoded = int(layout.lengths.sum()), int(layout.bytes_E.sum())
        unit_rows = np.add.reduceat(layout.lengths, layout.unit_start[:-1])
        unit_bytes = np.add.reduceat(layout.bytes_E, layout.unit_start[:-1])
        deltas = [len(set(group.span.deltas)) for group in self._groups if group.camera]
        needs = Needs(
            rows=rows,
            live_rows=max(int(rows * share), int(unit_rows.max())),
            lowdim_row=4 * sum(sum(group.columns.dims) for group in self._groups if group.columns),
            frame_row=sum(c.height * c.width * c.channels for c in layout.cameras),
            encoded=encoded,
            live_encoded=max(int(encoded * share), int(unit_bytes.max())),
            batch=self._buffers.size,
            tables=int(order.num_windows * (8 if order.lanes > 1 else 24)),
            largest_rows=int(unit_rows.max()),
            largest_encoded=int(unit_bytes.max()),
            decodes_per_epoch=sum(deltas) * self.num_windows / max(rows * len(deltas), 1),
        )
        ring = 2 + (3 if self.resources.ahead is None else self.resources.ahead)
        return share_out(needs, self.resources.memory_budget, ring, self.resources.fetches, self.resources.tier)
