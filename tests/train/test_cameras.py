"""A policy that sees, all the way: demonstrations with a camera, converted, trained, resumed, exported, played."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from tendon.evaluate.demos import record_demos
from tendon.evaluate.rollout import evaluate_policy
from tendon.export.bundle import export_bundle, load_policy
from tendon.policies.base import AUGMENT_NOISE, GOAL
from tendon.policies.windows import windows_of
from tendon.registry.planner import run_key
from tendon.storage import join
from tendon.train.callbacks import Callback
from tendon.train.engine import Engine
from tendon.train.feed import find_features, open_feeds, stored_windows
from tendon.train.loop import train
from tendon.train.ranks import ALONE, World
from tendon.train.status import TrainResult
from tests.policies.features_of import features_of

CAMERA, AGENT = "observation.images.top_image", "observation.agent_pos"
SMALL = ("training.offline_steps=30", "training.log_freq=1", "training.save_freq=30", "training.valid_freq=15")
NET = ("policy.num_keypoints=4", "policy.feature_dim=8", "training.valid_episodes=1")
CHANGED = ("policy.resize=[40,40]", "policy.crop_size=36", "policy.brightness=0.3", "policy.hue=0.05")
FLAT = ("policy.resize=[20,20]", "policy.crop_size=16", "policy.num_keypoints=0")  # smaller, for speed
REST = ("training.batch_size=8", "training.num_threads=1", "training.lr=2e-3", "device=cpu", "seed=3")


@dataclass(frozen=True)
class Case:
    """Demonstrations of reach, seen from above."""

    folder: Path
    uri: str
    stats: DatasetStats

    def config(self, *overrides: str) -> TrainConfig:
        seen = ("env=reach", "env.options={image_size: 24}", "env.observation=[top_image,agent_pos]")
        net = NET if any(text.startswith("policy=") for text in overrides) else ("policy.hidden_dims=[32]", *NET)
        return compose([*seen, f"data.uri={self.uri}", *SMALL, *net, *CHANGED, *REST, *overrides])

    def train(self, name: str, *overrides: str, **arguments: Any) -> TrainResult:
        return train(self.config(*overrides), self.uri, self.stats, str(self.folder / name), **arguments)

    def engine(self, config: TrainConfig, world: World = ALONE) -> Engine:
        return Engine(config, self.stats.features, world, find_features(self.uri))

    def batch(self, config: TrainConfig, engine: Engine, world: World = ALONE) -> dict[str, torch.Tensor]:
        feeds = open_feeds(self.uri, config, engine.policy.windows, world)
        return feeds.train_batch(feeds.next(config), 0, engine.policy, config.seed, engine.device)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("cameras")
    env = compose(["env=reach", "env.options={image_size: 24}", "data.uri=none"]).env
    record_demos(env, 5, 1, folder / "reach.hdf5", images=True, num_guests=1)
    manifest = convert(open_source(str(folder / "reach.hdf5")), str(folder), "reach")
    uri = join(str(folder), "datasets", "reach", manifest.plan)
    return Case(folder, uri, compute_stats(open_dataset(uri), "train"))


class Stop(Callback):
    """Ctrl-C after update 13."""

    def on_step(self, run: Any, step: int, update: Any) -> None:
        if step == 13:
            signal.raise_signal(signal.SIGTERM)


def test_from_demonstrations_to_rollouts(case: Case) -> None:
    whole = case.train("whole")
    lines = [json.loads(line) for line in (case.folder / "whole/metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:4])
    assert {"valid_loss", "valid_action_mse"} <= set(whole.metrics)
    assert any("train/loader_decode_s" in line for line in lines)
    with pytest.raises(Interrupted):
        case.train("cut", callbacks=[Stop()])
    again = case.train("cut", "data.threads=1", "data.memory_gib=1.0")  # with what is loaded changes no number
    assert (again.resumed_from, again.weights_sha256) == (14, whole.weights_sha256)
    assert again.metrics["valid_loss"] == whole.metrics["valid_loss"]

    bundle = export_bundle(whole.checkpoint_uri, str(case.folder / "bundle"))
    policy, info = load_policy(bundle.uri)
    assert info.features == features_of({CAMERA: (24, 24, 3), "observation.agent_pos": 2, "action": 2})
    config = case.config("env.episode_length=5", "eval.batch_size=1")
    (result,) = evaluate_policy(policy, config.env, config.eval, [7])
    assert result.status in ("success", "failure")
    images = {CAMERA: torch.zeros(1, 1, 32, 32, 3, dtype=torch.uint8), "observation.agent_pos": torch.zeros(1, 1, 2)}
    assert policy.act(images)[0]["action"].shape == (1, 1, 2)  # resized
    unsized = case.engine(case.config("policy.resize=[]", "policy.crop_size=0", "policy.num_keypoints=0")).policy.eval()
    with pytest.raises(ConfigError, match="32 x 32"):
        unsized.act(images)


def test_the_same_windows_change_alike_in_one_process_and_in_two(case: Case) -> None:
    config = case.config()
    engine = case.engine(config)
    whole = case.batch(config, engine)
    assert whole[AUGMENT_NOISE].shape == (8, 4 + 2)
    for rank in range(2):
        own = case.batch(config, engine, World(rank, 2))
        for key in (CAMERA, AUGMENT_NOISE, "action"):
            assert torch.equal(own[key], whole[key][rank::2])


@pytest.mark.parametrize("policy", ["bc_rnn", "bc_transformer", "bc_vae"])
def test_every_family_sees(case: Case, policy: str) -> None:
    """It learns a batch, the gradient reaches the first convolution, and the action follows the picture."""
    small = {
        "bc_rnn": ("policy.horizon=3", "policy.seq_length=3", "policy.hidden_dim=8", "policy.hidden_dims=[]"),
        "bc_transformer": (
            "policy.context_length=3",
            "policy.embed_dim=8",
            "policy.num_heads=2",
            "policy.num_layers=1",
        ),
        "bc_vae": ("policy.latent_dim=2",),
    }[policy]
    config = case.config(f"policy={policy}", *small, *FLAT, "training.lr_warmup_steps=0")
    engine = case.engine(config)
    batch = case.batch(config, engine)
    assert batch[AUGMENT_NOISE].shape[1] == 4 + 2 * batch[CAMERA].shape[1]
    first_layer = next(p for p in engine.policy.parameters() if p.ndim == 4)
    before = first_layer.detach().clone()
    losses = [engine.update(batch, step, measure=False).loss.item() for step in range(25)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1 * abs(np.mean(losses[:3])), losses
    assert (first_layer - before).abs().max() > 1e-4
    engine.policy.eval()
    times = len(engine.policy.windows.acting[CAMERA].deltas)
    seen = {key: batch[key][:, :1].repeat(1, times, *[1] * (batch[key].ndim - 2)) for key in (CAMERA, AGENT)}
    actions = [engine.policy.act(seen | {CAMERA: pixels})[0]["action"] for pixels in (seen[CAMERA], 255 - seen[CAMERA])]
    assert (actions[0] - actions[1]).abs().max() > 1e-3


def test_goals_are_the_last_step_of_the_episode(case: Case) -> None:
    goals = "env.goal=[agent_pos,target_pos,top_image]"
    config = case.config(goals, "env.observation=[agent_pos,top_image]", *FLAT)
    engine = case.engine(config)
    feeds = open_feeds(case.uri, config, engine.policy.windows)
    arrays = feeds.next(config)
    batch = feeds.train_batch(arrays, 0, engine.policy, config.seed, engine.device)
    dataset = open_dataset(case.uri)
    for i, episode in enumerate(arrays["episode_index"]):
        row = next(row for row in dataset.rows if row.index == episode)
        steps = dataset.lowdim(row)
        for name in ("agent_pos", "target_pos"):
            goal = batch[f"{GOAL}observation.{name}"][i]
            assert np.allclose(goal.numpy(), np.asarray(steps[f"observation.{name}"][-1:], np.float32))
        assert np.allclose(
            batch["observation.agent_pos"][i, 0], steps["observation.agent_pos"][arrays["frame_index"][i]]
        )
        assert np.array_equal(batch[GOAL + CAMERA][i, 0].numpy(), dataset.frames(row, CAMERA)[-1])
    losses = {
        engine.policy.loss(batch | {key: values}).loss.item()
        for key in batch
        if key.startswith(GOAL)
        for values in (batch[key], batch[key].flip(0))
    }
    assert len(losses) == 4, "each of the three goals counts"
    result = case.train("goals", "env.goal=[target_pos]", "env.observation=[agent_pos]", *NO_IMAGES)
    assert result.metrics["valid_loss"] < 1.0
    played, _ = load_policy(result.checkpoint_uri)
    shown = case.config("env.goal=[target_pos]", "env.observation=[agent_pos]", "env.episode_length=3")
    assert evaluate_policy(played, shown.env, shown.eval, [7])[0].status in ("success", "failure")


NO_IMAGES = ("policy.resize=[]", "policy.crop_size=0")


def test_what_loads_the_data_is_no_part_of_the_run_key(case: Case) -> None:
    keys = {
        run_key(case.config(*more)) for more in ((), ("data.threads=7",), ("data.cache=/scratch", "data.processes=2"))
    }
    assert len(keys) == 1
    assert run_key(case.config("env.goal=[agent_pos]")) not in keys


def test_a_goal_alone_asks_for_one_step() -> None:
    keys = ("observation.a", "goal.observation.a", "goal.observation.b")
    spans = stored_windows(windows_of(keys, ("action",), (-1, 0), (0,))).training
    assert [len(spans[key].deltas) for key in ("observation.a", "observation.b", "action")] == [3, 1, 1]
