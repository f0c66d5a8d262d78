"""Batches of both phases behind the loader's face: the dataset's alone, then rows of the dataset beside rows of the buffer.

Which rows of the buffer update k takes is a function of seed, k and the episodes that the buffer held then. The rows of
the dataset are the next ones of its stream, so many that none is left out or taken twice: what of a batch of the loader
is not needed yet waits for the next update. Of several processes each takes its share of both kinds of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tendon.config.schema import TrainConfig
from tendon.errors import ConfigError
from tendon.loader.windows import Windows
from tendon.train.distributed.ranks import ALONE, World
from tendon.train.loop.data_feeds import Batches, stored_windows
from tendon.train.online.episodes import OnlineEpisode
from tendon.train.online.replay_buffer import (
    Arrays,
    ReplayBuffer,
    drawn_rows,
    episodes_of,
    num_windows,
    tensors_of,
)

DRAWS = 1 << 32  # beside every seed: the loop draws other numbers from seed and step
KEPT_ROUNDS = 1000  # of each, two numbers: which episodes the buffer held


class OnlineBatches:
    """The loader of a training with an online phase."""

    def __init__(self, offline: Batches, config: TrainConfig, windows: Windows, world: World = ALONE) -> None:
        training = config.training
        assert training.online_buffer_capacity is not None
        assert training.online_steps_between_rollouts is not None
        self._offline, self._seed, self._world = offline, config.seed, world
        self._windows, self._num_offline = stored_windows(windows), training.offline_steps
        self._every = training.online_steps_between_rollouts
        given = config.data.drop_last
        self.drop_last = windows.drop_last if given is None else given
        self._batch_size, self._num_drawn = training.batch_size, training.num_online_rows
        self._step, self._left = 0, Arrays()
        self.buffer = ReplayBuffer(training.online_buffer_capacity)
        self.pending: tuple[OnlineEpisode, ...] | None = None  # played, and not in the buffer yet
        self._spans: dict[int, tuple[int, int]] = {}  # of the buffer, in each round of updates

    # ------------------------------------------------------------------------------------------------- the loader's face

    @property
    def num_windows(self) -> int:
        """Of the dataset."""
        return self._offline.num_windows

    @property
    def num_episodes(self) -> int:
        """Of the dataset."""
        return self._offline.num_episodes

    @property
    def texts(self) -> tuple[str, ...]:
        """Of the dataset."""
        return self._offline.texts

    @property
    def metrics(self) -> dict[str, float]:
        """Of the dataset's loader."""
        return self._offline.metrics

    def close(self) -> None:
        """Stop the dataset's loader."""
        self._offline.close()

    def __next__(self) -> Arrays:
        step, self._step = self._step, self._step + 1
        if step < self._num_offline:
            return next(self._offline)
        self._spans.setdefault(self.round_of(step), self.buffer.span)
        return _joined(self._dataset_rows(), self._drawn(step, list(self.buffer.episodes)))

    def batch(self, k: int) -> Arrays:
        """The batch of update k once more; rows of episodes that left the buffer since are not in it."""
        if k < self._num_offline:
            return self._offline.batch(k)
        span = self._spans.get(self.round_of(k), self.buffer.span)
        return _joined(self._dataset_rows_of(k), self._drawn(k, self.buffer.between(*span)))

    # ------------------------------------------------------------------------------------------------------------ rounds

    def start_at(self, step: int) -> None:
        """The update that comes next, after ``load_state``."""
        self._step, self._left = step, Arrays()
        online = step - self._num_offline
        if online <= 0:
            return
        taken, share = online * self._rows_of_dataset, self._batch_size // self._world.size
        if taken % share:  # the loader has given the whole batch, of which the rest was still to come
            batch = self._offline.batch(self._num_offline + taken // share)
            self._left = {key: array[taken % share :] for key, array in batch.items()}

    def round_of(self, step: int) -> int:
        """Number of the rollout that comes before this update."""
        return (step - self._num_offline) // self._every

    def begin_round(self, step: int) -> None:
        """The buffer's contents are those of the updates from ``step`` on."""
        now = self.round_of(step)
        self._spans = {number: span for number, span in self._spans.items() if number >= now - KEPT_ROUNDS}
        self._spans[now] = self.buffer.span

    @property
    def num_windows_online(self) -> int:
        """Windows that can be drawn from the buffer."""
        return num_windows(self.buffer.episodes, self.drop_last)

    # ------------------------------------------------------------------------------------------------------------- state

    @property
    def state(self) -> dict[str, Any]:
        """JSON; the arrays are in ``tensors``."""
        facts = {
            "buffer": [episode.facts for episode in self.buffer.episodes],
            "pending": None if self.pending is None else [episode.facts for episode in self.pending],
        }
        return {"dataset": self._offline.state, "online": facts}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every array of every episode, by its number; not copied, since none ever changes."""
        return tensors_of([*self.buffer.episodes, *(self.pending or ())])

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The dataset's position; the buffer comes with ``load_episodes``. One of a training without an online phase will do."""
        self._offline.load_state(state.get("dataset", state))

    def load_episodes(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """What the buffer held.

        Raises:
            ConfigError: its episodes lack a feature that this policy reads.
        """
        online = state.get("online")
        if not online:
            return
        lacking = {
            key
            for key in self._windows.training
            if any(f"{one['number']}/{key}" not in tensors for one in online["buffer"])
        }
        if lacking:
            raise ConfigError(
                "the online episodes of that checkpoint are of another policy or environment",
                where="training_state/online_buffer.safetensors",
                why=f"they have no {', '.join(sorted(lacking))}",
                fix="go on with the observations that it was begun with",
            )
        self.buffer.add(episodes_of(online["buffer"], tensors))
        pending = online["pending"]
        self.pending = None if pending is None else tuple(episodes_of(pending, tensors))

    # -------------------------------------------------------------------------------------------------------------- rows

    @property
    def _rows_of_dataset(self) -> int:
        """Rows of each batch that this process takes from the dataset."""
        return (self._batch_size - self._num_drawn) // self._world.size

    def _dataset_rows(self) -> Arrays:
        """The next rows of the stream, from what is left of the loader's batch and from its next ones."""
        parts, needed = [], self._rows_of_dataset
        while needed:
            if not _length(self._left):
                self._left = dict(next(self._offline))
            count = min(needed, _length(self._left))
            parts.append({key: array[:count] for key, array in self._left.items()})
            self._left = {key: array[count:] for key, array in self._left.items()}
            needed -= count
        return _stacked(parts)

    def _dataset_rows_of(self, k: int) -> Arrays:
        """The same rows for update k, whatever came before."""
        parts, needed = [], self._rows_of_dataset
        share, at = self._batch_size // self._world.size, (k - self._num_offline) * self._rows_of_dataset
        while needed:
            number, start = divmod(at, share)
            count = min(needed, share - start)
            batch = self._offline.batch(self._num_offline + number)
            parts.append({key: array[start : start + count] for key, array in batch.items()})
            at, needed = at + count, needed - count
        return _stacked(parts)

    def _drawn(self, k: int, episodes: list[OnlineEpisode]) -> Arrays:
        """This process's share of the rows that update k draws."""
        if not num_windows(episodes, self.drop_last):
            return {}
        generator = np.random.Generator(np.random.Philox(key=[self._seed + DRAWS, k]))
        draws_B = generator.random(self._num_drawn)[self._world.rank :: self._world.size]
        return drawn_rows(episodes, draws_B, self._windows, self.drop_last)


def _length(arrays: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(arrays.values()), ()))


def _stacked(parts: list[Arrays]) -> Arrays:
    if len(parts) < 2:
        return parts[0] if parts else {}
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _joined(dataset: Arrays, drawn: Arrays) -> Arrays:
    """Rows of the dataset, then drawn ones, of what both have.

    Raises:
        ConfigError: a feature has another shape in the dataset than the simulator gives it.
    """
    if not dataset or not drawn:
        return dataset or drawn
    for key in drawn:
        if key in dataset and dataset[key].shape[1:] != drawn[key].shape[1:]:
            raise ConfigError(
                f"{key} has another shape in the simulator than in the dataset",
                where="the online phase",
                why=f"{list(drawn[key].shape[2:])} there, {list(dataset[key].shape[2:])} here, and one batch holds both",
                fix="choose the env of the demonstrations (env.cameras says the size of a picture), or online_sampling_ratio=1.0",
            )
    return {
        key: np.concatenate([dataset[key], drawn[key].astype(dataset[key].dtype)]) for key in drawn if key in dataset
    }
