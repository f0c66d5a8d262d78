"""Losses that are no numbers, or jump, are found without waiting for the device at every step: they are read together.

Called by the loop at log steps and before each checkpoint, so that no checkpoint ever holds a weight that is NaN.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tendon.errors import DataError
from tendon.storage.store import Store
from tendon.train.loop.data_feeds import DataFeeds
from tendon.train.loop.engine import Engine

logger = logging.getLogger(__name__)
MAX_NAMES = 10
SPIKE_DEVIATIONS = 10.0  # a loss so many deviations above the running mean, and twice the mean, is a spike
MEMORY = 0.98  # of the running mean: about the last 50 losses
WARM_UP = 50  # losses before the first can be called a spike


class LossMonitor:
    """Keeps the losses since the last check, and the running mean of those before."""

    def __init__(
        self, engine: Engine, feeds: DataFeeds, store: Store, first_step: int, state: Mapping[str, Any]
    ) -> None:
        """``state``: of an earlier attempt."""
        self._engine, self._feeds, self._store = engine, feeds, store
        self._first, self._losses = first_step, list[Tensor]()
        self._seen, self._mean, self._variance = (
            state.get("seen", 0),
            state.get("mean", 0.0),
            state.get("variance", 0.0),
        )
        self.num_spikes = state.get("num_spikes", 0)

    def add(self, loss: Tensor) -> None:
        """Remember the (detached) loss of the next step."""
        self._losses.append(loss)

    def check(self) -> None:
        """Report spikes; stop the run at the first step whose loss, or whose update, is not finite.

        Raises:
            DataError: names the step, the values or the episodes of its batch, and where the batch is kept.
        """
        if not self._losses:
            return
        losses = self._engine.world.mean(torch.stack(self._losses).float()).tolist()
        skips = self._engine.config.training.nonfinite == "skip" or self._engine.scaler.is_enabled()
        for step, loss in enumerate(losses, self._first):
            if math.isfinite(loss):
                self._follow(step, loss)
            elif not skips:
                raise self._not_finite("the loss", step)
        last = self._first + len(losses) - 1
        if not self._engine.weights_are_finite():
            raise self._not_finite("a weight", last)
        self._first, self._losses = last + 1, []

    def numbers(self) -> dict[str, float]:
        """For the training line: how often something was out of order, if it ever was or may be."""
        spikes = {"loss_spikes": float(self.num_spikes)} if self.num_spikes else {}
        skips = self._engine.config.training.nonfinite == "skip"
        return spikes | ({"skipped_updates": self._engine.num_skipped.item()} if skips else {})

    def state(self) -> dict[str, Any]:
        """What the next attempt must know to report the same."""
        names = ("seen", "mean", "variance", "num_spikes")
        return dict(zip(names, (self._seen, self._mean, self._variance, self.num_spikes), strict=True))

    def _follow(self, step: int, loss: float) -> None:
        above = loss - self._mean
        if self._seen >= WARM_UP and above > max(SPIKE_DEVIATIONS * math.sqrt(self._variance), abs(self._mean)):
            self.num_spikes += 1
            episodes = self._names(self._batch(step))
            logger.warning(
                "train: loss spike at step %d: %.4g, mean %.4g; episodes %s", step, loss, self._mean, episodes
            )
            return
        self._seen += 1
        share = max(1 - MEMORY, 1 / self._seen)
        self._mean += share * above
        self._variance = (1 - share) * (self._variance + share * above * above)

    def _not_finite(self, what: str, step: int) -> DataError:
        """Every process looks at its share; the one that finds something is heard."""
        batch, world = self._batch(step), self._engine.world
        own = {"bad": self._bad_value(batch), "kept": self._keep(batch, step), "names": self._names(batch)}
        told = world.from_first(world.to_first(own))
        found = next((share for share in told if share["bad"]), told[0])
        if found["bad"]:
            why, episode = found["bad"]
            fix = f"repair that episode, or leave it out: data.skip_episodes=[{episode}]"
        else:
            why = "every value of the batch is finite, so training diverged"
            fix = "train again with a lower training.lr or with training.grad_clip_norm=1.0, or training.nonfinite=skip"
        where = f"step {step}, episodes {found['names']}; the batch is kept in {found['kept']}"
        return DataError(f"{what} became NaN or infinite", where=where, why=why, fix=fix)

    def _bad_value(self, batch: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
        """The first value that is no number, in words, and its episode."""
        for key, values in batch.items():
            bad_rows = np.argwhere(~np.isfinite(values))[:, 0]
            if len(bad_rows):
                episode = self._name(batch["episode_index"][bad_rows[0]])
                frame = batch["frame_index"][bad_rows[0]]
                return f"{key} is NaN or infinite in episode {episode}, frame {frame}", episode
        return None

    def _keep(self, batch: Mapping[str, np.ndarray], step: int) -> str:
        """This process's share of the batch as an .npz file in the trial's folder."""
        world, file = self._engine.world, io.BytesIO()
        key = f"failures/batch-{step:06d}{f'-process-{world.rank}' if world.is_many else ''}.npz"
        np.savez(file, allow_pickle=False, **batch)
        self._store.write(key, file.getvalue())
        return key

    def _batch(self, step: int) -> dict[str, np.ndarray]:
        return self._feeds.train.batch(0 if self._engine.config.training.overfit_batch else step)

    def _names(self, batch: Mapping[str, np.ndarray]) -> str:
        episodes = [self._name(index) for index in np.unique(batch["episode_index"])]
        return ", ".join(episodes[:MAX_NAMES]) + (" ..." if len(episodes) > MAX_NAMES else "")

    def _name(self, index: int) -> str:
        return self._feeds.episode_ids.get(int(index), f"online {-1 - index}" if index < 0 else str(index))
