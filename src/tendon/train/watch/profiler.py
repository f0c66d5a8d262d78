"""``--profile``: torch's profiler over a few early steps, as a callback; a trace for Perfetto and a table, in the trial."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from tendon.train.loop.engine import Update
from tendon.train.watch.callbacks import Callback, RunContext

logger = logging.getLogger(__name__)
WAIT, WARM_UP, ACTIVE = 5, 3, 10  # steps
NUM_ROWS = 25


class Profiler(Callback):
    """Writes ``profile/trace.json`` and ``profile/table.txt`` after its last step; the run goes on."""

    def __init__(self) -> None:
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
        self._steps = schedule(wait=WAIT, warmup=WARM_UP, active=ACTIVE, repeat=1)
        self._profile: Any = profile(activities=activities, schedule=self._steps)
        self._done, self._seen = False, 0

    def on_start(self, run: RunContext, lines: Sequence[Mapping[str, Any]]) -> None:
        """Begin to count steps."""
        self._profile.start()

    def on_step(self, run: RunContext, step: int, update: Update) -> None:
        """Once the active steps are over, write."""
        if self._done:
            return
        self._profile.step()
        self._seen += 1
        if self._seen == WAIT + WARM_UP + ACTIVE:
            self._write(run)

    def on_end(self, run: RunContext, *, finished: bool) -> None:
        """A run too short to be profiled says so."""
        if not self._done:
            self._profile.stop()
            logger.warning("train: no profile: it needs %d steps", WAIT + WARM_UP + ACTIVE)

    def _write(self, run: RunContext) -> None:
        self._done = True
        self._profile.stop()
        with tempfile.TemporaryDirectory(prefix="tendon-profile-") as folder:
            trace = Path(folder, "trace.json")
            self._profile.export_chrome_trace(str(trace))
            run.store.write("profile/trace.json", trace.read_bytes())
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = self._profile.key_averages().table(sort_by=order, row_limit=NUM_ROWS)
        run.store.write("profile/table.txt", table.encode())
        logger.info("train: profile of steps: %s/profile/", run.trial_uri)
