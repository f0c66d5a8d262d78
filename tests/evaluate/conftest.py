"""A simulator of the user's own that misbehaves where its options say so, and tiny configurations."""

from dataclasses import replace

import pytest

from tendon import trust
from tendon.config.schema import EnvConfig, EvalConfig

REACH = EnvConfig(
    name="reach",
    simulator="reach",
    task="Reach",
    fps=10,
    episode_length=60,
    observation=("agent_pos", "target_pos"),
    options={},
)

MISBEHAVING = """
import ctypes, os, subprocess, sys, time
from tendon_sim.adapters.reach import Adapter as Reach

class Adapter(Reach):
    def make(self, task, options, fps, cameras, size):
        self.trouble = options
        print("hello on stdout"); print("hello on stderr", file=sys.stderr)
        os.write(1, b"raw bytes \\xff on descriptor 1\\n")
        if options.get("no_start"):
            raise RuntimeError("no display")
        return super().make(task, {}, fps, cameras, size)

    def reset(self, seed):
        self.seed, self.t = seed, 0
        return super().reset(seed)

    def step(self, action):
        print("step", self.t)
        self.t += 1
        if self.t == 3:
            self.misbehave(self.trouble.get(str(self.seed), ""))
        return super().step(action)

    def misbehave(self, how):
        if how == "hang":
            time.sleep(1000)
        if how == "hang holding the lock":
            ctypes.PyDLL(None).sleep(1000)
        if how == "child and hang":
            child = subprocess.Popen(["sleep", "1000"])
            print("child", child.pid, flush=True)
            time.sleep(1000)
        if how == "exit":
            print("GLFW error: out of luck", flush=True)
            os._exit(7)
        if how == "segfault":
            ctypes.string_at(0)
        if how == "raise":
            raise ValueError("joint 3 exploded")
"""


@pytest.fixture
def reach():
    return REACH


@pytest.fixture
def troubled(tmp_path, monkeypatch):
    """``troubled({"7": "hang"})``: reach, but the episode of seed 7 hangs."""
    path = tmp_path / "troubled.py"
    path.write_text(MISBEHAVING)
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))

    def env(options):
        return replace(REACH, name="troubled", simulator=str(path), options=options)

    return env


@pytest.fixture
def evaluation():
    return EvalConfig(n_episodes=5, batch_size=1, videos=0, max_crashed=0.5, step_timeout_s=1.0, start_timeout_s=20.0)


RICH = """
import json
import numpy as np

class Adapter:
    '''A line to walk along: two cameras of two sizes, a text, and an action of two parts.'''

    def make(self, task, options, fps, cameras, size, sizes):
        self.sizes, self.drawn, self.end = sizes, {"front": 0, "wrist": 0}, options.get("end", 5)
        return {"action": {"buttons": 3, "camera": 2}, "cameras": list(self.drawn), "instruction": "walk to the end"}

    def reset(self, seed):
        self.x, self.seed = 0.0, seed
        told = f"walk {seed} steps" if seed % 2 else None
        return self.observe() if told is None else (self.observe(), told)

    def step(self, action):
        assert sorted(action) == ["buttons", "camera"], action
        assert action["buttons"].shape == (3,) and action["camera"].shape == (2,)
        self.x += float(action["buttons"][0]) + 0.25 * float(action["camera"][1])
        return self.observe(), float(self.x), self.x >= self.end, False

    def reset_expert(self, seed, noise): pass

    def expert(self):
        return {"camera": np.array([0.0, 0.5]), "buttons": np.array([1.0, 0.0, 0.0])}

    def state(self, texts):
        return np.array([self.x]), "", json.dumps({"env_name": "Rich", "type": 2, "env_kwargs": {}})

    def observe(self):
        seen = {"x": np.array([self.x]), "where": np.array([2], np.int64)}
        for name in self.sizes:
            self.drawn[name] += 1
            height, width = self.sizes[name]
            seen[name + "_image"] = np.full((height, width, 3), int(self.x), np.uint8)
        seen["drawn"] = np.array([self.drawn["front"], self.drawn["wrist"]])
        return seen
"""


@pytest.fixture
def rich(tmp_path, monkeypatch):
    """A simulator with cameras of two sizes, an instruction, and an action of two parts."""
    path = tmp_path / "rich.py"
    path.write_text(RICH)
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))
    return EnvConfig(
        name="rich",
        simulator=str(path),
        task="Rich",
        fps=10,
        episode_length=12,
        observation=("x", "where", "front_image", "wrist_image"),
        options={},
        features={"x": "observation.state", "where": {"key": "observation.where", "kind": "category"}},
        cameras={
            "front": {"height": 48, "width": 64, "key": "observation.images.front"},
            "wrist": {"height": 12, "width": 20},
        },
        action={"buttons": 3, "camera": 2},
    )
