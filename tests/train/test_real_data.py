"""The real chain: a robomimic file, converted, its statistics, the loader, training, resume, a bundle."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tendon.config.compose import compose
from tendon.config.schema import TrainConfig
from tendon.data.convert import convert
from tendon.data.dataset import open_dataset
from tendon.data.sources import open_source
from tendon.data.stats import DatasetStats, compute_stats
from tendon.errors import ConfigError, Interrupted
from tendon.export.bundle import export_bundle, load_policy
from tendon.policies.windows import Windows, windows_of
from tendon.storage import join
from tendon.train.feed import Feeds, open_feeds
from tendon.train.loop import train
from tendon.train.ranks import World
from tendon.train.status import TrainResult


class Case:
    """A dataset of six Lift-like episodes, the last one for validation."""

    def __init__(self, make_file: Callable[..., Path], folder: Path) -> None:
        self.folder = folder
        self.source = make_file(length=30)
        manifest = convert(open_source(str(self.source)), str(folder), "lift")
        self.uri = join(str(folder), "datasets", "lift", manifest.plan)
        self.stats: DatasetStats = compute_stats(open_dataset(self.uri), "train")

    def config(self, *overrides: str) -> TrainConfig:
        small = ["training.offline_steps=30", "training.log_freq=10", "training.save_freq=10", "training.valid_freq=10"]
        net = ["policy.hidden_dims=[32]", "training.batch_size=16", "training.num_threads=1", "training.lr=3e-3"]
        return compose(["env=lift", f"data.uri={self.uri}", "device=cpu", *small, *net, *overrides])

    def train(self, name: str, *overrides: str, open_data: Any = open_feeds) -> TrainResult:
        return train(self.config(*overrides), self.uri, self.stats, str(self.folder / name), open_data=open_data)


@pytest.fixture
def case(lift_like_hdf5: Callable[..., Path], tmp_path: Path) -> Case:
    return Case(lift_like_hdf5, tmp_path)


def test_from_a_robomimic_file_to_actions(case: Case) -> None:
    result = case.train("trial")
    assert result.metrics["valid_loss"] < 1.0
    bundle = export_bundle(result.checkpoint_uri, str(case.folder / "bundle"))
    policy, info = load_policy(bundle.uri)
    assert {key: feature.dim for key, feature in info.features.items()} == {
        "observation.object": 10,
        "observation.robot0_eef_pos": 3,
        "observation.robot0_eef_quat": 4,
        "observation.robot0_gripper_qpos": 2,
        "action": 7,
    }
    with h5py.File(case.source) as file:
        observation = {
            key: torch.tensor(
                file[f"data/demo_5/obs/{key.removeprefix('observation.')}"][7:8][None], dtype=torch.float32
            )
            for key in info.windows.acting
        }
        wanted = np.array(file["data/demo_5/actions"][7])
    action, _ = policy.act(observation, policy.start(1))
    assert action["action"].shape == (1, 1, 7)
    assert np.abs(action["action"][0, 0].numpy() - wanted).max() < 2.0


def test_a_resumed_run_equals_the_whole_one(case: Case) -> None:
    whole = case.train("whole")

    def stop_at(k: int) -> Any:
        def open_data(dataset_uri: str, config: TrainConfig, windows: Windows, world: World) -> Feeds:
            feeds = open_feeds(dataset_uri, config, windows, world)
            next_batch = type(feeds.train).__next__

            class Stopping(type(feeds.train)):  # type: ignore[misc]
                def __next__(self) -> Any:
                    if self.state["samples"] == k * 16:
                        signal.raise_signal(signal.SIGTERM)
                    return next_batch(self)

            feeds.train.__class__ = Stopping
            return feeds

        return open_data

    with pytest.raises(Interrupted):
        case.train("cut", open_data=stop_at(7))
    with pytest.raises(Interrupted):
        case.train("cut", open_data=stop_at(22))
    again = case.train("cut")
    assert again.resumed_from == 23
    assert again.weights_sha256 == whole.weights_sha256
    assert again.metrics["valid_loss"] == whole.metrics["valid_loss"]


def test_feeds_of_a_real_dataset(case: Case) -> None:
    window = windows_of(("observation.object",), ("action",), (0,), (0,))
    feeds = open_feeds(case.uri, case.config("training.valid_batches=99"), window)
    assert feeds.train.num_episodes == 5
    assert feeds.valid is not None
    assert feeds.num_valid_batches == feeds.valid.num_windows // 16
    assert feeds.episode_ids[3].startswith("demo_")
    seen = feeds.train.batch(0)
    assert seen["observation.object"].shape == (16, 1, 10)
    assert {int(i) for i in seen["episode_index"]} <= set(feeds.episode_ids)
    without = open_feeds(case.uri, case.config("data.skip_episodes=[demo_5]"), window)
    assert without.valid is None
    small = open_feeds(case.uri, case.config("training.batch_size=1000"), window)
    assert small.valid is not None
    assert small.num_valid_batches == 1
    assert len(small.valid.batch(0)["action"]) == small.valid.num_windows


def test_rows_walk_through_episodes_for_a_policy_that_carries(case: Case) -> None:
    window = windows_of(
        ("observation.object",), ("action",), (0, 1, 2), (0, 1, 2), acting=(0,), stateful=True, stride=3
    )
    config = case.config("training.batch_size=4")
    whole = open_feeds(case.uri, config, window).train
    halves = [open_feeds(case.uri, config, window, World(rank, 2)).train for rank in range(2)]
    before: dict[str, np.ndarray] | None = None
    for _ in range(12):
        seen = next(whole)
        parts = [next(half) for half in halves]
        for key in ("episode_index", "frame_index", "first", "action"):
            assert np.array_equal(seen[key], np.concatenate([part[key] for part in parts]))
        if before is not None:
            stays = ~seen["first"]
            assert np.array_equal(seen["episode_index"][stays], before["episode_index"][stays])
            assert np.array_equal(seen["frame_index"][stays], before["frame_index"][stays] + 3)
        before = {key: np.array(seen[key]) for key in ("episode_index", "frame_index")}


def test_env_of_other_demonstrations(case: Case) -> None:
    with pytest.raises(ConfigError, match=r"observation\.agent_pos"):
        case.train("other", "env=reach")


def test_unknown_episode_to_skip(case: Case) -> None:
    with pytest.raises(ConfigError, match="demo_99"):
        case.train("skipping", "data.skip_episodes=[demo_99]")
