"""Reach demonstrations of which some are planted bad: recorded as they were played, by an operator who misunderstood the task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tendon.sim.adapters.reach import RADIUS, Adapter

KEYS = ("agent_pos", "agent_vel", "target_pos")
LENGTH = 30


def write_planted(path: Path, good: int, bad: int, seed: int = 1) -> list[str]:
    """A robomimic file of ``good`` and ``bad`` episodes, mixed by the seed; the names of the bad ones."""
    import h5py

    rng = np.random.default_rng(seed)
    order = rng.permutation(good + bad)
    names = [f"demo_{number}" for number in range(good + bad)]
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for number, name in enumerate(names):
            observations, actions = _played(seed + 10 * number, order[number] >= good, rng)
            demo = data.create_group(name)
            demo.attrs["num_samples"] = len(actions)
            for key in KEYS:
                demo[f"obs/{key}"] = np.array([seen[key] for seen in observations[:-1]])
                demo[f"next_obs/{key}"] = np.array([seen[key] for seen in observations[1:]])
            demo["actions"] = actions
            demo["states"] = np.zeros((len(actions), 8))
            demo["rewards"] = np.zeros(len(actions))
            demo["dones"] = (np.arange(len(actions)) == len(actions) - 1).astype(np.int64)
        env_args = {"env_name": "Reach", "type": 2, "env_version": "1", "env_kwargs": {"fps": 10.0}}
        data.attrs["env_args"] = json.dumps(env_args)
    return [name for number, name in enumerate(names) if order[number] >= good]


def _played(seed: int, is_bad: bool, rng: np.random.Generator) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    adapter = Adapter()
    adapter.make("Reach", {}, 10.0, (), (32, 32))
    observations, actions = [adapter.reset(seed)], []
    for _ in range(LENGTH):
        seen = observations[-1]
        goal = -seen["target_pos"] if is_bad else seen["target_pos"]  # the other side of the table
        action = np.clip(5 * (goal - seen["agent_pos"]) - 0.5 * seen["agent_vel"], -1, 1)
        actions.append(np.clip(action + 0.05 * rng.standard_normal(2), -1, 1))
        observations.append(adapter.step(actions[-1])[0])
        if np.linalg.norm(goal - observations[-1]["agent_pos"]) < RADIUS:
            break
    return observations, np.array(actions)
