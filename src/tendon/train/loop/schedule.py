"""Learning rate schedules as pure functions of the step: nothing to save, nothing to restore.

Called by the engine before each update; multiplied with ``training.lr``. Names are LeRobot's (``lr_scheduler``,
``lr_warmup_steps``), InternManip's (``warmup_ratio``) and robomimic's (``epoch_schedule``, ``decay_factor``).
"""

from __future__ import annotations

import math

from tendon.config.schema import TrainingConfig


def learning_rate(training: TrainingConfig, step: int, steps_per_epoch: int = 1) -> float:
    """The rate of update ``step`` (0 is the first)."""
    if training.lr_scheduler in ("linear", "multistep") and training.epoch_schedule:
        return training.lr * _by_epoch(training, step, steps_per_epoch)
    return training.lr * factor(
        training.lr_scheduler,
        step,
        num_steps=training.num_steps,
        num_warmup_steps=num_warmup_steps(training),
        end_factor=training.lr_end_factor,
    )


def num_warmup_steps(training: TrainingConfig) -> int:
    """By steps, or by ratio of all steps, rounded up as transformers does."""
    return training.lr_warmup_steps or math.ceil(training.warmup_ratio * training.num_steps)


def factor(kind: str, step: int, *, num_steps: int, num_warmup_steps: int, end_factor: float) -> float:
    """The share of the base rate at ``step``: up a line during warm-up, then 1, a line, or half a cosine.

    Linear and cosine begin at 0, as diffusers' and transformers' do, end at ``end_factor`` after ``num_steps`` and stay
    there; constant begins one step up the line, as MineStudio's does.
    """
    if kind == "constant":
        return min(1.0, (step + 1) / max(1, num_warmup_steps))
    if step < num_warmup_steps:
        return step / num_warmup_steps
    done = min(1.0, (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps))
    if kind == "linear":
        return 1.0 + (end_factor - 1.0) * done
    assert kind == "cosine", kind
    return end_factor + (1.0 - end_factor) * 0.5 * (1.0 + math.cos(math.pi * done))


def _by_epoch(training: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """Robomimic's schedules: constant within an epoch; a warm-up, if there is one, is by step and comes on top."""
    epoch = step // steps_per_epoch
    num_warmup = num_warmup_steps(training)
    warmup = step / num_warmup if step < num_warmup else 1.0
    if training.lr_scheduler == "linear":
        done = min(1.0, epoch / training.epoch_schedule[0])
        return warmup * (1.0 + (training.lr_end_factor - 1.0) * done)
    passed = sum(epoch >= milestone for milestone in training.epoch_schedule)
    return warmup * training.decay_factor**passed
