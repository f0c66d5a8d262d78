"""Prefetching of batches in a thread of this process. worker_pool.py does it in several processes.

The queue holds as many batches as the memory budget allows; when it is full, the thread waits. Called by the iterators.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tendon.loader.meter import ENOUGH_S

if TYPE_CHECKING:
    from tendon.loader.meter import Meter

log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]


class BatchSource(Protocol):
    """What the prefetcher gets its batches from: a BatchMaker, or a BatchMixer of several."""

    batch_size: int

    @property
    def meter(self) -> Meter: ...  # noqa: D102
    def share(self, first: int) -> Batch: ...  # noqa: D102


class WaitMonitor:
    """Counts how long the consumer waits, and warns once when that is too long."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self._warned = meter, False

    def count(self, began: float) -> None:
        """Count a wait that ends now."""
        now, meter = time.monotonic(), self.meter
        if not meter.batches:  # the first wait is the start of the loader and says nothing about its speed
            meter.started = now
        else:
            meter.add("consumer_wait", now - began)
        meter.batches += 1
        if not self._warned and now - meter.started > ENOUGH_S and (sentence := meter.bottleneck()):
            self._warned = True
            log.warning("loader: %s", sentence)


class Prefetcher:
    """The batches from a position on, in order. With ``num_prefetched`` 0 each is made when it is asked for."""

    def __init__(self, source: BatchSource, samples: int, num_prefetched: int) -> None:
        self._source, self._next = source, samples
        self._wait_monitor = WaitMonitor(source.meter)
        self._queue: queue.Queue[Batch | BaseException] | None = None
        if num_prefetched > 0:
            self._queue = queue.Queue(num_prefetched)
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._make, args=(samples,), name="loader", daemon=True)
            self._thread.start()

    def next(self) -> Batch:
        """The next batch."""
        began = time.monotonic()
        if self._queue is None:
            batch: Batch | BaseException = self._source.share(self._next)
        else:
            batch = self._queue.get()
        self._next += self._source.batch_size
        if isinstance(batch, BaseException):
            raise batch
        self._wait_monitor.count(began)
        return batch

    def close(self) -> None:
        """Stop the thread."""
        if self._queue is not None:
            self._stop.set()
            while self._thread.is_alive():
                with suppress(queue.Empty):
                    self._queue.get(timeout=0.02)

    def _make(self, samples: int) -> None:
        assert self._queue is not None
        while not self._stop.is_set():
            try:
                batch: Batch | BaseException = self._source.share(samples)
            except BaseException as error:
                batch = error
            began = time.monotonic()
            self._queue.put(batch)
            self._wait_monitor.meter.add("ring_full", time.monotonic() - began)
            if isinstance(batch, BaseException):
                return
            del batch  # or its buffer could not be used again before the next batch is made
            samples += self._source.batch_size
