"""What a run tells: LeRobot's log lines, and metrics.jsonl in the trial's folder (one JSON object per line).

A line of metrics.jsonl has ``step`` and ``train/...``, ``valid/...`` or ``eval/...`` keys (LeRobot's names). The file is
written whole and atomically, at most every few seconds and before each checkpoint, and cut back when a run resumes.
Trackers (W&B, TensorBoard, Katib) are callbacks that hear each line.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tendon.storage.json_values import read_lines
from tendon.storage.store import Store
from tendon.train.loop.epoch_size import EpochSize
from tendon.train.online.episodes import PlayedRollout
from tendon.train.online.replay_buffer import ReplayBuffer
from tendon.train.watch.callbacks import Callback, RunContext

logger = logging.getLogger(__name__)
METRICS = "metrics.jsonl"
FLUSH_EVERY_S = 5.0
SUM = "\N{N-ARY SUMMATION}"


def short_number(number: float) -> str:
    """LeRobot's short numbers: 25650 is 26K."""
    for suffix in ("", "K", "M", "B", "T", "Q"):
        if abs(number) < 1000 or suffix == "Q":
            break
        number /= 1000
    return f"{number:.0f}{suffix}"


def train_line(step: int, epoch_size: EpochSize, numbers: Mapping[str, float]) -> str:
    """LeRobot's line of one training step; ``step`` counts from 0, the samples include it."""
    return (
        f"{_seen(step, epoch_size)} loss:{numbers['loss']:.3f} grdn:{numbers['grad_norm']:.3f} "
        f"lr:{numbers['lr']:0.1e} updt_s:{numbers['update_s']:.3f} data_s:{numbers['dataloading_s']:.3f}"
    )


def eval_line(num_steps: int, epoch_size: EpochSize, numbers: Mapping[str, float]) -> str:
    """LeRobot's line of an evaluation after ``num_steps`` updates; it counts one batch too many, as LeRobot does."""
    return (
        f"{_seen(num_steps, epoch_size)} {SUM}rwrd:{numbers['avg_sum_reward']:.3f} "
        f"success:{numbers['pc_success']:.1f}% eval_s:{numbers['eval_s']:.3f}"
    )


def _seen(step: int, epoch_size: EpochSize) -> str:
    seen = epoch_size.counts(step + 1)
    samples, episodes = short_number(seen["num_samples"]), short_number(seen["num_episodes"])
    return f"step:{short_number(step)} smpl:{samples} ep:{episodes} epch:{seen['num_epochs']:.2f}"


class MetricsLog:
    """Writes the log lines and metrics.jsonl of one trial; every process keeps the lines, the first one writes."""

    def __init__(self, run: RunContext, lines: Sequence[Mapping[str, Any]], callbacks: Sequence[Callback]) -> None:
        """``lines`` of an earlier attempt, as its checkpoint has them; later ones belong to steps that are run again."""
        self._run, self._store, self._epoch_size, self._callbacks = run, run.store, run.epoch_size, callbacks
        self.lines = [dict(line) for line in lines]
        self._flushed_at = time.monotonic()

    def train(self, step: int, numbers: dict[str, float], size: EpochSize | None = None) -> None:
        """Log training step ``step``; ``size``: of what an epoch of it is, where that is not the dataset."""
        size = size or self._epoch_size
        logger.info(train_line(step, size, numbers))
        for callback in self._callbacks:
            numbers |= callback.more_numbers(self._run, step)
        self._add(step, "train", numbers | size.counts(step + 1))

    def played(self, step: int, rollout: PlayedRollout, buffer: ReplayBuffer) -> None:
        """Log what was played before update ``step`` of the online phase, and what the buffer holds now."""
        episodes = rollout.episodes
        if not episodes:
            return
        sums, wins = [one.sum_reward for one in episodes], [one.success for one in episodes]
        numbers = {
            "avg_sum_reward": sum(sums) / len(sums),
            "pc_success": 100.0 * sum(wins) / len(wins),
            "num_episodes": float(len(episodes)),
            "buffer_episodes": float(len(buffer.episodes)),
            "buffer_frames": float(buffer.num_frames),
        }
        logger.info(
            "online step:%s played:%d %srwrd:%.3f success:%.1f%% buffer: %d episodes, %d of %d frames",
            short_number(step),
            len(episodes),
            SUM,
            numbers["avg_sum_reward"],
            numbers["pc_success"],
            len(buffer.episodes),
            buffer.num_frames,
            buffer.capacity,
        )
        self._add(step, "online", numbers)

    def valid(self, num_steps: int, numbers: dict[str, float]) -> None:
        """Log the validation after ``num_steps`` updates."""
        seen = self._epoch_size.counts(num_steps)
        text = " ".join(f"{key}:{value:.4f}" for key, value in numbers.items())
        logger.info("valid step:%s epch:%.2f %s", short_number(num_steps), seen["num_epochs"], text)
        self._add(num_steps, "valid", numbers)

    def rollouts(self, num_steps: int, numbers: dict[str, float]) -> None:
        """Log the rollouts after ``num_steps`` updates."""
        logger.info(eval_line(num_steps, self._epoch_size, numbers))
        self._add(num_steps, "eval", numbers)

    def flush(self) -> None:
        """Make the lines so far visible to others."""
        if self._run.engine.world.is_first:
            text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in self.lines)
            self._store.write(METRICS, text.encode())
        self._flushed_at = time.monotonic()

    def _add(self, step: int, group: str, numbers: Mapping[str, float]) -> None:
        """JSON has no NaN: what is not finite is left out and named."""
        bad = sorted(f"{group}/{key}" for key, value in numbers.items() if not math.isfinite(value))
        finite = {f"{group}/{key}": value for key, value in numbers.items() if math.isfinite(value)}
        if bad:
            logger.warning("train: %s at step %d: NaN or infinite", ", ".join(bad), step)
        line = {"step": step} | finite | ({"not_finite": bad} if bad else {})
        self.lines.append(line)
        for callback in self._callbacks:
            callback.on_line(self._run, len(self.lines) - 1, line)
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_S:
            self.flush()


def read_metrics(store: Store) -> list[dict[str, Any]]:
    """Every line of metrics.jsonl; none when there is no such file yet."""
    return read_lines(store, METRICS)


def latest(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The newest value of every metric, as ``train_loss``, ``valid_loss``, and the lowest ``best_valid_loss``."""
    metrics: dict[str, float] = {}
    for line in lines:
        for key in ("train/loss", "valid/loss", "valid/action_mse", "eval/pc_success", "eval/avg_sum_reward"):
            if key in line:
                metrics[key.replace("/", "_")] = line[key]
    valid = [line["valid/loss"] for line in lines if "valid/loss" in line]
    return metrics | ({"best_valid_loss": min(valid)} if valid else {})
