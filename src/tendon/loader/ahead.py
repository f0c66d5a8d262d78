"""Batches made before they are asked for: by a thread of this process, or by several processes.

The queue holds as many as the memory budget allows; a full one blocks who makes them. Called by loader.py.
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


class Maker(Protocol):
    """What batches come from: Loader or MixedLoader."""

    batch_size: int

    @property
    def meter(self) -> Meter: ...  # noqa: D102
    def _share(self, first: int) -> Batch: ...


class Pace:
    """How long the consumer waits, and one sentence when that is too long."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self._said = meter, False

    def count(self, began: float) -> None:
        """Count a wait that ends now."""
        now, meter = time.monotonic(), self.meter
        if not meter.batches:  # the first wait is the start, not the pace
            meter.started = now
        else:
            meter.add("consumer_wait", now - began)
        meter.batches += 1
        if not self._said and now - meter.started > ENOUGH_S and (sentence := meter.bottleneck()):
            self._said = True
            log.warning("loader: %s", sentence)


class Ahead:
    """The batches from a position on, in order."""

    def __init__(self, loader: Maker, samples: int, ahead: int) -> None:
        self._loader, self._next = loader, samples
        self._pace = Pace(loader.meter)
        self._queue: queue.Queue[Batch | BaseException] | None = None
        if ahead > 0:
            self._queue = queue.Queue(ahead)
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._make, args=(samples,), name="loader", daemon=True)
            self._thread.start()

    def next(self) -> Batch:
        """The next batch."""
        began = time.monotonic()
        if self._queue is None:
            found: Batch | BaseException = self._loader._share(self._next)
        else:
            found = self._queue.get()
        self._next += self._loader.batch_size
        if isinstance(found, BaseException):
            raise found
        self._pace.count(began)
        return found

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
                made: Batch | BaseException = self._loader._share(samples)
            except BaseException as error:
                made = error
            began = time.monotonic()
            self._queue.put(made)
            self._pace.meter.add("ring_full", time.monotonic() - began)
            if isinstance(made, BaseException):
                return
            del made
            samples += self._loader.batch_size
