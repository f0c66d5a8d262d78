"""The endless stream of windows that a loader makes: which window stands where, and which positions are a rank's.

Joins order, emphasis and the table of windows; a function of dataset, seed and what is asked for, never of the means.
Called by loader.py. Axes: B windows, E episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tendon.data.dataset import Dataset
from tendon.data.manifest import digest_of
from tendon.loader import mistakes
from tendon.loader.choice import ONE_LANE_BYTES, Ordering
from tendon.loader.emphasis import Emphasis, emphasis
from tendon.loader.layout import Layout
from tendon.loader.order import LANES, Order, Units
from tendon.loader.slots import MineStudioOrder, Slots
from tendon.loader.windows import Span, WindowTable


@dataclass(frozen=True)
class Asked:
    """What makes the stream, besides dataset and seed."""

    split: str
    spans: Mapping[str, Span]
    skip_episodes: Sequence[str]
    drop_n_last_frames: int
    ordering: Ordering
    batch_size: int
    rank: int
    world: int


class Stream:
    """Positions in, episodes and steps out."""

    def __init__(self, dataset: Dataset, layout: Layout, table: WindowTable, asked: Asked, seed: int) -> None:
        """Order the windows of ``table``.

        Raises:
            ConfigError: a weight is not usable, or nothing is left.
        """
        self.table, self._layout, self._asked = table, layout, asked
        self.ordering, self.shuffled = asked.ordering, asked.ordering.kind == "shuffled"
        self._emphasis = self._emphasised(dataset)
        self.order = self._ordered(seed)
        self.num_windows = self.order.num_windows

    @property
    def plan(self) -> str:
        """A digest of all that makes the stream, besides dataset and seed."""
        asked, ordering = self._asked, asdict(self.ordering)
        ordering |= {"lanes": self.order.lanes, "repeated": {k: list(v) for k, v in self.ordering.repeated.items()}}
        found: dict[str, object] = {
            "split": asked.split,
            "skip": sorted(asked.skip_episodes),
            "spans": {name: asdict(span) for name, span in sorted(asked.spans.items())},
            "stride": self.table.stride,
            "drop": asked.drop_n_last_frames,
            "ordering": ordering,
        }
        if not self.shuffled:
            found["slots"] = asked.batch_size
        return digest_of(found)[:16]

    def positions(self, first: int) -> np.ndarray:
        """Where this rank's windows of the batch at ``first`` stand in the stream."""
        rank, world, size = self._asked.rank, self._asked.world, self._asked.batch_size
        if self.shuffled:
            return np.arange(first + (rank - first) % world, first + size, world)
        begin, end = (size * r // world for r in (rank, rank + 1))
        return np.arange(first + begin, first + end)

    def located(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Episode and t of the windows at positions."""
        items = self.order.at(positions)
        if self._emphasis is not None:
            items = self._emphasis.windows(items, positions // self.num_windows)
        return self.table.locate(items)

    def located_run(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Episode and t of this rank's windows among those at ``[first, first + count)``; ranks take turns from there."""
        if self._emphasis is not None:
            return self.located(np.arange(first + self._asked.rank, first + count, self._asked.world))
        return self.table.locate(self.order.windows(first, count)[self._asked.rank :: self._asked.world])

    def without(
        self, bad: set[int], positions: np.ndarray, episodes_B: np.ndarray, t_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Windows of bad episodes replaced by the next window of the order that is not bad."""
        if not bad:
            return episodes_B, t_B
        unusable = np.fromiter(bad, np.int64)
        positions, episodes_B, t_B = positions.copy(), episodes_B.copy(), t_B.copy()
        while (wrong := np.isin(episodes_B, unusable)).any():
            positions[wrong] += 1 if self.shuffled else self._asked.batch_size
            episodes_B[wrong], t_B[wrong] = self.located(positions[wrong])
        return episodes_B, t_B

    def next_use(self, units: np.ndarray, now: int, look_ahead: int) -> np.ndarray:
        """The position at which each unit is needed next; of orders that only tell what is near, as far as that."""
        if isinstance(self.order, Order):
            return self.order.next_use(units, now)
        episodes, _ = self.located(np.arange(now, now + look_ahead))
        soon, where = np.unique(self._layout.unit_of[episodes], return_index=True)
        at = np.searchsorted(soon, units).clip(max=len(soon) - 1)
        return np.where(soon[at] == units, where[at], np.iinfo(np.int64).max)

    @property
    def in_play(self) -> float:
        """The share of the episodes that the order has in play at once, for this rank."""
        order, world, num = self.order, self._asked.world, len(self._layout.rows)
        if isinstance(order, Order):
            if order.lanes == 1:
                return 1.0
            mine = -(-order.lanes // world) if order.lanes % world == 0 else order.lanes
            return min(1.0, 2 * mine * order.block / num)
        return min(1.0, 2 * -(-self._asked.batch_size // world) / num)

    def _emphasised(self, dataset: Dataset) -> Emphasis | None:
        ordering = self.ordering
        if not ordering.weights and not ordering.repeated:
            return None
        places = {name: i for i, name in enumerate(self._layout.rows.ids())}
        mistakes.check_ordering(ordering, places, dataset, self._asked.split)
        weights = {places[name]: weight for name, weight in ordering.weights.items() if name in places}
        repeated = {places[name]: steps for name, steps in ordering.repeated.items() if name in places}
        found = emphasis(self.table, weights, repeated, ordering.times)
        if not found.num_items:
            raise mistakes.no_window(dataset, self._asked.split, self._layout.rows)
        return found

    def _ordered(self, seed: int) -> Order | Slots | MineStudioOrder:
        ordering, size = self.ordering, self._asked.batch_size
        counts = self.table.counts if self._emphasis is None else self._emphasis.counts
        if ordering.kind == "slots":
            return Slots(counts, size, seed)
        if ordering.kind == "minestudio":
            order = MineStudioOrder(counts.tolist(), size, self._asked.world)
            if not order.num_windows:
                raise mistakes.too_few_windows(int(counts.sum()), size)
            return order
        starts = np.concatenate([[0], np.cumsum(counts)])
        units = Units(starts[self._layout.unit_start], np.diff(self._layout.unit_start))
        lanes = ordering.lanes or (1 if self._layout.bytes_E.sum() < ONE_LANE_BYTES else LANES)
        return Order(int(counts.sum()), seed, lanes, units, ordering.block)
