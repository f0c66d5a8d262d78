"""What is played in the online phase, and by whom: the loop is handed a function that plays, since simulators are no part of train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tendon.config.schema import TrainConfig
from tendon.policies.base import Policy


@dataclass(frozen=True)
class OnlineEpisode:
    """One episode of T steps: T actions and rewards, and T + 1 observations, by the keys and in the shapes of a batch.

    Nobody writes into its arrays: a checkpoint is written from them while training goes on.
    """

    number: int  # of all that this training began
    values: Mapping[str, np.ndarray]
    num_steps: int
    sum_reward: float
    success: bool

    @property
    def num_frames(self) -> int:
        """Steps with the observation after the last one; what a buffer's capacity counts."""
        return self.num_steps + 1

    @property
    def facts(self) -> dict[str, Any]:
        """All but the arrays, as JSON."""
        names = ("number", "num_steps", "sum_reward", "success")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class PlayedRollout:
    """What one rollout gave."""

    episodes: tuple[OnlineEpisode, ...]
    num_crashed: int
    seconds: float


Play = Callable[[Policy, int, int], PlayedRollout]  # the policy, the number of the first episode, how many
OpenPlay = Callable[[TrainConfig], AbstractContextManager[Play]]
