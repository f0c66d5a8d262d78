"""The interface through which a run is watched. monitors.py finds the callbacks that ``training.callbacks`` names.

A user's file holds a class ``Callback`` that derives from the one here. A callback sees the run, never changes a number
of it, and may keep a JSON state that is saved and restored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tendon.config.schema import TrainConfig
from tendon.storage.store import Store
from tendon.train.loop.engine import Engine, Update
from tendon.train.loop.epoch_size import EpochSize


@dataclass(frozen=True)
class RunContext:
    """What a callback is shown."""

    config: TrainConfig
    engine: Engine
    epoch_size: EpochSize
    store: Store  # of the trial
    trial_uri: str


class Callback:
    """Every method does nothing until it is written anew; all are called in the first process only."""

    def on_start(self, run: RunContext, lines: Sequence[Mapping[str, Any]]) -> None:
        """Before the first step of an attempt; ``lines`` of metrics.jsonl that earlier attempts left."""

    def on_step(self, run: RunContext, step: int, update: Update) -> None:
        """After update ``step`` (0 is the first); reading a number of ``update`` waits for the device."""

    def more_numbers(self, run: RunContext, step: int) -> Mapping[str, float]:
        """Numbers to add to the training line of ``step``, which is about to be written."""
        return {}

    def on_line(self, run: RunContext, index: int, line: Mapping[str, Any]) -> None:
        """Line ``index`` of metrics.jsonl was written: a training step, a validation or rollouts."""

    def on_save(self, run: RunContext, step: int, reasons: Mapping[str, float]) -> None:
        """The state after ``step`` updates is being saved."""

    def on_end(self, run: RunContext, *, finished: bool) -> None:
        """The attempt ends: the training is done, or it was interrupted or failed."""

    def state(self) -> Any:
        """What the next attempt must know, as JSON."""
        return None

    def load_state(self, state: Any) -> None:
        """The inverse of ``state``."""
