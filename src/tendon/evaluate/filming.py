"""Clips of an evaluation, made while it runs: the guest that has just played an episode draws it from the states it kept.

Shown are the first successes and failures by seed. An episode that may still be one of them when it ends is filmed at
once, which are a few more than are shown. Called by the workers of rollout.py, one thread each, and by table.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from tendon.evaluate.guest import Guest, GuestCrash
from tendon.evaluate.video import encode_clip

logger = logging.getLogger(__name__)
SIZE = 256  # pixels of the square frame
STRIDE = 2  # steps from frame to frame at least
MOST_FRAMES = 40  # of an episode of any length


class Filming:
    """Which episodes are filmed, and what came of it: clips by position among the seeds."""

    def __init__(self, per_status: int, finished: Mapping[int, str]) -> None:
        """``finished``: statuses of an earlier attempt's episodes, which are filmed by nobody here."""
        self.per_status = per_status
        self.clips: dict[int, bytes] = {}
        self._taken = [(status, index) for index, status in finished.items()]
        self._lock = threading.Lock()

    def follow(self, guest: Guest, index: int, seed: int, status: str) -> None:
        """Film the episode that this guest has just played, if it may be shown."""
        if status == "crashed" or not guest.films or not self._takes(index, status):
            return
        try:
            frames, stride = guest.film(SIZE, STRIDE, MOST_FRAMES)
        except GuestCrash as crash:  # the table says nothing of it: the episode was over
            logger.warning("evaluate: seed %d crashed while it was drawn: %s", seed, crash.why)
            return
        if frames:
            self.clips[index] = encode_clip(frames, guest.env.fps / stride)

    def _takes(self, index: int, status: str) -> bool:
        """Whether fewer than are shown come before it; who ends later can only come between."""
        with self._lock:
            before = sum(taken == status and number < index for taken, number in self._taken)
            if before < self.per_status:
                self._taken.append((status, index))
            return before < self.per_status
