"""Keys and windows of a policy, without torch: what it reads and predicts, in steps relative to now (0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Shape = int | tuple[int, ...]  # of one step of a feature: D, (C, L) of a scan, (C, H, W) of a camera

ACTION = "action"
GOAL = "goal."  # before a feature's name: its value in the last step of the episode, [B, 1, ...]
OBSERVATION, IMAGES = "observation.", "observation.images."


@dataclass(frozen=True)
class Window:
    """The time steps a policy reads and predicts, in steps relative to now (0)."""

    observation_keys: tuple[str, ...]
    action_key: str
    observation_deltas: tuple[int, ...]  # e.g. (-1, 0)
    action_deltas: tuple[int, ...]  # e.g. (0, 1, ..., 15)
    num_actions: int  # how many of the predicted actions are executed before the policy is asked again
    acting_deltas: tuple[int, ...] = ()  # steps read when acting where they differ from training's; empty: they do not
    carries: bool = False  # loss wants the memory of the batch before: each row of the batches walks through episodes

    def deltas(self) -> dict[str, tuple[int, ...]]:
        """Deltas per feature, as the loader wants them."""
        return {key: self.observation_deltas for key in self.observation_keys} | {self.action_key: self.action_deltas}

    @property
    def reading_deltas(self) -> tuple[int, ...]:
        """Steps that ``act`` reads: the newest is 0, and before an episode's start its first observation is repeated."""
        return self.acting_deltas or self.observation_deltas


def bare(key: str) -> str:
    """The name the simulator has for a feature."""
    return key.removeprefix(GOAL).removeprefix(IMAGES).removeprefix(OBSERVATION)


def in_order(keys: Sequence[str]) -> tuple[str, ...]:
    """Observations by bare name, then goals by bare name."""
    return tuple(sorted(keys, key=lambda key: (key.startswith(GOAL), bare(key))))
