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
