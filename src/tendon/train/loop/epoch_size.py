"""How much data an epoch is: steps as samples, episodes and epochs. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochSize:
    """Of the training split, with the batch of one update."""

    num_frames: int
    num_episodes: int
    batch_size: int

    def counts(self, num_steps: int) -> dict[str, float]:
        """What ``num_steps`` updates have seen."""
        samples = num_steps * self.batch_size
        epochs = samples / self.num_frames
        return {"num_samples": samples, "num_episodes": epochs * self.num_episodes, "num_epochs": epochs}

    def steps_per_epoch(self, epoch_every_n_steps: int) -> int:
        """Steps that schedules and save rules call an epoch: as many as asked for, or the full batches of one pass."""
        return epoch_every_n_steps or max(1, self.num_frames // self.batch_size)
