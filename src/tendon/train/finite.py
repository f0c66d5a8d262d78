"""A loss that is no number is found without waiting for the device at every step: losses are looked at together.

Called by the loop at log steps and before each checkpoint, so that no checkpoint ever holds a weight that is NaN.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tendon.errors import DataError
from tendon.train.engine import Engine
from tendon.train.feed import Feeds

MAX_NAMES = 10


class FiniteWatch:
    """Keeps the losses since the last check."""

    def __init__(self, first_step: int) -> None:
        self._first, self._losses = first_step, list[Tensor]()

    def add(self, loss: Tensor) -> None:
        """Remember the (detached) loss of the next step."""
        self._losses.append(loss)

    def check(self, engine: Engine, feeds: Feeds) -> None:
        """Stop the run at the first step whose loss, or whose update, is not finite.

        Raises:
            DataError: names the step, and the values or the episodes of its batch.
        """
        if not self._losses:
            return
        bad = (~torch.stack(self._losses).isfinite()).nonzero().flatten().tolist()
        last = self._first + len(self._losses) - 1
        if bad:
            raise _not_finite("the loss", self._first + bad[0], feeds)
        if not engine.weights_are_finite():
            raise _not_finite("a weight", last, feeds)
        self._first, self._losses = last + 1, []


def _not_finite(what: str, step: int, feeds: Feeds) -> DataError:
    batch = feeds.train.batch(step)
    episodes = [_name(feeds, index) for index in np.unique(batch["episode_index"])]
    names = ", ".join(episodes[:MAX_NAMES]) + (" ..." if len(episodes) > MAX_NAMES else "")
    for key, values in batch.items():
        bad_rows = np.argwhere(~np.isfinite(values))[:, 0]
        if len(bad_rows):
            episode = _name(feeds, batch["episode_index"][bad_rows[0]])
            why = f"{key} is NaN or infinite in episode {episode}, frame {batch['frame_index'][bad_rows[0]]}"
            fix = f"repair that episode, or leave it out: data.skip_episodes=[{episode}]"
            break
    else:
        why = "every value of the batch is finite, so training diverged"
        fix = "train again with a lower training.lr or with training.grad_clip_norm=1.0"
    return DataError(f"{what} became NaN or infinite", where=f"step {step}, episodes {names}", why=why, fix=fix)


def _name(feeds: Feeds, index: int) -> str:
    return feeds.episode_ids.get(int(index), str(index))
