"""A loss that is no number is found without waiting for the device at every step: losses are looked at together.

Called by the loop at log steps and before each checkpoint, so that no checkpoint ever holds a weight that is NaN.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tendon.errors import DataError
from tendon.train.engine import Engine
from tendon.train.feed import Batches


class FiniteWatch:
    """Keeps the losses since the last check."""

    def __init__(self, first_step: int) -> None:
        self._first, self._losses = first_step, list[Tensor]()

    def add(self, loss: Tensor) -> None:
        """Remember the (detached) loss of the next step."""
        self._losses.append(loss)

    def check(self, engine: Engine, batches: Batches) -> None:
        """Stop the run at the first step whose loss, or whose update, is not finite.

        Raises:
            DataError: names the step, and the values or the episodes of its batch.
        """
        if not self._losses:
            return
        bad = (~torch.stack(self._losses).isfinite()).nonzero().flatten().tolist()
        last = self._first + len(self._losses) - 1
        if bad:
            raise _not_finite("the loss", self._first + bad[0], batches)
        if not engine.weights_are_finite():
            raise _not_finite("a weight", last, batches)
        self._first, self._losses = last + 1, []


def _not_finite(what: str, step: int, batches: Batches) -> DataError:
    batch = batches.batch(step)
    episodes = sorted({int(index) for index in np.ravel(batch.get("episode_index", []))})
    broken = [found for name, values in batch.items() if (found := _first_broken(name, values, batch))]
    if broken:
        why, fix = broken[0], "repair that episode, or leave it out: data.skip_episodes=[<its id>]"
    else:
        why = "every value of the batch is finite: training diverged"
        fix = "a lower training.lr, or training.grad_clip_norm=1.0; then train again"
    names = ", ".join(map(str, episodes[:10])) + (f" and {len(episodes) - 10} more" if len(episodes) > 10 else "")
    return DataError(
        f"{what} is not a number after step {step}", where=f"step {step}, episodes {names}", why=why, fix=fix
    )


def _first_broken(name: str, values: np.ndarray, batch: dict[str, np.ndarray]) -> str:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return ""
    row = int(np.argwhere(~np.isfinite(values))[0][0])
    place = [f"{key.removesuffix('_index')} {int(np.ravel(batch[key])[row])}" for key in _PLACE if key in batch]
    return f"{name} holds NaN or Inf at {', '.join(place) or f'row {row}'}"


_PLACE = ("episode_index", "frame_index")
