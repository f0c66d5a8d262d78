"""SIGTERM and Ctrl-C as a wish that the loop grants after the current step: save, then leave with code 75.

A second Ctrl-C is not a wish any more: it stops at once.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType

logger = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """``with Interrupts() as interrupts``: ``interrupts.requested`` turns true when the process is asked to stop."""

    def __init__(self) -> None:
        self.requested = ""  # the signal's name
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # Python delivers signals there only
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
        logger.warning("train: %s: finishing this step and saving (Ctrl-C again quits at once)", self.requested)
