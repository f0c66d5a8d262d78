"""Batches of windows from a converted dataset: any batch by its number, exact epochs, a state of one integer.

``Loader`` joins stream (which windows), shelf (what is in memory) and gather (into a batch). Called by the training
loop, which makes tensors of the arrays. Axes: B windows, T deltas of a feature, D its numbers, H, W, C of an image.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tendon.data.dataset import Dataset
from tendon.errors import DataError
from tendon.loader import mistakes
from tendon.loader.ahead import Ahead
from tendon.loader.budget import Needs, Shares, share_out
from tendon.loader.cache import BLOCK, CachedBytes, Name
from tendon.loader.choice import SHUFFLED, Means, Ordering
from tendon.loader.fetch import Bytes, open_bytes
from tendon.loader.gather import Chunk, chunk_of, fields_of, gather, gather_chunk, grouped
from tendon.loader.layout import Layout, as_stored
from tendon.loader.meter import Meter
from tendon.loader.processes import Processes, Recipe
from tendon.loader.shelf import Shelf
from tendon.loader.slabs import Field, Slabs, arrays_in, slab_bytes
from tendon.loader.stream import Asked, Stream
from tendon.loader.windows import Edge, spans_of, window_table

log = logging.getLogger(__name__)

STATE_VERSION = 3
CHUNK = 1 << 17  # window steps that are worked out at once when everything is in memory
LOOK_AHEAD = 32  # batches whose units are loaded before they are needed
MOST_BAD = 0.001  # share of episodes that may be replaced, one at least

State = dict[str, int | str | list[int]]


class Loader:
    """Endless batches; epochs follow without a gap, so a batch may hold the end of one and the start of another."""

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        deltas: Mapping[str, Sequence[int]],
        batch_size: int,
        seed: int,
        *,
        edges: Mapping[str, Edge | tuple[Edge, Edge]] | None = None,
        skip_episodes: Sequence[str] = (),
        stride: int = 1,
        drop_n_last_frames: int = 0,
        ordering: Ordering = SHUFFLED,
        rank: int = 0,
        world: int = 1,
        on_bad_sample: str = "fail",
        means: Means | None = None,
    ) -> None:
        """Make ready; the first bytes are read when a batch is asked for.

        Args:
            dataset: a converted dataset.
            split: one of its splits, or ``all``.
            deltas: per feature or camera the steps relative to t, such as ``{"action": (0, 1, 2)}``.
            batch_size: windows per batch, of all ranks together.
            seed: of the order.
            edges: per feature what lies beyond an episode: ``repeat`` (default), ``zero`` or ``none``; or a pair.
            skip_episodes: ids of episodes to leave out.
            stride: steps between the windows of an episode.
            drop_n_last_frames: no window begins at the last n steps of an episode.
            ordering: shuffled, or rows that walk through episodes, and what is seen more often.
            rank: which share of every batch this process gets.
            world: how many shares there are.
            on_bad_sample: ``fail``, or ``substitute`` the next window of the order.
            means: memory, threads, cache; they never change the stream.

        Raises:
            ConfigError: a feature, split or episode does not exist, no window fits, or the memory is too small.
        """
        self.means = means or Means()
        self._arguments = {
            "split": split,
            "deltas": dict(deltas),
            "batch_size": batch_size,
            "seed": seed,
            "edges": edges,
            "skip_episodes": tuple(skip_episodes),
            "stride": stride,
            "drop_n_last_frames": drop_n_last_frames,
            "ordering": ordering,
            "rank": rank,
            "world": world,
            "on_bad_sample": on_bad_sample,
        }
        spans = spans_of(deltas, edges)
        mistakes.check(dataset, spans, batch_size, rank, world, stride, on_bad_sample)
        self.dataset, self.batch_size, self.seed, self.rank, self.world = dataset, batch_size, seed, rank, world
        rows = dataset.episodes(split, skip_episodes)
        if ordering.kind == "shuffled":  # rows that walk through episodes keep the order of the episodes' numbers
            rows = as_stored(rows)
        self.num_episodes = len(rows)
        self._episode_index = rows.numbers.astype(np.int64)
        table = window_table(rows.lengths, spans.values(), stride, drop_n_last_frames)
        if not table.num_windows:
            raise mistakes.no_window(dataset, split, rows)
        schema = dataset.manifest.schema
        cameras = {each.name: each for each in schema.cameras if each.name in spans}
        self._groups = grouped(spans, schema.dims, cameras)
        lowdim = any(name in schema.dims for name in spans)
        unit_bytes = ordering.unit_bytes if ordering.kind == "shuffled" else 1  # a slot walks through one episode
        self._layout = Layout(dataset, rows, lowdim, list(cameras.values()), unit_bytes)
        asked = Asked(split, spans, skip_episodes, drop_n_last_frames, ordering, batch_size, rank, world)
        self._stream = Stream(dataset, self._layout, table, asked, seed)
        self.num_windows = self._stream.num_windows
        self._manifest, self._plan = dataset.manifest.digest, self._stream.plan
        self._substitute = on_bad_sample == "substitute"
        self._bad: set[int] = set()
        self._share_size = -(-batch_size // world)
        self._fields = fields_of(self._groups, self._share_size)
        self._slabs = Slabs(slab_bytes(self._fields), self.means.pin)
        self._chunk: tuple[int, Chunk] | None = None
        self.shares = self._shares()
        self._shelf: Shelf | None = None
        self._lock = threading.RLock()
        self._samples = self._now = 0
        self._expected, self._soon = (0, -1), list[int]()  # positions whose units are known, and those units
        self._ahead: Ahead | Processes | None = None

    # ------------------------------------------------------------------------------------------------------- batches

    def batch(self, k: int) -> dict[str, np.ndarray]:
        """This rank's share of the k-th batch, whatever was asked for before.

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
        if self._ahead is None:
            self._ahead = self._started()
        batch = self._ahead.next()
        self._samples += self.batch_size
        return batch

    # --------------------------------------------------------------------------------------------------------- state

    @property
    def state(self) -> State:
        """Where the iteration stands; small, JSON, the same on all ranks."""
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
        """Continue where ``state`` was taken; another batch size, world, or other means are fine.

        Raises:
            ConfigError: it belongs to another dataset, seed, split or set of windows.
        """
        mistakes.check_state(state, self.state)
        self._stop_ahead()
        self._samples = int(state["samples"])  # type: ignore[arg-type]
        listed = state.get("bad", [])
        assert isinstance(listed, list)
        self._bad = set(np.flatnonzero(np.isin(self._episode_index, listed)).tolist())

    @property
    def bad_episodes(self) -> list[str]:
        """The ids of episodes whose windows were replaced, for the record."""
        return sorted(self._layout.rows[episode].episode_id for episode in self._bad)

    @property
    def fields(self) -> tuple[Field, ...]:
        """What a batch is made of, features by name with their shape."""
        dims = self.dataset.manifest.schema.dims
        found = []
        for group in self._groups:
            for name in group.names:
                shape = (
                    (dims[name],)
                    if group.columns
                    else next(f.shape for f in fields_of([group], 1) if f.name == name)[2:]
                )
                found.append(Field(name, "<f4" if group.columns else "|u1", (1, len(group.span.deltas), *shape)))
        return tuple(found)

    @property
    def meter(self) -> Meter:
        """Waits at every border."""
        return self._shelved().meter

    @property
    def metrics(self) -> dict[str, float]:
        """Seconds that each border of the path waited, and the consumer's share."""
        return self._shelved().meter.metrics()

    def close(self) -> None:
        """Stop threads and processes; the loader may be used again."""
        self._stop_ahead()
        with self._lock:
            if self._shelf is not None:
                self._shelf.close()
                self._shelf = self._chunk = None

    # --------------------------------------------------------------------------------------------------------- inside

    def _share(self, first: int) -> dict[str, np.ndarray]:
        with self._lock:
            if not self._shelved().ready or self._bad:
                self._expect(first)
                return self._at(self._stream.positions(first))
            return self._of_chunk(first)

    def _at(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        fields = fields_of(self._groups, len(positions))
        slabs = self._slabs if len(positions) <= self._share_size else Slabs(slab_bytes(fields))
        arrays = slabs.lend(fields)
        self._fill(positions, arrays)
        return self._named(positions, arrays)

    def _of_chunk(self, first: int) -> dict[str, np.ndarray]:
        """The share when everything is in memory: what is common to many batches is worked out once."""
        shelf, B = self._shelved(), self.batch_size
        widest = max(len(group.span.deltas) for group in self._groups)
        many = max(1, min(CHUNK // (self._share_size * widest), self.num_windows // B))
        begin, inside = first - first % (many * B), first % (many * B)
        if inside % B or not self._stream.shuffled or begin % self.world:  # another grid than k * batch_size
            return self._at(self._stream.positions(first))
        if self._chunk is None or self._chunk[0] != begin:
            located = self._stream.located_run(begin, many * B)
            used = self._chunk and self._chunk[1]
            self._chunk = (begin, chunk_of(shelf, self._groups, self._episode_index, *located, used))
        low, high = ((at - self.rank + self.world - 1) // self.world for at in (inside, inside + B))
        fields = self._fields if high - low == self._share_size else fields_of(self._groups, high - low)
        arrays = self._slabs.lend(fields)
        with shelf.meter.waiting("gather"):
            gather_chunk(shelf, self._groups, self._chunk[1], low, high, arrays)
        return self._named(None, arrays)

    def _share_into(self, first: int, whole: np.ndarray) -> None:
        """This rank's share of the batch at ``first``, into memory of someone else."""
        with self._lock:
            self._expect(first)
            positions = self._stream.positions(first)
            self._fill(positions, arrays_in(whole, fields_of(self._groups, len(positions))))

    def _viewed(self, first: int, whole: np.ndarray) -> dict[str, np.ndarray]:
        """The batch at ``first`` that another process has put into ``whole``."""
        positions = self._stream.positions(first)
        return self._named(positions, arrays_in(whole, fields_of(self._groups, len(positions))))

    def _fill(self, positions: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        shelf = self._shelved()
        episodes_B, t_B = self._stream.located(positions)
        while self._bad or self._substitute:
            episodes_B, t_B = self._stream.without(self._bad, positions, episodes_B, t_B)
            bad = gather(shelf, self._groups, episodes_B, t_B, arrays)
            if not bad:
                break
            self._mark(bad)
        else:
            for error in gather(shelf, self._groups, episodes_B, t_B, arrays).values():
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
        """Begin to load what the next batches need."""
        shelf, shares = self._shelved(), self.shares
        if shares.tier != "window" and shares.rows >= shelf.layout.lengths.sum() and shelf.complete:
            return
        self._now = first
        begin, end = self._expected
        wanted: Sequence[int] = ()
        if not begin <= first <= (begin + end) // 2:  # far enough ahead is looked again half way through
            end = first + LOOK_AHEAD * self.batch_size
            positions = np.concatenate([self._stream.positions(at) for at in range(first, end, self.batch_size)])
            episodes, _ = self._stream.located(positions)
            units, where = np.unique(shelf.layout.unit_of[episodes], return_index=True)
            self._expected, self._soon = (first, end), units[np.argsort(where)].tolist()
            wanted = episodes[: self._share_size].tolist() if shelf.cold else ()
        shelf.expect(self._soon, wanted)

    def _shelved(self) -> Shelf:
        with self._lock:
            if self._shelf is None:
                columns = [group.columns for group in self._groups if group.columns]
                source = self._source()
                self._now, self._expected = self._samples, (0, -1)
                means = self.means
                self._shelf = Shelf(self._layout, columns, self.shares, source, means.threads, means.fetches)
                look_ahead = LOOK_AHEAD * self.batch_size
                self._shelf.next_use = lambda units: self._stream.next_use(units, self._now, look_ahead)
                if isinstance(source, CachedBytes):
                    source.next_use = self._blocks_use
            return self._shelf

    def _source(self) -> Bytes:
        source, cache = open_bytes(self.dataset.store), self.means.cache
        if cache is None or not source.waits:
            return source
        sizes = {shard.key: shard.bytes for shard in self.dataset.manifest.shards}
        return CachedBytes(source, cache / self._manifest[:16], self.means.cache_bytes, sizes)

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

    def _num_ahead(self) -> int:
        if self.means.ahead is not None:
            return self.means.ahead
        everything = self.shares.tier == "resident" and not self._layout.cameras
        return self.shares.ring - 1 if not everything or self.means.processes else 0

    def _started(self) -> Ahead | Processes:
        """Whoever makes the batches that iteration asks for."""
        means = self.means
        if not means.processes:
            return Ahead(self, self._samples, self._num_ahead())
        budget = means.memory_budget // means.processes
        own = replace(means, processes=0, ahead=0, memory_budget=budget, pin=None)
        recipe = Recipe(self.dataset.uri, {**self._arguments, "means": own}, self.state)
        return Processes(self, recipe, self._samples, means.processes, self.shares.ring, self._slabs.size)

    def _learned(self, episodes: Sequence[int]) -> None:
        """What other processes found to be bad."""
        if episodes:
            self._bad |= set(np.flatnonzero(np.isin(self._episode_index, episodes)).tolist())

    def _stop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    # ---------------------------------------------------------------------------------------------------- how it is made

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
            batch=self._slabs.size,
            tables=int(order.num_windows * (8 if order.lanes > 1 else 24)),
            largest_rows=int(unit_rows.max()),
            largest_encoded=int(unit_bytes.max()),
            decodes_per_epoch=sum(deltas) * self.num_windows / max(rows * len(deltas), 1),
        )
        ring = 2 + (3 if self.means.ahead is None else self.means.ahead)
        return share_out(needs, self.means.memory_budget, ring, self.means.fetches, self.means.tier)
