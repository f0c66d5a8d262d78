"""The endless stream of windows of a loader: which window has which position, and which positions belong to a rank.

Joins sampling order, sample weights and window table. It depends on the dataset and the BatchRequest, never on the
LoaderResources. Called by batch_maker.py. Axes: B windows, E episodes.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from tendon.data.dataset import Dataset
from tendon.data.manifest import digest_of
from tendon.loader.argument_checks import check_sampling_order, no_window, too_few_windows
from tendon.loader.choice import ONE_LANE_BYTES, BatchRequest
from tendon.loader.layout import ShardLayout
from tendon.loader.order import LANES, Order, Units
from tendon.loader.sample_weights import SampleWeights, sample_weights
from tendon.loader.slots import MineStudioOrder, Slots
from tendon.loader.windows import WindowTable


class Stream:
    """Maps positions of the stream to episodes and steps."""

    def __init__(self, dataset: Dataset, layout: ShardLayout, table: WindowTable, request: BatchRequest) -> None:
        """Order the windows of ``table``.

        Raises:
            ConfigError: a weight is not usable, or nothing is left.
        """
        self.table, self._layout, self._request = table, layout, request
        self.ordering, self.shuffled = request.ordering, request.ordering.kind == "shuffled"
        self._weights = self._sample_weights(dataset)
        self.order = self._ordered(request.seed)
        self.num_windows = self.order.num_windows

    @property
    def plan(self) -> str:
        """A digest of the settings that define the stream. Saved positions hold it: its keys must stay as they are."""
        request, ordering = self._request, asdict(self.ordering)
        ordering |= {"lanes": self.order.lanes, "repeated": {k: list(v) for k, v in self.ordering.repeated.items()}}
        settings: dict[str, object] = {
            "split": request.split,
            "skip": sorted(request.skip_episodes),
            "spans": {name: asdict(span) for name, span in sorted(request.windows.training.items())},
            "stride": self.table.stride,
            "drop": request.windows.drop_last,
            "ordering": ordering,
        }
        if not self.shuffled:
            settings["slots"] = request.batch_size
        return digest_of(settings)[:16]

    def positions(self, first: int) -> np.ndarray:
        """The positions of this rank's windows in the batch that begins at position ``first``."""
        rank, world, size = self._request.rank, self._request.world, self._request.batch_size
        if self.shuffled:
            return np.arange(first + (rank - first) % world, first + size, world)
        begin, end = (size * r // world for r in (rank, rank + 1))
        return np.arange(first + begin, first + end)

    def located(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Episode and t of the windows at positions."""
        items = self.order.at(positions)
        if self._weights is not None:
            items = self._weights.windows(items, positions // self.num_windows)
        return self.table.locate(items)

    def located_run(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Episode and t of this rank's windows at positions ``[first, first + count)``; ranks take turns from there."""
        if self._weights is not None:
            return self.located(np.arange(first + self._request.rank, first + count, self._request.world))
        return self.table.locate(self.order.windows(first, count)[self._request.rank :: self._request.world])

    def without(
        self, bad: set[int], positions: np.ndarray, episodes_B: np.ndarray, t_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Replace windows of bad episodes by the next window of the order that is not bad."""
        if not bad:
            return episodes_B, t_B
        unusable = np.fromiter(bad, np.int64)
        positions, episodes_B, t_B = positions.copy(), episodes_B.copy(), t_B.copy()
        while (is_bad := np.isin(episodes_B, unusable)).any():
            positions[is_bad] += 1 if self.shuffled else self._request.batch_size  # a slot stays in its column
            episodes_B[is_bad], t_B[is_bad] = self.located(positions[is_bad])
        return episodes_B, t_B

    def next_use(self, units: np.ndarray, now: int, look_ahead: int) -> np.ndarray:
        """The position at which each unit is needed next. Orders of slots are searched ``look_ahead`` positions far."""
        if isinstance(self.order, Order):
            return self.order.next_use(units, now)
        episodes, _ = self.located(np.arange(now, now + look_ahead))
        used_units, first_use = np.unique(self._layout.unit_of[episodes], return_index=True)
        at = np.searchsorted(used_units, units).clip(max=len(used_units) - 1)
        return np.where(used_units[at] == units, first_use[at], np.iinfo(np.int64).max)

    @property
    def in_play(self) -> float:
        """The share of the episodes that this rank reads from at the same time."""
        order, world, num = self.order, self._request.world, len(self._layout.rows)
        if isinstance(order, Order):
            if order.lanes == 1:
                return 1.0
            # ranks take turns: only where the lanes can be dealt evenly does each rank read its own ones alone
            lanes = -(-order.lanes // world) if order.lanes % world == 0 else order.lanes
            return min(1.0, 2 * lanes * order.block / num)
        return min(1.0, 2 * -(-self._request.batch_size // world) / num)

    def _sample_weights(self, dataset: Dataset) -> SampleWeights | None:
        ordering = self.ordering
        if not ordering.weights and not ordering.repeated:
            return None
        index_of = {name: i for i, name in enumerate(self._layout.rows.ids())}
        check_sampling_order(ordering, index_of, dataset, self._request.split)
        weights = {index_of[name]: weight for name, weight in ordering.weights.items() if name in index_of}
        repeated = {index_of[name]: steps for name, steps in ordering.repeated.items() if name in index_of}
        weighted = sample_weights(self.table, weights, repeated, ordering.times)
        if not weighted.num_items:
            raise no_window(dataset, self._request.split, self._layout.rows)
        return weighted

    def _ordered(self, seed: int) -> Order | Slots | MineStudioOrder:
        ordering, size = self.ordering, self._request.batch_size
        counts = self.table.counts if self._weights is None else self._weights.counts
        if ordering.kind == "slots":
            return Slots(counts, size, seed)
        if ordering.kind == "minestudio":
            order = MineStudioOrder(counts.tolist(), size, self._request.world)
            if not order.num_windows:
                raise too_few_windows(int(counts.sum()), size)
            return order
        starts = np.concatenate([[0], np.cumsum(counts)])
        units = Units(starts[self._layout.unit_start], np.diff(self._layout.unit_start))
        lanes = ordering.lanes or (1 if self._layout.bytes_E.sum() < ONE_LANE_BYTES else LANES)
        return Order(int(counts.sum()), seed, lanes, units, ordering.block)
