"""Batches for the loop: the loader's arrays as tensors on the device. The only file of train that knows the loader.

Each process loads its share of every batch and of nothing else. Goals are the last step of the episode (robomimic's
``goal_mode: last``): the loader is asked for a step far behind every end, which it repeats the last one for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tendon.config.feature_map import FeatureMap
from tendon.config.schema import DataConfig, TrainConfig
from tendon.data.stats import FeatureStats
from tendon.policies.base import AUGMENT_NOISE, GOAL, Batch, Policy, Shape, Window
from tendon.train.ranks import ALONE, World
from tendon.train.volume import Volume

Episode = Mapping[str, np.ndarray]  # feature to [T, D], camera to uint8 [T, H, W, C]
LAST = 1 << 30  # a delta behind the end of every episode
GIB = 1 << 30
VALID_MEMORY = 0.25  # of the memory for data, when there is a validation split


class Batches(Protocol):
    """What the loop asks of ``tendon.loader.loader.Loader``: this process's share of batch k, a function of the seed."""

    @property
    def num_windows(self) -> int: ...  # noqa: D102
    @property
    def num_episodes(self) -> int: ...  # noqa: D102
    @property
    def state(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def metrics(self) -> dict[str, float]: ...  # noqa: D102
    def load_state(self, state: Mapping[str, Any]) -> None: ...  # noqa: D102
    def batch(self, k: int) -> dict[str, np.ndarray]: ...  # noqa: D102
    def __next__(self) -> dict[str, np.ndarray]: ...
    def close(self) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Feeds:
    """The training split, and the validation split when the dataset has one."""

    train: Batches
    valid: Batches | None
    batch_size: int  # of all processes together
    num_valid_batches: int
    episode_ids: Mapping[int, str]  # of the batches' episode_index
    episodes: Callable[[], list[Episode]] = list  # held-out ones, whole
    world: World = ALONE

    @property
    def volume(self) -> Volume:
        """How much an epoch is."""
        return Volume(self.train.num_windows, self.train.num_episodes, self.batch_size)

    def next(self, config: TrainConfig) -> dict[str, np.ndarray]:
        """This process's share of the next batch; of the first one for ever when it is to be overfitted."""
        arrays = next(self.train)
        return self.train.batch(0) if config.training.overfit_batch else arrays

    def train_batch(
        self, arrays: Mapping[str, np.ndarray], step: int, policy: Policy, seed: int, device: torch.device
    ) -> Batch:
        """The tensors of update ``step``, with the numbers that its windows are changed by at random.

        These are a function of seed, step and place in the batch: how many processes there are changes none of them.
        """
        batch = to_tensors(arrays, policy.window, device)
        if policy.num_draws:
            generator = np.random.Generator(np.random.Philox(key=[seed, step]))
            drawn_BN = generator.random((self.batch_size, policy.num_draws), np.float32)
            rank, size = self.world.rank, self.world.size
            own_B = (
                np.split(np.arange(self.batch_size), size)[rank] if policy.window.carries else slice(rank, None, size)
            )
            batch[AUGMENT_NOISE] = _placed(drawn_BN[own_B], device)
        return batch

    def valid_batches(self, policy: Policy, device: torch.device) -> Iterator[Batch]:
        """This process's share of the same few validation batches each time."""
        assert self.valid is not None
        for k in range(self.num_valid_batches):
            yield to_tensors(self.valid.batch(k), policy.window, device)

    def close(self) -> None:
        """Stop whoever loads."""
        self.train.close()
        if self.valid is not None:
            self.valid.close()


class OpenFeeds(Protocol):
    """How the loop opens its data; tests pass their own."""

    def __call__(self, dataset_uri: str, config: TrainConfig, window: Window, world: World) -> Feeds: ...  # noqa: D102


def open_feeds(dataset_uri: str, config: TrainConfig, window: Window, world: World = ALONE) -> Feeds:
    """Loaders over a converted dataset, windows as the policy declares them; each validation batch is a full one."""
    from tendon.data.dataset import open_dataset
    from tendon.loader.choice import SHUFFLED, LoaderResources, SamplingOrder
    from tendon.loader.loader import Loader
    from tendon.loader.windows import Windows

    dataset, data, training = open_dataset(dataset_uri), config.data, config.training
    deltas, skipped = loader_deltas(window), data.skip_episodes
    held_out = dataset.episodes(data.valid_split) if data.valid_split in dataset.splits else ()
    rows = [row for row in held_out if row.episode_id not in skipped]
    num_frames = sum(row.length for row in rows)

    def load(split: str, batch_size: int, resources: LoaderResources, *, walks: bool = False) -> Loader:
        return Loader(
            dataset,
            split,
            Windows.of(deltas, stride=len(window.action_deltas) if walks else 1),
            batch_size,
            config.seed,
            skip_episodes=skipped,
            ordering=SamplingOrder("slots") if walks else SHUFFLED,
            rank=world.rank,
            world=world.size,
            resources=resources,
        )

    memory = _means(data, 1 - VALID_MEMORY if num_frames else 1.0)
    train = load(data.split, training.batch_size, memory, walks=window.carries)
    ids = dict(enumerate(dataset.rows.ids()))
    if not num_frames:
        return Feeds(train, None, training.batch_size, 0, ids, world=world)
    parts = world.size * training.gradient_accumulation_steps
    size = max(parts, min(training.batch_size, num_frames) // parts * parts)
    valid = load(data.valid_split, size, _means(data, VALID_MEMORY))
    num_batches = min(training.valid_batches, max(1, num_frames // size))
    cameras = [camera.name for camera in dataset.manifest.schema.cameras if camera.name in deltas]

    def episodes() -> list[Episode]:
        return [_whole(dataset, row, deltas, cameras) for row in rows[: training.valid_episodes]]

    return Feeds(train, valid, training.batch_size, num_batches, ids, episodes, world)


def find_cameras(dataset_uri: str, config: TrainConfig, stats: Mapping[str, FeatureStats]) -> dict[str, Shape]:
    """``(C, H, W)`` of the dataset's cameras by feature name; it is opened only where something else than numbers is named."""
    names = FeatureMap.of(config.env)
    if all(names.stored_key(name, stats) in stats for name in names.read):
        return {}
    from tendon.data.dataset import open_dataset

    cameras = open_dataset(dataset_uri).manifest.schema.cameras
    return {camera.name: (camera.channels, camera.height, camera.width) for camera in cameras}


def loader_deltas(window: Window) -> dict[str, tuple[int, ...]]:
    """The steps of each stored feature that the window needs; a goal's step comes behind the others."""
    deltas = {key: own for key, own in window.deltas().items() if not key.startswith(GOAL)}
    for key in window.observation_keys:
        if key.startswith(GOAL):
            deltas[key.removeprefix(GOAL)] = (*deltas.get(key.removeprefix(GOAL), ()), LAST)
    return deltas


def to_tensors(arrays: Mapping[str, np.ndarray], window: Window, device: torch.device) -> Batch:
    """The features of the window and their padding masks; on the CPU the tensors share the arrays' memory."""
    return {
        name: _placed(arrays[stored] if steps is None else arrays[stored][:, steps], device)
        for name, stored, steps in _parts(window)
        if stored in arrays
    }


@lru_cache(maxsize=8)
def _parts(window: Window) -> tuple[tuple[str, str, slice | None], ...]:
    """Names in a batch, names in the loader's arrays, and the steps taken of them (None: all)."""
    keys = (*window.observation_keys, window.action_key)
    parts: list[tuple[str, str, slice | None]] = []
    for key in keys:
        stored, steps = key.removeprefix(GOAL), None
        if GOAL + stored in keys:
            steps = slice(-1, None) if key.startswith(GOAL) else slice(0, -1)
        parts += [(key, stored, steps), (f"{key}_is_pad", f"{stored}_is_pad", steps)]
    walking = ("episode_index", "frame_index", "first") if window.carries else ()
    return (*parts, *((name, name, None) for name in walking))


def _placed(array: np.ndarray, device: torch.device) -> Tensor:
    """Through pinned memory, so that a GPU takes it while it still computes."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _means(data: DataConfig, share: float) -> Any:
    """With what a loader works, of which nothing changes a number."""
    from tendon.loader.choice import LoaderResources

    return LoaderResources(
        memory_budget=int(data.memory_gib * share * GIB),
        threads=data.threads,
        processes=data.processes,
        ahead=data.ahead,
        cache=Path(data.cache) if data.cache else None,
        cache_bytes=int(data.cache_gib * GIB),
    )


def _whole(dataset: Any, row: Any, keys: Mapping[str, Any], cameras: Sequence[str]) -> Episode:
    numbers = dataset.lowdim(row)
    return {key: dataset.frames(row, key) if key in cameras else numbers[key] for key in keys}
