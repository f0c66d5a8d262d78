"""How many GPU hours a run may take, what they cost, and how many it has taken: small notes in the run's folder.

``spent/TRIAL/ATTEMPT.json`` is written by the step that trains, every few seconds, so that pods that train side by side
know of each other and a killed one is counted as far as it came.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tendon.errors import Problem
from tendon.runs.failures import now
from tendon.storage import open_store
from tendon.storage.json_values import read_note

FOLDER = "spent"
STOPPED = "stopped"  # the status of a trial that the budget ended
NOTE_EVERY_S = 10.0
HOUR = 3600.0


@dataclass(frozen=True)
class RunBudget:
    """The defaults are those of the form: no limit, no price."""

    gpu_hours: float = 0.0  # 0: any number
    gpu_hour_price: float = 0.0  # in any currency
    cpu_hour_price: float = 0.0

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values, in the words of the form."""
        for name in ("gpu_hours", "gpu_hour_price", "cpu_hour_price"):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or value < 0 or not math.isfinite(value):
                why = "it is a number, 0 (which means none) or more"
                yield Problem(f"budget_{name} is {value}", "parameters", why, f"budget_{name}=0")

    def money(self, cpu_s: float, gpu_s: float) -> float | None:
        """What so much costs; None when nobody set a price."""
        if not self.gpu_hour_price and not self.cpu_hour_price:
            return None
        return (self.gpu_hour_price * gpu_s + self.cpu_hour_price * cpu_s) / HOUR


class Meter:
    """Counts the GPU time of one training, and says when the budget of its run is spent.

    ``gpus`` may change while it counts: those of a TrainJob are busy only while its pods run.
    """

    def __init__(self, run_uri: str, trial: str, budget: RunBudget, gpus: int, every_s: float = NOTE_EVERY_S) -> None:
        self._store, self.budget, self._gpus = open_store(run_uri), budget, gpus
        self._key = f"{FOLDER}/{trial}/{now().replace(':', '')}-{os.getpid()}-{time.monotonic_ns() % 10**6}.json"
        self._counted_s, self._noted_s, self._every_s = time.monotonic(), -math.inf, every_s
        self._taken_s = self._others_s = 0.0
        self.stopped = False

    @property
    def gpus(self) -> int:
        """How many GPUs are busy now."""
        return self._gpus

    @gpus.setter
    def gpus(self, number: int) -> None:
        self._count()
        self._gpus = number

    def is_over(self) -> bool:
        """Whether to stop now; asked often."""
        if not self.budget.gpu_hours:
            return False
        self._count()
        if self._counted_s - self._noted_s >= self._every_s:
            self.note()
            self._noted_s = self._counted_s
            self._others_s = spent_gpu_s(self._store.uri, but=self._key)
        self.stopped = self._others_s + self._taken_s >= self.budget.gpu_hours * HOUR
        return self.stopped

    def note(self) -> None:
        """Keep what this training has taken so far."""
        self._count()
        if self._taken_s:
            self._store.write(self._key, json.dumps({"gpu_s": round(self._taken_s, 3)}).encode())

    def _count(self) -> None:
        seconds = time.monotonic()
        self._taken_s += self._gpus * (seconds - self._counted_s)
        self._counted_s = seconds


def spent_gpu_s(run_uri: str, but: str = "") -> float:
    """GPU seconds that the trainings of a run have taken, all attempts together."""
    store = open_store(run_uri)
    keys = [entry.key for entry in store.list(f"{FOLDER}/") if entry.key != but]
    return sum(float(read_note(store, key).get("gpu_s", 0.0)) for key in keys)


def describe_spent(run_uri: str, budget: RunBudget) -> str:
    """Why a training was not begun, or stopped."""
    return f"{spent_gpu_s(run_uri) / HOUR:.2f} GPU hours are spent, budget_gpu_hours is {budget.gpu_hours:g}"
