"""Batches for the loop: the loader's arrays as tensors on the device. The only file of train that knows the loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from tendon.config.schema import TrainConfig
from tendon.policies.base import Batch, Policy, Window
from tendon.train.ranks import World
from tendon.train.volume import Volume

Episode = Mapping[str, np.ndarray]  # feature to [T, D]


class Batches(Protocol):
    """What the loop asks of ``tendon.loader.loader.Loader``: batch k of an endless order, a function of the seed."""

    @property
    def num_windows(self) -> int: ...  # noqa: D102
    @property
    def num_episodes(self) -> int: ...  # noqa: D102
    @property
    def state(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state(self, state: Mapping[str, Any]) -> None: ...  # noqa: D102
    def batch(self, k: int) -> dict[str, np.ndarray]: ...  # noqa: D102
    def __next__(self) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Feeds:
    """The training split, and the validation split when the dataset has one."""

    train: Batches
    valid: Batches | None
    batch_size: int
    num_valid_batches: int
    episode_ids: Mapping[int, str]  # of the batches' episode_index
    episodes: Callable[[], list[Episode]] = list  # held-out ones, whole

    @property
    def volume(self) -> Volume:
        """How much an epoch is."""
        return Volume(self.train.num_windows, self.train.num_episodes, self.batch_size)

    def valid_batches(self, policy: Policy, device: torch.device) -> Iterator[Batch]:
        """The same few validation batches each time."""
        assert self.valid is not None
        for k in range(self.num_valid_batches):
            yield to_tensors(self.valid.batch(k), policy, device)


class OpenFeeds(Protocol):
    """How the loop opens its data; tests pass their own."""

    def __call__(self, dataset_uri: str, config: TrainConfig, window: Window) -> Feeds: ...  # noqa: D102


def open_feeds(dataset_uri: str, config: TrainConfig, window: Window) -> Feeds:
    """Loaders over a converted dataset, windows as the policy declares them; each validation batch is a full one."""
    from tendon.data.dataset import open_dataset
    from tendon.loader.loader import Loader

    dataset, data = open_dataset(dataset_uri), config.data
    batch_size, deltas = config.training.batch_size, window.deltas()
    train = Loader(dataset, data.split, deltas, batch_size, config.seed, skip_episodes=data.skip_episodes)
    ids = {row.index: row.episode_id for row in dataset.rows}
    held_out = dataset.episodes(data.valid_split) if data.valid_split in dataset.splits else ()
    num_frames = sum(row.length for row in held_out if row.episode_id not in data.skip_episodes)
    if not num_frames:
        return Feeds(train, None, batch_size, 0, ids)
    rows = [row for row in held_out if row.episode_id not in data.skip_episodes][: config.training.valid_episodes]
    size = min(batch_size, num_frames)
    valid = Loader(dataset, data.valid_split, deltas, size, config.seed, skip_episodes=data.skip_episodes)
    num_batches = min(config.training.valid_batches, num_frames // size)

    def episodes() -> list[Episode]:
        return [{key: dataset.lowdim(row)[key] for key in deltas} for row in rows]

    return Feeds(train, valid, batch_size, num_batches, ids, episodes)


@dataclass(frozen=True)
class Share:
    """What one process takes of every batch: equal parts by rank; one batch for ever when it is to be overfitted."""

    batches: Batches
    world: World
    same: bool = False

    def __next__(self) -> dict[str, np.ndarray]:
        arrays = next(self.batches)
        if self.same:
            arrays = self.batches.batch(0)
        if not self.world.is_many:
            return arrays
        size = len(arrays["episode_index"]) // self.world.size
        return {key: value[self.world.rank * size :][:size] for key, value in arrays.items()}


def to_tensors(arrays: Mapping[str, np.ndarray], policy: Policy, device: torch.device) -> Batch:
    """The features of the window and their padding masks; on the CPU the tensors share the arrays' memory."""
    window = policy.window
    keys = (*window.observation_keys, window.action_key)
    names = [name for key in keys for name in (key, f"{key}_is_pad") if name in arrays]
    names += ("episode_index", "frame_index") if policy.carries else ()
    tensors = {name: torch.from_numpy(arrays[name]) for name in names}
    if device.type == "cpu":
        return tensors
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
