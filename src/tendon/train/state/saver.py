"""Saving and resuming a trial: joins the engine's state (state.py) with the store's trees (checkpoint.py).

A save copies the state to host memory and returns; a thread writes and uploads it, the marker last. The next save, and
the end of the run, wait for it and report what went wrong with it.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tendon.config.compose import to_dict
from tendon.config.schema import DATA_MEANS
from tendon.errors import ConfigError, Problem
from tendon.storage import open_store
from tendon.train.loop.data_feeds import Batches
from tendon.train.loop.engine import Engine
from tendon.train.online.batches import OnlineBatches
from tendon.train.state import checkpoint
from tendon.train.state.checkpoint_rules import SaveRules
from tendon.train.state.snapshot import Snapshot, read_online, read_training, take_snapshot
from tendon.train.state.start import flat, go_on_from, start_from_weights

logger = logging.getLogger(__name__)

# Changing these does not change the numbers that are being computed (the number of processes and parts: but for
# rounding, and for chance inside of a loss), so a trial may go on with other values.
FREE = (
    *("eval.", "save.", "wandb.", "track.", "data.uri", "device", "training.save_", "training.keep_checkpoints"),
    *("training.num_threads", "training.num_gpus", "training.gradient_accumulation_steps", "training.sharding"),
    *("training.eval_freq", "training.callbacks", "training.rank_timeout_s"),
    *(f"data.{key}" for key in DATA_MEANS),
)


@dataclass(frozen=True)
class ResumePoint:
    """Where an attempt begins: what earlier attempts have done."""

    step: int = 0
    metric_lines: Sequence[Mapping[str, Any]] = ()  # what metrics.jsonl held then
    train_s: float = 0.0
    losses: Mapping[str, Any] = field(default_factory=dict)  # what the watch over losses remembers
    callbacks: Mapping[str, Any] = field(default_factory=dict)


class Saver:
    """Commits the checkpoints of one trial; of several processes the first one writes."""

    def __init__(
        self, trial_uri: str, engine: Engine, batches: Batches, rules: SaveRules, stats: str, yaml: str
    ) -> None:
        """``stats``: the text of stats.json; ``yaml``: the effective configuration."""
        self.store, self.trial_uri, self.rules = open_store(trial_uri), trial_uri, rules
        self._engine, self._batches, self._stats, self._yaml = engine, batches, stats, yaml
        self._num_steps = engine.config.training.num_steps
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def resume(self) -> ResumePoint:
        """Restore the newest whole checkpoint and say so; where there is none, begin as the configuration says.

        Raises:
            ConfigError: the trial was begun with another configuration, or what it is to begin from does not fit.
        """
        with tempfile.TemporaryDirectory(prefix="tendon-resume-") as folder:
            if not self._fetch_newest(Path(folder)):
                return self._begin(Path(folder))
            loader, facts = read_training(Path(folder), self._engine)
            _check_config(facts["config"], to_dict(self._engine.config), self.trial_uri)
            self._load_episodes(Path(folder), loader)
        self._batches.load_state(loader)
        self.rules.load(facts["save_rules"])
        ago = _ago(time.time() - facts["saved_at"])
        logger.info("train: resuming at step %d of %d, saved %s ago", facts["step"], self._num_steps, ago)
        if facts["num_processes"] != self._engine.world.size:
            logger.info("train: it had %d processes, now %d", facts["num_processes"], self._engine.world.size)
        return _point(facts)

    def _begin(self, folder: Path) -> ResumePoint:
        """The first attempt: from another run's step, from other weights, or from scratch."""
        config, world = self._engine.config, self._engine.world
        if config.policy.init_from:
            start_from_weights(self._engine, config.policy.init_from)
        if not config.training.resume_from:
            return ResumePoint()
        uri = world.from_first(checkpoint.named_step(config.training.resume_from) if world.is_first else None)
        checkpoint.fetch(open_store(uri), folder)
        loader, facts = go_on_from(folder, self._engine, uri)
        self._load_episodes(folder, loader)
        loader = loader if isinstance(self._batches, OnlineBatches) else loader.get("dataset", loader)
        try:
            self._batches.load_state(loader)
        except ConfigError as error:
            logger.info("train: the data begins anew: %s", error.problems[0].what)
        return _point(facts)

    def save(self, step: int, reasons: Mapping[str, float], start: ResumePoint) -> str:
        """Begin to commit the state after ``step`` updates; its URI. ``start``: where another attempt would begin."""
        self.wait()
        name = checkpoint.step_name(step, self._num_steps)
        self.rules.records[name] = dict(reasons)
        facts = {
            "step": step,
            "saved_at": time.time(),
            "train_s": start.train_s,
            "metric_lines": list(start.metric_lines),
            "num_processes": self._engine.world.size,
            "losses": dict(start.losses),
            "callbacks": dict(start.callbacks),
            "save_rules": self.rules.to_json(),
            "config": to_dict(self._engine.config),
        }
        played = self._batches.tensors if isinstance(self._batches, OnlineBatches) else {}
        snapshot = take_snapshot(self._engine, self._stats, self._yaml, self._batches.state, facts, played)
        logger.info("Checkpoint policy after step %d", step)
        if self._engine.world.is_first:
            self._pending = self._thread.submit(self._commit, name, snapshot)
        return self.uri(step)

    def wait(self) -> None:
        """Until what was saved is committed.

        Raises:
            StorageError: it could not be.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Let the thread end what it does; its error, if there is one, was or will be raised by ``wait``."""
        self._thread.shutdown()

    def uri(self, step: int) -> str:
        """Where the checkpoint after ``step`` updates lives."""
        return checkpoint.checkpoint_uri(self.trial_uri, checkpoint.step_name(step, self._num_steps))

    def _commit(self, name: str, snapshot: Snapshot) -> None:
        checkpoint.commit(self.store, name, snapshot.write, self._kept)

    def _kept(self, names: list[str]) -> set[str]:
        """What stays; what the rules remember of the others is forgotten."""
        kept = self.rules.kept(names)
        self.rules.records = {name: score for name, score in self.rules.records.items() if name in kept}
        return kept

    def _load_episodes(self, folder: Path, loader: Mapping[str, Any]) -> None:
        """What the buffer of an online phase held."""
        if isinstance(self._batches, OnlineBatches):
            self._batches.load_episodes(loader, read_online(folder))

    def _fetch_newest(self, folder: Path) -> bool:
        """The same checkpoint for every process: the first one chooses."""
        world = self._engine.world
        name = world.from_first(checkpoint.read_newest(self.store, folder) if world.is_first else None)
        if name is not None and not world.is_first:
            checkpoint.fetch(self.store.at(f"{checkpoint.FOLDER}/{name}"), folder)
        return name is not None


def _point(facts: Mapping[str, Any]) -> ResumePoint:
    """Where the run was that wrote these facts."""
    done = (facts["step"], facts["metric_lines"], facts["train_s"], facts["losses"])
    return ResumePoint(*done, facts.get("callbacks", {}))


def _check_config(saved: dict[str, Any], now: dict[str, Any], trial_uri: str) -> None:
    before, after = flat(saved), flat(now)
    changed = [
        key for key in sorted(before) if before[key] != after.get(key)
    ]  # a key that came later is at its default
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


def _ago(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
