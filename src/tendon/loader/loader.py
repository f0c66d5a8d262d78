"""The loader: batches of windows from a converted dataset, one after the other, from any position.

A ``BatchMaker`` makes each batch, this process or worker processes run it ahead. Called by the training loop, which makes
tensors of the arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from tendon.data.dataset import Dataset
from tendon.loader.batch_buffers import Field
from tendon.loader.batch_maker import BatchMaker
from tendon.loader.choice import SHUFFLED, BatchRequest, LoaderResources, SamplingOrder
from tendon.loader.iterator import Batches, BatchIterator, State
from tendon.loader.meter import Meter
from tendon.loader.windows import Span, Windows
from tendon.loader.worker_pool import WorkerPool


class Loader(BatchIterator):
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
        on_bad_sample: Literal["fail", "substitute"] = "fail",
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
        windows = windows if isinstance(windows, Windows) else Windows.of(windows)
        request = BatchRequest(
            split, windows, batch_size, seed, tuple(skip_episodes), ordering, rank, world, on_bad_sample
        )
        self.maker = BatchMaker(dataset, request, resources or LoaderResources())
        self.dataset, self.resources = dataset, self.maker.resources
        self.num_windows, self.num_episodes = self.maker.num_windows, self.maker.num_episodes
        super().__init__(self.maker, seed, self.maker.manifest, self.maker.plan)

    def samples(self, first: int, count: int) -> dict[str, np.ndarray]:
        """The windows at positions ``[first, first + count)`` of the endless stream of all ranks."""
        return self.maker.at(np.arange(first, first + count))

    def epoch_of(self, k: int) -> int:
        """The epoch in which batch ``k`` begins."""
        return self.maker.epoch_of(k)

    @property
    def row_epochs(self) -> np.ndarray:
        """How often each window of the batch that came last came before it: ``[B]``."""
        return self.maker.epochs(self._samples - self.batch_size)

    @property
    def state(self) -> State:
        """The position of the iteration, and the episodes that are replaced."""
        bad = self.maker.bad
        return super().state | ({"bad": bad} if bad else {})

    def load_state(self, state: Mapping[str, int | str | list[int]]) -> None:
        """Continue at the position of ``state``. Batch size, world and resources may have changed.

        Raises:
            ConfigError: it belongs to another dataset, seed, split or set of windows.
        """
        super().load_state(state)
        bad = state.get("bad", [])
        assert isinstance(bad, list)
        self.maker.forget_bad()
        self.maker.mark_bad(bad)

    @property
    def bad_episodes(self) -> list[str]:
        """The ids of episodes whose windows were replaced."""
        return self.maker.bad_episodes

    @property
    def texts(self) -> tuple[str, ...]:
        """The table that texts in a batch are indexes into."""
        return self.maker.texts

    @property
    def fields(self) -> tuple[Field, ...]:
        """What a batch is made of, features by name with their shape."""
        return self.maker.fields

    @property
    def meter(self) -> Meter:
        """Seconds of waiting at every stage of the loader."""
        return self.maker.meter

    @property
    def metrics(self) -> dict[str, float]:
        """Seconds of waiting at every stage, and the share of its time that the consumer waited, for the log."""
        return self.maker.meter.metrics()

    def close(self) -> None:
        """Stop threads and processes; the loader may be used again."""
        super().close()
        self.maker.close()

    def _start(self) -> Batches:
        if self.resources.processes:
            return WorkerPool(self.maker, self._samples)
        self._num_prefetched = self.maker.num_prefetched
        return super()._start()
