"""What a run tells its watcher: one event per start, line and end of a step, and how a terminal shows them.

The console prints one line per finished step; one that takes longer than a second, or has something to say, also gets
a line when it starts. No carriage returns, so the same text serves a terminal, a file and a CI log.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TextIO

QUIET_START_S = 1.0
# The head of a log line, from its level to its place in the code: the step's log keeps it, a terminal need not.
LOG_HEAD = re.compile(r"^(?:INFO|(WARNING |ERROR ))\s*\d{4}-\S+ \S+\s+\S+:\d+ ")

Kind = Literal["started", "line", "done", "cached", "failed", "trial_failed", "trial_skipped"]


@dataclass(frozen=True)
class StepEvent:
    """One thing that happened to one step; ``part`` is the trial, or the share of a conversion; empty outside the loops."""

    kind: Kind
    step: str
    part: str
    index: int  # place of the step in the DAG, from 1
    total: int
    seconds: float = 0.0
    text: str = ""

    @property
    def name(self) -> str:
        """How the step is called everywhere: ``train lr_0.001``."""
        return f"{self.step} {self.part}".strip()


OnEvent = Callable[[StepEvent], None]


class Console:
    """Prints events, from any thread, as lines that never mix; ``quiet`` leaves what steps say to their logs."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._lock = threading.Lock()
        self._waiting: dict[str, threading.Timer] = {}

    def __call__(self, event: StepEvent) -> None:
        """Show one event."""
        if self._quiet and event.kind in ("started", "line"):
            return
        with self._lock:
            head = f"[{event.index}/{event.total}] {event.name} ..."
            if event.kind == "started":
                timer = threading.Timer(QUIET_START_S, self._show_start, (event.name, head))
                timer.daemon = True
                self._waiting[event.name] = timer
                timer.start()
                return
            self._begin(event.name, head, shown=event.kind == "line")
            said = LOG_HEAD.sub(lambda found: found[1] or "", event.text)
            self._write(f"    {event.name} | {said}" if event.kind == "line" else f"{head} {_ending(event)}")

    def _show_start(self, name: str, head: str) -> None:
        with self._lock:
            self._begin(name, head, shown=True)

    def _begin(self, name: str, head: str, *, shown: bool) -> None:
        timer = self._waiting.pop(name, None)
        if timer is None:
            return
        timer.cancel()
        if shown:
            self._write(head)

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


def _ending(event: StepEvent) -> str:
    took = f"{event.seconds:.1f} s"
    return {
        "done": f"done in {took}",
        "cached": f"cached ({took})",
        "failed": f"FAILED after {took}: {event.text}",
        "trial_failed": f"trial failed after {took}, the sweep goes on: {event.text}",
        "trial_skipped": f"skipped, the trial has failed ({took})",
    }[event.kind]
