"""Learning rate schedules as pure functions of the step: nothing to save, nothing to restore.

Called by the loop before each update; multiplied with ``training.lr``.
"""

from __future__ import annotations

import math

from tendon.config.schema import TrainingConfig


def learning_rate(training: TrainingConfig, step: int) -> float:
    """The rate of update ``step`` (0 is the first)."""
    scale = factor(
        training.lr_scheduler,
        step,
        num_steps=training.offline_steps,
        num_warmup_steps=training.lr_warmup_steps,
        end_factor=training.lr_end_factor,
    )
    return training.lr * scale


def factor(kind: str, step: int, *, num_steps: int, num_warmup_steps: int, end_factor: float) -> float:
    """The share of the base rate at ``step``: up a line from 0 during warm-up, then 1, a line, or half a cosine.

    Linear and cosine end at ``end_factor`` after ``num_steps`` and stay there.
    """
    if step < num_warmup_steps:
        return step / num_warmup_steps
    if kind == "constant":
        return 1.0
    done = min(1.0, (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps))
    if kind == "linear":
        return 1.0 + (end_factor - 1.0) * done
    assert kind == "cosine", kind
    return end_factor + (1.0 - end_factor) * 0.5 * (1.0 + math.cos(math.pi * done))
