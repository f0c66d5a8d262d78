"""Batches for the loop: the loader's arrays as tensors on the device. The only file of train that knows the loader.

Each process loads its share of every batch and of nothing else. Goals are the last step of the episode (robomimic's
``goal_mode: last``): the loader is asked for a step far behind every end, which it repeats the last one for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tendon.config.schema import TrainConfig
from tendon.data.features import Feature
from tendon.loader.order import keyed_uniform
from tendon.loader.windows import Span, Windows
from tendon.policies.base import AUGMENT_NOISE, GOAL, Batch, Policy
from tendon.train.distributed.ranks import ALONE, World
from tendon.train.loop.epoch_size import EpochSize

Episode = Mapping[str, np.ndarray]  # feature to [T, D], camera to uint8 [T, H, W, C]
LAST = 1 << 30  # a delta behind the end of every episode
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
    @property
    def texts(self) -> tuple[str, ...]: ...  # noqa: D102
    def __next__(self) -> dict[str, np.ndarray]: ...
    def close(self) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class DataFeeds:
    """The training split, and the validation split when the dataset has one."""

    train: Batches
    valid: Batches | None
    batch_size: int  # of all processes together
    num_valid_batches: int
    episode_ids: Mapping[int, str]  # of the batches' episode_index
    episodes: Callable[[], list[Episode]] = list  # held-out ones, whole
    world: World = ALONE
    texts: tuple[str, ...] = ()  # what the indices of texts in batches point into
    renumbered: Mapping[str, np.ndarray] = field(
        default_factory=dict
    )  # held-out texts by key: their indices in ``texts``

    @property
    def epoch_size(self) -> EpochSize:
        """How much an epoch is."""
        return EpochSize(self.train.num_windows, self.train.num_episodes, self.batch_size)

    def next(self, config: TrainConfig) -> dict[str, np.ndarray]:
        """This process's share of the next batch; of the first one for ever when it is to be overfitted."""
        arrays = next(self.train)
        return self.train.batch(0) if config.training.overfit_batch else arrays

    def train_batch(
        self, arrays: Mapping[str, np.ndarray], step: int, policy: Policy, seed: int, device: torch.device
    ) -> Batch:
        """The tensors of update ``step``, with the numbers that its windows are changed by at random.

        These are a function of seed, step and place in the batch: how many processes there are changes none of them. Where
        rows walk through episodes they are one of seed, epoch, episode and step: another batch size changes none either.
        """
        batch = to_tensors(arrays, policy.windows, device)
        if policy.num_draws and policy.windows.stateful and hasattr(self.train, "row_epochs"):
            where = (arrays["episode_index"], arrays["frame_index"])
            drawn_BN = keyed_uniform(policy.num_draws, seed, self.train.row_epochs, *where)
            batch[AUGMENT_NOISE] = _placed(drawn_BN, device)
        elif policy.num_draws:
            generator = np.random.Generator(np.random.Philox(key=[seed, step]))
            drawn_BN = generator.random((self.batch_size, policy.num_draws), np.float32)
            rank, size = self.world.rank, self.world.size
            own_B = (
                np.split(np.arange(self.batch_size), size)[rank] if policy.windows.stateful else slice(rank, None, size)
            )
            batch[AUGMENT_NOISE] = _placed(drawn_BN[own_B], device)
        return batch

    def valid_batches(self, policy: Policy, device: torch.device) -> Iterator[Batch]:
        """This process's share of the same few validation batches each time."""
        assert self.valid is not None
        for k in range(self.num_valid_batches):
            yield to_tensors(_renumbered(self.valid.batch(k), self.renumbered), policy.windows, device)

    def close(self) -> None:
        """Stop whoever loads."""
        self.train.close()
        if self.valid is not None:
            self.valid.close()


class OpenDataFeeds(Protocol):
    """How the loop opens its data; tests pass their own."""

    def __call__(self, dataset_uri: str, config: TrainConfig, windows: Windows, world: World) -> DataFeeds: ...  # noqa: D102


def open_data_feeds(dataset_uri: str, config: TrainConfig, windows: Windows, world: World = ALONE) -> DataFeeds:
    """Loaders over a converted dataset, windows as the policy declares them; each validation batch is a full one."""
    from tendon.data.dataset import open_dataset
    from tendon.loader.choice import LoaderResources
    from tendon.loader.configured import configured_loader, resources_of, validation_data

    dataset, data, training = open_dataset(dataset_uri), config.data, config.training
    stored, skipped = stored_windows(windows), data.skip_episodes
    held_out = dataset.episodes(data.valid_split) if data.valid_split in dataset.splits else ()
    rows = [row for row in held_out if row.episode_id not in skipped]
    num_frames = sum(row.length for row in rows)

    def load(split: str, batch_size: int, resources: LoaderResources, *, walks: bool = False) -> Batches:
        chosen = data if split == data.split else validation_data(data)
        return configured_loader(
            dataset_uri,
            split,
            stored if walks else replace(stored, stateful=False, stride=1),
            batch_size,
            config.seed,
            chosen,
            rank=world.rank,
            world=world.size,
            resources=resources,
        )

    memory = resources_of(data, 1 - VALID_MEMORY if num_frames else 1.0)
    train = load(data.split, training.batch_size, memory, walks=windows.stateful)
    ids = {} if data.mixture else dict(enumerate(dataset.rows.ids()))  # of a mixture, an index names several episodes
    kinds = {
        feature.key: feature.kind for feature in dataset.manifest.schema.features if feature.key in stored.training
    }
    if not num_frames:
        texts = train.texts if "text" in kinds.values() else ()
        return DataFeeds(train, None, training.batch_size, 0, ids, world=world, texts=texts)
    parts = world.size * training.gradient_accumulation_steps
    size = max(parts, min(training.batch_size, num_frames) // parts * parts)
    valid = load(data.valid_split, size, resources_of(data, VALID_MEMORY))
    num_batches = min(training.valid_batches, max(1, num_frames // size))
    texts, of_valid, of_dataset = (), {}, {}
    if text_keys := [key for key, kind in kinds.items() if kind == "text"]:
        texts, (numbers_of_valid, numbers_of_dataset) = joined_texts(train.texts, valid.texts, dataset.texts)
        of_valid, of_dataset = (dict.fromkeys(text_keys, numbers) for numbers in (numbers_of_valid, numbers_of_dataset))

    def episodes() -> list[Episode]:
        chosen = rows[: training.valid_episodes]
        return [_renumbered(_whole(dataset, row, kinds), of_dataset) for row in chosen]

    return DataFeeds(train, valid, training.batch_size, num_batches, ids, episodes, world, texts, of_valid)


def joined_texts(first: tuple[str, ...], *others: tuple[str, ...]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """One table of texts, the first one's in front, and the place of each text of the others in it: mixtures differ."""
    texts = tuple(dict.fromkeys(text for table in (first, *others) for text in table))
    places = {text: place for place, text in enumerate(texts)}
    return texts, [np.array([places[text] for text in table], np.int64) for table in others]


def _renumbered(arrays: Mapping[str, np.ndarray], places: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: places[key][values] if key in places else values for key, values in arrays.items()}


def find_features(dataset_uri: str) -> dict[str, Feature]:
    """What a converted dataset holds; nothing where there is none, as in tests that train from memory."""
    from tendon.data.manifest import load_manifest
    from tendon.storage import open_store

    manifest = load_manifest(open_store(dataset_uri))
    return {} if manifest is None else {feature.key: feature for feature in manifest.schema.features}


def stored_windows(windows: Windows) -> Windows:
    """The windows by the keys of the dataset; a goal's step comes behind the others of its feature."""
    spans = {key: span for key, span in windows.training.items() if not key.startswith(GOAL)}
    for key in windows.training:
        if key.startswith(GOAL):
            span = spans.get(key.removeprefix(GOAL), Span(()))
            spans[key.removeprefix(GOAL)] = replace(span, deltas=(*span.deltas, LAST))
    return replace(windows, training=spans, acting={})


def to_tensors(arrays: Mapping[str, np.ndarray], windows: Windows, device: torch.device) -> Batch:
    """The features of the windows and their padding masks; on the CPU the tensors share the arrays' memory."""
    return {
        name: _placed(arrays[stored] if steps is None else arrays[stored][:, steps], device)
        for name, stored, steps in _parts(tuple(windows.training), windows.stateful)
        if stored in arrays
    }


@lru_cache(maxsize=8)
def _parts(keys: tuple[str, ...], stateful: bool) -> tuple[tuple[str, str, slice | None], ...]:
    """Names in a batch, names in the loader's arrays, and the steps taken of them (None: all)."""
    parts: list[tuple[str, str, slice | None]] = []
    for key in keys:
        stored, steps = key.removeprefix(GOAL), None
        if GOAL + stored in keys:
            steps = slice(-1, None) if key.startswith(GOAL) else slice(0, -1)
        parts += [(key, stored, steps), (f"{key}_is_pad", f"{stored}_is_pad", steps)]
    walking = ("episode_index", "frame_index", "first") if stateful else ()
    return (*parts, *((name, name, None) for name in walking))


def _placed(array: np.ndarray, device: torch.device) -> Tensor:
    """Through pinned memory, so that a GPU takes it while it still computes."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _whole(dataset: Any, row: Any, kinds: Mapping[str, str]) -> Episode:
    numbers = dataset.lowdim(row)

    def values(key: str, kind: str) -> np.ndarray:
        if kind == "image":
            return np.asarray(dataset.frames(row, key))
        if kind == "mask":
            return np.asarray(dataset.masks(row, key))
        if kind == "text" and key not in (numbers.dtype.names or ()):
            return np.full(len(numbers), dataset.task_numbers[row.index])
        return np.asarray(numbers[key])

    return {key: values(key, kind) for key, kind in kinds.items()}
