"""Seconds that each stage of the loader waited for the one before it, and a sentence when that is too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

TOO_MUCH = 0.3  # share of its time that the consumer may wait
ENOUGH_S = 10.0  # before the first warning
KNOBS = {
    "fetch": "reading from the store is the bottleneck: raise fetches, or give the loader a disk cache",
    "decode": "decoding is the bottleneck: raise threads or processes, or memory_budget so that frames stay decoded",
    "gather": "copying windows is the bottleneck: raise processes",
}
BORDERS = (*KNOBS, "consumer_wait", "ring_full")


@dataclass
class Meter:
    """Seconds by stage. Several threads add to it."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BORDERS, 0.0))
    started: float = field(default_factory=time.monotonic)
    batches: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _own: threading.local = field(default_factory=threading.local)

    @contextmanager
    def waiting(self, border: str) -> Iterator[None]:
        """Count the time inside, without the part that is counted at another stage meanwhile."""
        began, before = time.monotonic(), getattr(self._own, "counted", 0.0)
        self._own.counted = 0.0
        try:
            yield
        finally:
            took = time.monotonic() - began
            self.add(border, took - self._own.counted)
            self._own.counted = before + took

    def restart(self) -> None:
        """Begin to count again, such as after a slow start."""
        with self._lock:
            self.seconds, self.started = dict.fromkeys(BORDERS, 0.0), time.monotonic()

    def add(self, border: str, seconds: float) -> None:
        """Count some time."""
        with self._lock:
            self.seconds[border] += seconds

    def metrics(self) -> dict[str, float]:
        """For the log: seconds at every stage, and the share of its time that the consumer waited."""
        return {f"loader/{name}_s": round(value, 4) for name, value in self.seconds.items()} | {
            "loader/wait_share": round(self.share, 4)
        }

    @property
    def share(self) -> float:
        """How much of its time the consumer has waited."""
        return self.seconds["consumer_wait"] / max(time.monotonic() - self.started, 1e-9)

    def bottleneck(self) -> str | None:
        """One sentence when the consumer waits too much: the slowest stage, and the setting that helps."""
        if self.share <= TOO_MUCH:
            return None
        behind = {name: self.seconds[name] for name in KNOBS}
        slowest = max(behind, key=lambda name: behind[name])
        return f"the consumer waited {self.share:.0%} of its time for data; {KNOBS[slowest]}"
