"""A small trial: a dataset in memory behind the loader's face, and a configuration that trains in a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tendon.config.compose import compose
from tendon.config.schema import DataConfig, EnvConfig, TrainConfig
from tendon.data.stats import DatasetStats, FeatureStats
from tendon.policies.bc.config import BcConfig
from tendon.policies.windows import Windows
from tendon.train.distributed.ranks import ALONE, World
from tendon.train.loop.data_feeds import DataFeeds
from tendon.train.loop.training import train
from tendon.train.state.status import TrainResult

SMALL = {
    "offline_steps": 40,
    "batch_size": 8,
    "lr": 1e-3,
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 5,
    "log_freq": 10,
    "valid_freq": 20,
    "valid_batches": 2,
    "save_freq": 10,
    "num_threads": 1,
}


SECTIONS = ("ema", "save", "wandb", "track")


def make_config(**training: Any) -> TrainConfig:
    """600-step-like configuration, made small."""
    default = compose(["data.uri=memory"])
    sections = {name: replace(getattr(default, name), **training.pop(name, {})) for name in SECTIONS}
    small_bc = BcConfig("bc", (16, 16), "gmm", 3, 1e-4, True, 1.0, 0.0, 0.0, "mean_std", "min_max")
    policy = training.pop("policy", small_bc)
    return replace(
        default,
        seed=7,
        device="cpu",
        data=DataConfig("unused", "train", "valid", ()),
        training=replace(default.training, **(SMALL | training)),
        eval=replace(default.eval, n_episodes=1),
        env=EnvConfig("reach", "reach", "Reach", 10, 60, ("b_target", "a_agent"), {}),
        **sections,
        policy=policy,
    )


ONE_STEP: Mapping[str, int] = {}


class MemoryLoader:
    """Batches whose content is a function of (seed, k); ``steps``: of the windows of features that have several."""

    def __init__(
        self,
        seed: int,
        batch_size: int,
        world: World = ALONE,
        num_windows: int = 400,
        num_episodes: int = 10,
        steps: Mapping[str, int] = ONE_STEP,
    ) -> None:
        self.seed, self.batch_size, self.world, self.steps = seed, batch_size, world, steps
        self.num_windows, self.num_episodes = num_windows, num_episodes
        self.next_batch = 0
        self.before_batch: Callable[[int], None] = lambda k: None
        rng = np.random.default_rng(seed)
        self.a = rng.normal(size=(num_windows, 1, 2)).astype(np.float32)
        self.b = rng.normal(size=(num_windows, 1, 2)).astype(np.float32)
        self.action = np.clip(self.b - self.a, -3, 3)

    @property
    def state(self) -> dict[str, Any]:
        return {"next_batch": self.next_batch}

    @property
    def metrics(self) -> dict[str, float]:
        return {"loader/fetch_s": 0.0}

    def close(self) -> None: ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.next_batch = state["next_batch"]

    def batch(self, k: int) -> dict[str, np.ndarray]:
        rows = np.random.default_rng((self.seed, k)).integers(0, self.num_windows, self.batch_size)
        rows = rows[self.world.rank :: self.world.size]
        per_episode = self.num_windows // self.num_episodes
        named = {"observation.a_agent": self.a, "observation.b_target": self.b, "action": self.action}
        several = {
            key: values[(rows[:, None] + np.arange(self.steps.get(key, 1))) % self.num_windows, 0]
            for key, values in named.items()
        }
        return {
            **several,
            "action_is_pad": np.zeros((len(rows), self.steps.get("action", 1)), bool),
            "episode_index": rows // per_episode,
            "frame_index": rows % per_episode,
        }

    def __next__(self) -> dict[str, np.ndarray]:
        self.before_batch(self.next_batch)
        self.next_batch += 1
        return self.batch(self.next_batch - 1)


def feature_stats(mean: float, std: float, low: float, high: float, dim: int = 2) -> FeatureStats:
    """Every dimension alike."""
    return FeatureStats(400, *((value,) * dim for value in (mean, std, low, high, low, high)))


def make_stats() -> DatasetStats:
    """Of the data in memory, about."""
    one = feature_stats(0.1, 1.0, -3.0, 3.0)
    features = {"observation.a_agent": one, "observation.b_target": one, "action": one}
    return DatasetStats("digest", "train", 10, 400, "exact", features, ())


class OpenMemory:
    """Opens the same data each time; ``before_batch(k)`` runs when the loop asks for training batch k."""

    def __init__(self, before_batch: Callable[[int], None] = lambda k: None) -> None:
        self.before_batch = before_batch

    def __call__(self, dataset_uri: str, config: TrainConfig, windows: Windows, world: World = ALONE) -> DataFeeds:
        size = config.training.batch_size
        steps = {key: len(span.deltas) for key, span in windows.training.items()}
        train, valid = (MemoryLoader(seed, size, world, steps=steps) for seed in (1, 2))
        train.before_batch = self.before_batch
        ids = {i: f"demo_{i}" for i in range(10)}
        return DataFeeds(train, valid, size, config.training.valid_batches, ids, world=world)


def open_memory(dataset_uri: str, config: TrainConfig, windows: Windows, world: World) -> DataFeeds:
    """As OpenMemory, for processes that find it by name."""
    return OpenMemory()(dataset_uri, config, windows, world)


def run(trial_uri: object, before_batch: Callable[[int], None] = lambda k: None, **training: Any) -> TrainResult:
    """Train the small trial in this process; ``augmented``: with noise on its observations."""
    if training.pop("augmented", False):
        augment()
    return train(make_config(**training), "memory", make_stats(), str(trial_uri), open_data=OpenMemory(before_batch))


def augment() -> None:
    """From now on Bc's loss changes its observations at random, in both ways that a policy can.

    By the numbers that the loop draws for each window, as cameras are changed, and by torch's global generator, as
    dropout does.
    """
    import torch

    from tendon.policies.base import AUGMENT_NOISE
    from tendon.policies.bc.model import Bc

    plain = Bc.loss

    def loss(self: Bc, batch: dict[str, torch.Tensor], memory: Any = None, step: int = 0) -> Any:
        moved = 0.2 * batch[AUGMENT_NOISE][:, None] if AUGMENT_NOISE in batch else 0.0
        changed = {key: value + moved + 0.1 * torch.randn_like(value) for key, value in batch.items() if "obs" in key}
        return plain(self, batch | changed, memory)

    Bc.loss, Bc.num_draws = loss, 2  # type: ignore[method-assign]
