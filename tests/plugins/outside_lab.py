"""A package outside of tendon that brings one of everything: policy, simulator, source, writer, weights, callback, data config.

The demonstrations are JSON, the task is a point on a line, the weights of the other system are a .npz. Every text is what
such a package would hold.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.plugins.outside import CONFIG, MODEL, YAML, install

SIMULATOR = '''
"""A point on a line that must come to its goal."""

import numpy as np

from tendon_sim.protocol import Refused

NUMERICS = 1


class Adapter:
    def make(self, task, options, fps, cameras, size):
        if task != "Line":
            raise Refused(f"no task {task}", "env.task=Line")
        self.step_m = 1.0 / fps
        return {"action_dim": 1, "cameras": []}

    def reset(self, seed):
        rng = np.random.default_rng(seed)
        self.position, self.goal = rng.uniform(-1, -0.2), rng.uniform(0.2, 1)
        return self._observe()

    def step(self, action):
        self.position += self.step_m * float(np.clip(action[0], -1, 1))
        success = abs(self.goal - self.position) < 0.05
        return self._observe(), float(success), success, False

    def _observe(self):
        return {"position": np.array([self.position]), "goal": np.array([self.goal])}
'''
ENV = """# @package _global_
# A point on a line.
env:
  name: line
  simulator: line
  task: Line
  fps: 10
  episode_length: 40
  observation: [position, goal]
  goal: []
  options: {}
"""
SOURCE = '''
"""Demonstrations as one JSON file: {"fps": 10, "episodes": [{"position": [...], "goal": [...], "action": [...]}]}."""

import hashlib
import json
from pathlib import Path

import numpy as np

from tendon.data.episode import Episode, Schema
from tendon.data.features import Feature
from tendon.data.sources.source import EpisodeInfo, SourceInfo

NAMES = {"observation.position": "position", "observation.goal": "goal", "action": "action"}


def sniff(uri):
    return uri.endswith(".line.json")


def open_uri(uri):
    return LineSource(uri)


class LineSource:
    def __init__(self, uri):
        self.uri = uri
        self.content = Path(uri).read_bytes()
        self.tree = json.loads(self.content)

    def describe(self):
        features = tuple(Feature(name, "action" if name == "action" else "state", (1,), "float32", (), "float64") for name in NAMES)
        last = len(self.tree["episodes"]) - 1
        episodes = tuple(
            EpisodeInfo(f"line_{i}", len(one["action"]), ("valid",) if i == last else ("train",))
            for i, one in enumerate(self.tree["episodes"])
        )
        digest = hashlib.sha256(self.content).hexdigest()
        return SourceInfo("line", self.uri, digest, len(self.content), Schema(features, (), self.tree["fps"]), episodes)

    def read(self, episode_id, images=True):
        one = self.tree["episodes"][int(episode_id.partition("_")[2])]
        values = {name: np.array(one[key], np.float32)[:, None] for name, key in NAMES.items()}
        return Episode(episode_id, len(one["action"]), values, success=True)
'''
WRITER = '''
"""The inverse of the source."""

import json


def write(dataset, target, progress):
    episodes = []
    for done, row in enumerate(dataset.rows, 1):
        values = dataset.lowdim(row)
        episodes.append(
            {key: values[name][:, 0].tolist() for name, key in
             (("observation.position", "position"), ("observation.goal", "goal"), ("action", "action"))}
        )
        progress(done, len(dataset.rows), "episodes written")
    target.write_text(json.dumps({"fps": dataset.manifest.schema.fps, "episodes": episodes}))
'''
CALLBACK = '''
"""Counts the updates of a trial."""

from tendon.train.watch.callbacks import Callback


class Counter(Callback):
    def __init__(self):
        self.updates = 0

    def on_step(self, run, step, update):
        self.updates += 1

    def on_end(self, run, *, finished):
        run.store.write("updates.txt", str(self.updates).encode())
'''
DATA_CONFIG = '''
"""The arm of this laboratory."""

from tendon.data.sources.modality_configs import DataConfig

ARM = DataConfig(video=(), state=("ee_pos",), action=("delta_ee_pos",), default="min_max")
'''
WEIGHTS = '''
"""The other system keeps a policy as one .npz: arrays by the names of its layers, and what it reads."""

import json

import numpy as np
import torch

from PACKAGE.config import NearestConfig
from PACKAGE.model import Nearest
from tendon.policies.spec import PolicySpec, feature_from_json, feature_to_json
from tendon.weights.foreign import ForeignPolicy, WeightFormat


class Npz(WeightFormat):
    name = "lab"

    def sniff(self, path):
        return path.suffix == ".npz"

    def read(self, path):
        arrays = dict(np.load(path))
        about = json.loads(str(arrays.pop("about")))
        config = NearestConfig(name="nearest", width=about["width"])
        features = {key: feature_from_json(key, values) for key, values in about["features"].items()}
        policy = Nearest(config, features, None)
        policy.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        return ForeignPolicy(policy.eval(), PolicySpec(config, features, policy.windows))

    def write(self, policy, info, path, version, kept):
        about = json.dumps({"width": info.config.width, "features": {key: feature_to_json(one) for key, one in info.features.items()}})
        arrays = {name: value.detach().cpu().numpy() for name, value in policy.state_dict().items()}
        with open(path, "wb") as file:
            np.savez(file, about=np.array(about), **arrays)


FORMAT = Npz()
'''
FILES = {
    "config.py": CONFIG,
    "model.py": MODEL,
    "simulator.py": SIMULATOR,
    "source.py": SOURCE,
    "writer.py": WRITER,
    "callback.py": CALLBACK,
    "data_config.py": DATA_CONFIG,
    "weights.py": WEIGHTS,
    "conf/policy/nearest.yaml": YAML,
    "conf/env/line.yaml": ENV,
}
ENTRIES = {
    "tendon.policies": {"nearest": "PACKAGE.config:NearestConfig"},
    "tendon.simulators": {"line": "PACKAGE.simulator"},
    "tendon.sources": {"line": "PACKAGE.source"},
    "tendon.writers": {"line": "PACKAGE.writer"},
    "tendon.callbacks": {"Counter": "PACKAGE.callback:Counter"},
    "tendon.data_configs": {"lab_arm": "PACKAGE.data_config:ARM"},
    "tendon.weights": {"lab": "PACKAGE.weights:FORMAT"},
}


def install_lab(site: Path, package: str = "outside_lab") -> Path:
    """The package with everything it brings, in ``site``."""
    return install(site, package, ENTRIES, FILES)


def write_demonstrations(path: Path, episodes: int = 12) -> Path:
    """A point that walks to its goal, as the laboratory records it."""
    draw = random.Random(1)
    rows = []
    for _ in range(episodes):
        position, goal = draw.uniform(-1, -0.2), draw.uniform(0.2, 1)
        one: dict[str, list[float]] = {"position": [], "goal": [], "action": []}
        for _ in range(25):
            action = max(-1.0, min(1.0, 4 * (goal - position)))
            for name, value in (("position", position), ("goal", goal), ("action", action)):
                one[name].append(value)
            position += action / 10
        rows.append(one)
    path.write_text(json.dumps({"fps": 10, "episodes": rows}))
    return path
