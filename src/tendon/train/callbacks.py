"""The interface through which a run is watched, and the seeds' monitors written on it.

``training.callbacks`` lists names from MONITORS, names that installed packages bring (entry points ``tendon.callbacks``)
or trusted Python files; a file holds a class ``Callback`` that derives from the one here. A callback sees the run, never
changes a number of it, and may keep a JSON state that is saved and restored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from tendon.config.schema import TrainConfig
from tendon.errors import ConfigError
from tendon.plugins import OWN, Claim, claims
from tendon.storage.store import Store
from tendon.train.engine import Engine, Update
from tendon.train.volume import Volume
from tendon.trust import run_file


@dataclass(frozen=True)
class Run:
    """What a callback is shown."""

    config: TrainConfig
    engine: Engine
    volume: Volume
    store: Store  # of the trial
    trial_uri: str


class Callback:
    """Every method does nothing until it is written anew; all are called in the first process only."""

    def on_start(self, run: Run, lines: Sequence[Mapping[str, Any]]) -> None:
        """Before the first step of an attempt; ``lines`` of metrics.jsonl that earlier attempts left."""

    def on_step(self, run: Run, step: int, update: Update) -> None:
        """After update ``step`` (0 is the first); reading a number of ``update`` waits for the device."""

    def more_numbers(self, run: Run, step: int) -> Mapping[str, float]:
        """Numbers to add to the training line of ``step``, which is about to be written."""
        return {}

    def on_line(self, run: Run, index: int, line: Mapping[str, Any]) -> None:
        """Line ``index`` of metrics.jsonl was written: a training step, a validation or rollouts."""

    def on_save(self, run: Run, step: int, reasons: Mapping[str, float]) -> None:
        """The state after ``step`` updates is being saved."""

    def on_end(self, run: Run, *, finished: bool) -> None:
        """The attempt ends: the training is done, or it was interrupted or failed."""

    def state(self) -> Any:
        """What the next attempt must know, as JSON."""
        return None

    def load_state(self, state: Any) -> None:
        """The inverse of ``state``."""


class LearningRateMonitor(Callback):
    """``lr-Adam``, and ``lr-Adam/pg2`` for a second group: the rate of the line's update, under the name of Lightning's monitor."""

    def more_numbers(self, run: Run, step: int) -> Mapping[str, float]:
        """One number per parameter group."""
        optimizer = run.engine.optimizer
        name, groups = f"lr-{type(optimizer).__name__}", optimizer.param_groups
        many = len(groups) > 1
        return {f"{name}/pg{i + 1}" if many else name: group["lr"] for i, group in enumerate(groups)}


class SpeedMonitorCallback(Callback):
    """``speed(batch/s)``: updates per second since the last training line, waiting for data and validation included."""

    def __init__(self) -> None:
        self._step, self._since = 0, perf_counter()

    def on_start(self, run: Run, lines: Sequence[Mapping[str, Any]]) -> None:
        """Time begins."""
        self._step, self._since = -1, perf_counter()

    def more_numbers(self, run: Run, step: int) -> Mapping[str, float]:
        """The first line of an attempt has no interval behind it, hence no speed."""
        before, since = self._step, self._since
        self._step, self._since = step, perf_counter()
        return {} if before < 0 else {"speed(batch/s)": (step - before) / max(self._since - since, 1e-9)}


def _profiler() -> Callback:
    from tendon.train.profile import Profiler

    return Profiler()


MONITORS: Mapping[str, Callable[[], Callback]] = {
    "LearningRateMonitor": LearningRateMonitor,
    "SpeedMonitorCallback": SpeedMonitorCallback,
    "Profiler": _profiler,
}


def callback_claims() -> Mapping[str, Claim]:
    """Which package brings each name.

    Raises:
        ConfigError: two packages bring one name.
    """
    return claims("callbacks", [Claim(name, f"{__name__}:MONITORS", OWN) for name in MONITORS])


def make_callbacks(names: Sequence[str]) -> list[Callback]:
    """The callbacks that a configuration names.

    Raises:
        ConfigError: a name is neither known nor a file with a class Callback, or that file is not trusted.
    """
    return [_make(name) for name in names]


def _make(name: str) -> Callback:
    claim = callback_claims().get(name)
    if claim is None:
        return _from_file(Path(name))
    kind = MONITORS[name] if claim.package == OWN else claim.load()
    callback = kind()
    if not isinstance(callback, Callback):
        raise ConfigError(
            f"{name} is no callback",
            where=f"entry point {claim.value} of {claim.package}",
            why=f"it makes a {type(callback).__name__}, which does not derive from {__name__}.Callback",
            fix=f"mend {claim.package}, or leave {name} out of training.callbacks",
        )
    return callback


def _from_file(path: Path) -> Callback:
    why = "there is no such file"
    if path.is_file() and path.suffix == ".py":
        module = run_file(path, "training.callbacks", f"tendon_callback_{path.stem}")
        kind = getattr(module, "Callback", None)
        if isinstance(kind, type) and issubclass(kind, Callback) and kind is not Callback:
            return kind()
        why = "the file has no class Callback that derives from tendon.train.callbacks.Callback"
    raise ConfigError(
        f"{path} is no callback",
        where="training.callbacks",
        why=why,
        fix=f"use {' or '.join(callback_claims())}, or a Python file with a class Callback",
    )
