"""The callbacks that ``training.callbacks`` names: the seeds' monitors, what installed packages bring, or trusted files.

Packages name theirs by entry points ``tendon.callbacks``; a Python file has a class ``Callback``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from tendon.errors import ConfigError
from tendon.plugins import OWN, Claim, claims
from tendon.train.watch.callbacks import Callback, RunContext
from tendon.train.watch.profiler import Profiler
from tendon.trust import run_file


class LearningRateMonitor(Callback):
    """``lr-Adam``, and ``lr-Adam/pg2`` for a second group: the rate of the line's update, under the name of Lightning's monitor."""

    def more_numbers(self, run: RunContext, step: int) -> Mapping[str, float]:
        """One number per parameter group."""
        optimizer = run.engine.optimizer
        name, groups = f"lr-{type(optimizer).__name__}", optimizer.param_groups
        many = len(groups) > 1
        return {f"{name}/pg{i + 1}" if many else name: group["lr"] for i, group in enumerate(groups)}


class SpeedMonitorCallback(Callback):
    """``speed(batch/s)``: updates per second since the last training line, waiting for data and validation included."""

    def __init__(self) -> None:
        self._step, self._since = 0, perf_counter()

    def on_start(self, run: RunContext, lines: Sequence[Mapping[str, Any]]) -> None:
        """Time begins."""
        self._step, self._since = -1, perf_counter()

    def more_numbers(self, run: RunContext, step: int) -> Mapping[str, float]:
        """The first line of an attempt has no interval behind it, hence no speed."""
        before, since = self._step, self._since
        self._step, self._since = step, perf_counter()
        return {} if before < 0 else {"speed(batch/s)": (step - before) / max(self._since - since, 1e-9)}


MONITORS: Mapping[str, Callable[[], Callback]] = {
    "LearningRateMonitor": LearningRateMonitor,
    "SpeedMonitorCallback": SpeedMonitorCallback,
    "Profiler": Profiler,
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
            why=f"it makes a {type(callback).__name__}, which does not derive from {Callback.__module__}.Callback",
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
        why = "the file has no class Callback that derives from tendon.train.watch.callbacks.Callback"
    raise ConfigError(
        f"{path} is no callback",
        where="training.callbacks",
        why=why,
        fix=f"use {' or '.join(callback_claims())}, or a Python file with a class Callback",
    )
