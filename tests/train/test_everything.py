"""Every kind of feature, all the way: converted, trained, resumed, validated, exported and read again in a fresh process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tendon import plugins
from tendon.config import tree
from tendon.config.compose import compose
from tendon.config.policies import policy_claims, policy_configs
from tendon.config.schema import TrainConfig
from tendon.data.convert import convert
from tendon.data.dataset import open_dataset
from tendon.data.sources.minestudio import MASK_SIZE
from tendon.data.stats import DatasetStats, compute_stats
from tendon.errors import ConfigError, Interrupted
from tendon.export.bundle import export_bundle, load_policy
from tendon.policies.processing.processing import AUGMENT_NOISE, load_processing
from tendon.storage import join
from tendon.train.loop.data_feeds import DataFeeds, find_features, joined_texts, open_data_feeds
from tendon.train.loop.engine import Engine
from tendon.train.loop.training import train
from tendon.train.state.status import TrainResult
from tendon.train.watch.callbacks import Callback
from tests.data.everything import AIM, BUTTONS, FRONT, REWARD, STATE, TARGET, TASK, TEXTS, WRIST, source
from tests.plugins.everything import install_everything

ROOT = Path(__file__).resolve().parents[2]
NAMED = "env.observation=[state,front,wrist,masks.target,task,next.reward]"


@dataclass(frozen=True)
class Case:
    """The converted demonstrations."""

    folder: Path
    uri: str
    stats: DatasetStats

    def config(self, *overrides: str) -> TrainConfig:
        steps = ("training.offline_steps=12", "training.log_freq=1", "training.save_freq=12", "training.valid_freq=6")
        rest = ("training.batch_size=4", "training.num_threads=1", "training.lr=1e-2", "device=cpu", "seed=3")
        return compose(["env=reach", NAMED, f"data.uri={self.uri}", "policy=everything", *steps, *rest, *overrides])

    def train(self, name: str, **arguments: Any) -> TrainResult:
        return train(self.config(), self.uri, self.stats, str(self.folder / name), **arguments)

    def engine(self) -> tuple[Engine, DataFeeds]:
        config = self.config()
        engine = Engine(config, self.stats.features, found=find_features(self.uri))
        feeds = open_data_feeds(self.uri, config, engine.policy.windows)
        engine.set_texts(feeds.texts)
        return engine, feeds


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("everything")
    site = install_everything(folder / "site")
    manifest = convert(source(), str(folder), "everything")
    uri = join(str(folder), "datasets", "everything", manifest.plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT / "src"), str(ROOT)]))
        forget_packages()
        yield Case(folder, uri, compute_stats(open_dataset(uri), "train"))
    forget_packages()


def forget_packages() -> None:
    """What this process knows of installed packages."""
    for cached in (policy_claims, policy_configs, plugins.config_folders, plugins._installed, tree._compose_own):
        cached.cache_clear()


class Stop(Callback):
    """Ctrl-C after update 5."""

    def on_step(self, run: Any, step: int, update: Any) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGTERM)


def test_a_batch_has_every_kind_as_the_dataset_stores_it(case: Case) -> None:
    engine, feeds = case.engine()
    assert {key: one.kind for key, one in engine.info.features.items()} == {
        STATE: "state",
        FRONT: "image",
        WRIST: "image",
        TARGET: "mask",
        TASK: "text",
        REWARD: "reward",
        BUTTONS: "action",
        AIM: "action",
    }
    assert engine.info.features[FRONT].shape == (480, 640, 3)
    assert engine.info.features[WRIST].shape == (96, 128, 3)
    arrays = feeds.next(engine.config)
    batch = feeds.train_batch(arrays, 0, engine.policy, 3, engine.device)
    assert {key: tuple(batch[key].shape[1:]) for key in engine.info.features} == {
        STATE: (2, 3),
        FRONT: (1, 480, 640, 3),
        WRIST: (1, 96, 128, 3),
        TARGET: (1, *MASK_SIZE),
        TASK: (1,),
        REWARD: (4, 1),
        BUTTONS: (4, 3),
        AIM: (4, 2),
    }
    assert batch[AUGMENT_NOISE].shape == (4, engine.policy.num_draws)
    dataset = open_dataset(case.uri)
    assert feeds.texts[: len(TEXTS)] == TEXTS
    for i, episode in enumerate(arrays["episode_index"]):
        row, t = next(row for row in dataset.rows if row.index == episode), int(arrays["frame_index"][i])
        assert feeds.texts[int(batch[TASK][i, 0])] == TEXTS[int(t >= 4)]
        assert np.array_equal(batch[TARGET][i, 0], dataset.masks(row, TARGET)[t])


def test_trained_resumed_and_exported(case: Case) -> None:
    whole = case.train("whole")
    lines = [json.loads(line) for line in (case.folder / "whole/metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert {"valid_loss", "valid_action_mse"} <= set(whole.metrics)
    with pytest.raises(Interrupted):
        case.train("cut", callbacks=[Stop()])
    again = case.train("cut")
    assert (again.resumed_from, again.weights_sha256) == (6, whole.weights_sha256)
    assert again.metrics == whole.metrics | {
        key: value for key, value in again.metrics.items() if not key.startswith("valid")
    }

    bundle = export_bundle(whole.checkpoint_uri, str(case.folder / "bundle"))  # acts in a process of its own too
    assert bundle.parity["holds"]
    policy, info = load_policy(bundle.uri)
    assert info.texts[: len(TEXTS)] == TEXTS
    engine, feeds = case.engine()
    batch = feeds.train_batch(feeds.next(engine.config), 0, engine.policy, 3, engine.device)
    observation = {key: batch[key] for key in policy.windows.acting}
    actions, _ = policy.act(observation, policy.start(*range(4)))
    assert {key: tuple(one.shape) for key, one in actions.items()} == {BUTTONS: (4, 4, 3), AIM: (4, 4, 2)}
    processing = load_processing(case.folder / "bundle")
    assert policy.processing is not None
    expected = policy.processing(observation, "acting")
    assert all(torch.equal(values, expected[key]) for key, values in processing(observation, "acting").items())
    assert "`observation.images.front` (480 x 640 x 3)" in (case.folder / "bundle/card.md").read_text()


def test_a_policy_of_numbers_says_what_it_cannot_read_or_write(case: Case) -> None:
    config = compose(["env=reach", NAMED, f"data.uri={case.uri}", "policy=bc", "device=cpu"])
    with pytest.raises(ConfigError, match="bc predicts one action, the dataset has 2"):
        Engine(config, case.stats.features, found=find_features(case.uri))


def test_texts_of_two_tables_are_one_with_the_first_in_front() -> None:
    texts, (one, other) = joined_texts(("a", "b"), ("b", "c"), ("a",))
    assert texts == ("a", "b", "c")
    assert (one.tolist(), other.tolist()) == ([1, 2], [0])


GUEST = '''
import json
import numpy as np

class Adapter:
    """The features of the demonstrations, made up: pictures of two sizes, a mask, a text, an action of two parts."""

    def make(self, task, options, fps, cameras, size, sizes):
        self.sizes = sizes
        return {"action": {"buttons": 3, "camera": 2}, "cameras": ["front", "wrist"], "instruction": "find a tree"}

    def reset(self, seed):
        self.rng, self.steps = np.random.default_rng(seed), 0
        return self.observe()

    def step(self, action):
        assert sorted(action) == ["buttons", "camera"], action
        assert action["buttons"].shape == (3,) and action["camera"].shape == (2,)
        self.steps += 1
        return self.observe(), float(np.sum(action["camera"])), self.steps >= 5, False

    def state(self, texts):
        return np.array([self.steps]), "", json.dumps({"env_name": "Everything", "type": 2, "env_kwargs": {}})

    def observe(self):
        mask = np.zeros((360, 640), np.uint8)
        mask[10:40, 20 : 60 + self.steps] = 1
        seen = {"state": self.rng.normal(size=3), "masks.target": mask}
        for name, (height, width) in self.sizes.items():
            seen[name] = self.rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        return seen
'''


def test_rolled_out_where_a_simulator_has_the_same_features(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from tendon import trust
    from tendon.config.schema import EnvConfig
    from tendon.evaluate.rollout import evaluate_policy

    file = case.folder / "guest.py"
    file.write_text(GUEST)
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(file))
    env = EnvConfig(
        name="everything",
        simulator=str(file),
        task="Everything",
        fps=20,
        episode_length=12,
        observation=("state", "front", "wrist", "masks.target", "task"),
        options={},
        features={"masks.target": {"key": TARGET, "kind": "mask"}},
        cameras={
            "front": {"height": 480, "width": 640, "observation": "front", "key": FRONT},
            "wrist": {"height": 96, "width": 128, "observation": "wrist", "key": WRIST},
        },
        action={"buttons": 3, "camera": 2},
    )
    trained = case.train("rolled")
    policy, _ = load_policy(export_bundle(trained.checkpoint_uri, str(case.folder / "rolled-bundle")).uri)
    evaluation = compose(["env=reach", "data.uri=x", "eval.batch_size=2"]).eval
    results = evaluate_policy(policy, env, evaluation, [1, 2, 3])
    assert [(one.status, one.steps) for one in results] == [("success", 5)] * 3
    again = evaluate_policy(policy, env, evaluation, [1, 2, 3])
    assert all(np.array_equal(one.actions, other.actions) for one, other in zip(results, again, strict=True))
    assert not np.array_equal(results[0].actions, results[1].actions), "what it sees decides"


@pytest.mark.long
def test_killed_and_resumed_bit_for_bit(case: Case) -> None:
    """SIGKILL in the middle of training, in a process of its own."""
    import subprocess
    import sys

    code = f"""
import os, signal, sys
from pathlib import Path
from tests.train.test_everything import Case, Callback
from tendon.data.dataset import open_dataset
from tendon.data.stats import compute_stats
from tendon.train.loop.training import train

class Die(Callback):
    def on_step(self, run, step, update):
        if step == 8:
            os.kill(os.getpid(), signal.SIGKILL)

case = Case(Path({str(case.folder)!r}), {case.uri!r}, compute_stats(open_dataset({case.uri!r}), "train"))
train(case.config("training.save_freq=3"), case.uri, case.stats, str(case.folder / sys.argv[1]), callbacks=[Die()] * int(sys.argv[2]))
"""
    ended = [subprocess.run([sys.executable, "-c", code, "killed", dies], cwd=ROOT, check=False) for dies in ("1", "0")]
    assert [one.returncode for one in ended] == [-signal.SIGKILL, 0]
    whole = train(case.config("training.save_freq=3"), case.uri, case.stats, str(case.folder / "unkilled"))
    again = train(case.config("training.save_freq=3"), case.uri, case.stats, str(case.folder / "killed"))
    assert again.weights_sha256 == whole.weights_sha256
