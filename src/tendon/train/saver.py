"""Saving and resuming a trial: joins the engine's state (state.py) with the store's trees (checkpoint.py)."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tendon.config.compose import to_dict
from tendon.errors import ConfigError, Problem
from tendon.storage import open_store
from tendon.train import checkpoint
from tendon.train.engine import Engine
from tendon.train.feed import Batches
from tendon.train.state import read_training, write_model, write_training

logger = logging.getLogger(__name__)

# Changing these does not change the numbers that are being computed, so a trial may go on with other values.
FREE = ("eval.", "data.uri", "device", "training.save_", "training.keep_checkpoints", "training.num_threads")


@dataclass(frozen=True)
class Start:
    """Where an attempt begins: what earlier attempts have done."""

    step: int = 0
    num_metric_lines: int = 0
    train_s: float = 0.0


class Saver:
    """Commits the checkpoints of one trial."""

    def __init__(self, trial_uri: str, engine: Engine, batches: Batches, stats: str, yaml: str) -> None:
        """``stats``: the text of stats.json; ``yaml``: the effective configuration."""
        self.store, self.trial_uri = open_store(trial_uri), trial_uri
        self._engine, self._batches, self._stats, self._yaml = engine, batches, stats, yaml
        self._num_steps = engine.config.training.offline_steps

    def resume(self) -> Start:
        """Restore the newest whole checkpoint and say so; a fresh start when there is none.

        Raises:
            ConfigError: the trial was begun with another configuration.
        """
        with tempfile.TemporaryDirectory(prefix="tendon-resume-") as folder:
            if checkpoint.read_newest(self.store, Path(folder)) is None:
                return Start()
            loader, facts = read_training(Path(folder), self._engine)
        _check_config(facts["config"], to_dict(self._engine.config), self.trial_uri)
        self._batches.load_state(loader)
        ago = _ago(time.time() - facts["saved_at"])
        logger.info("train: resuming at step %d of %d, saved %s ago", facts["step"], self._num_steps, ago)
        return Start(facts["step"], facts["num_metric_lines"], facts["train_s"])

    def save(self, step: int, num_metric_lines: int, train_s: float) -> str:
        """Commit the state after ``step`` updates; its URI."""
        name = checkpoint.step_name(step, self._num_steps)
        facts = {
            "step": step,
            "saved_at": time.time(),
            "train_s": train_s,
            "num_metric_lines": num_metric_lines,
            "config": to_dict(self._engine.config),
        }

        def write(folder: Path) -> None:
            write_model(folder, self._engine, self._stats, self._yaml)
            write_training(folder, self._engine, self._batches.state, facts)

        logger.info("Checkpoint policy after step %d", step)
        checkpoint.commit(self.store, name, write, keep=self._engine.config.training.keep_checkpoints)
        return self.uri(step)

    def uri(self, step: int) -> str:
        """Where the checkpoint after ``step`` updates lives."""
        return checkpoint.checkpoint_uri(self.trial_uri, checkpoint.step_name(step, self._num_steps))


def _check_config(saved: dict[str, Any], now: dict[str, Any], trial_uri: str) -> None:
    before, after = _flat(saved), _flat(now)
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    problems = [
        Problem(
            f"{key} is {after.get(key)!r} but this trial was begun with {before.get(key)!r}",
            trial_uri,
            "a resumed run continues the very same numbers",
            f"{key}={before.get(key)}, or train into another trial folder",
        )
        for key in changed
        if not key.startswith(FREE)
    ]
    if problems:
        raise ConfigError.of(problems)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _ago(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
