"""Iteration over batches that are functions of their number: it owns the position, its state and the prefetching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from tendon.loader.argument_checks import check_state
from tendon.loader.prefetcher import Batch, BatchSource, Prefetcher

STATE_VERSION = 3

State = dict[str, int | str | list[int]]


class Batches(Protocol):
    """A running prefetcher or worker pool."""

    def next(self) -> Batch: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class BatchIterator:
    """Endless batches of a source from a position on; a position is a small JSON object."""

    def __init__(self, source: BatchSource, seed: int, manifest: str, plan: str, num_prefetched: int = 0) -> None:
        """Begin at the first batch.

        Args:
            source: of the batches.
            seed: as positions name it.
            manifest: digest of the data, as positions name it.
            plan: digest of the settings that define the stream, as positions name it.
            num_prefetched: how many batches are made before they are asked for.
        """
        self._source, self._num_prefetched = source, num_prefetched
        self.batch_size, self.seed = source.batch_size, seed
        self._manifest, self._plan = manifest, plan
        self._samples = 0
        self._batches: Batches | None = None

    def batch(self, k: int) -> Batch:
        """This rank's share of the k-th batch. It does not depend on earlier calls."""
        return self._source.share(k * self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = self._start()
        batch = self._batches.next()
        self._samples += self.batch_size
        return batch

    @property
    def state(self) -> State:
        """The position of the iteration: small, JSON, the same on all ranks. Checkpoints hold it: keep its keys."""
        return {
            "v": STATE_VERSION,
            "seed": self.seed,
            "samples": self._samples,
            "manifest": self._manifest,
            "plan": self._plan,
        }

    def load_state(self, state: Mapping[str, int | str | list[int]]) -> None:
        """Continue at the position of ``state``. Batch size, world and resources may have changed.

        Raises:
            ConfigError: it belongs to another dataset, seed, split or set of windows.
        """
        check_state(state, self.state)
        self._stop()
        self._samples = int(state["samples"])  # type: ignore[arg-type]

    def close(self) -> None:
        """Stop the thread or the processes that prefetch."""
        self._stop()

    def _start(self) -> Batches:
        return Prefetcher(self._source, self._samples, self._num_prefetched)

    def _stop(self) -> None:
        if self._batches is not None:
            self._batches.close()
            self._batches = None
