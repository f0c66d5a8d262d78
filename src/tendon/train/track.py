"""What a run tells: LeRobot's log lines, and metrics.jsonl in the trial's folder (one JSON object per line).

A line of metrics.jsonl has ``step`` and either ``train/...`` keys (LeRobot's names) or ``valid/...`` keys. The file is
written whole and atomically, at most every few seconds and before each checkpoint, and cut back when a run resumes.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from tendon.storage.store import Store

logger = logging.getLogger(__name__)
METRICS = "metrics.jsonl"
FLUSH_EVERY_S = 5.0


def big(number: float) -> str:
    """LeRobot's short numbers: 25650 is 26K."""
    for suffix in ("", "K", "M", "B", "T", "Q"):
        if abs(number) < 1000 or suffix == "Q":
            break
        number /= 1000
    return f"{number:.0f}{suffix}"


@dataclass(frozen=True)
class Volume:
    """How much data an epoch is: turns steps into samples, episodes and epochs."""

    num_frames: int
    num_episodes: int
    batch_size: int

    def counts(self, num_steps: int) -> dict[str, float]:
        """What ``num_steps`` updates have seen."""
        samples = num_steps * self.batch_size
        epochs = samples / self.num_frames
        return {"num_samples": samples, "num_episodes": epochs * self.num_episodes, "num_epochs": epochs}


def train_line(step: int, volume: Volume, numbers: dict[str, float]) -> str:
    """LeRobot's line of one training step; ``step`` counts from 0, the samples include it."""
    seen = volume.counts(step + 1)
    return (
        f"step:{big(step)} smpl:{big(seen['num_samples'])} ep:{big(seen['num_episodes'])} "
        f"epch:{seen['num_epochs']:.2f} loss:{numbers['loss']:.3f} grdn:{numbers['grad_norm']:.3f} "
        f"lr:{numbers['lr']:0.1e} updt_s:{numbers['update_s']:.3f} data_s:{numbers['dataloading_s']:.3f}"
    )


class Tracker:
    """Writes the log lines and metrics.jsonl of one trial."""

    def __init__(self, store: Store, volume: Volume, num_lines: int) -> None:
        """``num_lines``: how many lines of an earlier attempt stand; the rest belong to steps that are run again."""
        self._store, self._volume = store, volume
        self.lines = read_metrics(store)[:num_lines]
        self._flushed_at = time.monotonic()

    def train(self, step: int, numbers: dict[str, float]) -> None:
        """Log training step ``step``."""
        logger.info(train_line(step, self._volume, numbers))
        seen = self._volume.counts(step + 1)
        self._add({"step": step} | {f"train/{key}": value for key, value in (numbers | seen).items()})

    def valid(self, num_steps: int, numbers: dict[str, float]) -> None:
        """Log the validation after ``num_steps`` updates."""
        seen = self._volume.counts(num_steps)
        text = " ".join(f"{key}:{value:.4f}" for key, value in numbers.items())
        logger.info("valid step:%s epch:%.2f %s", big(num_steps), seen["num_epochs"], text)
        self._add({"step": num_steps} | {f"valid/{key}": value for key, value in numbers.items()})

    def flush(self) -> None:
        """Make the lines so far visible to others."""
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        self._store.write(METRICS, text.encode())
        self._flushed_at = time.monotonic()

    def _add(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_S:
            self.flush()


def read_metrics(store: Store) -> list[dict[str, Any]]:
    """Every line of metrics.jsonl; none when there is no such file yet."""
    if store.head(METRICS) is None:
        return []
    return [json.loads(line) for line in store.read(METRICS).decode().splitlines()]


def latest(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The newest value of every metric, as ``train_loss``, ``valid_loss``, and the lowest ``best_valid_loss``."""
    metrics: dict[str, float] = {}
    for line in lines:
        for key in ("train/loss", "valid/loss"):
            if key in line:
                metrics[key.replace("/", "_")] = line[key]
    valid = [line["valid/loss"] for line in lines if "valid/loss" in line]
    return metrics | ({"best_valid_loss": min(valid)} if valid else {})
