"""Clean demonstrations of several tasks as people record them: hesitation, detours, other speeds, sensor noise.

A gripper goes to an object, grasps it and carries it to a goal that depends on the task. Actions are end effector
velocities (or targets), rotations and a gripper command; two cameras draw the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TASKS = ("lift the cube", "put the cube to the left", "push the cube away")
DT = 0.05
SIZE = 32


@dataclass
class Recording:
    """One episode. ``frames`` is empty where cameras are not wanted."""

    name: str
    task: str
    state: dict[str, np.ndarray]
    action: np.ndarray
    frames: dict[str, np.ndarray]
    timestamp: np.ndarray
    split: str = "train"

    @property
    def length(self) -> int:
        """Its steps."""
        return len(self.action)


def record(
    rng: np.random.Generator, name: str, task: str, images: bool, noise: float, joints: int = 7, chunk: int = 1
) -> Recording:
    """One episode; it holds its last position until its steps are a multiple of ``chunk``."""
    start = rng.normal([0.0, 0.0, 0.4], 0.03)
    cube = np.array([0.3, 0.0, 0.02]) + np.append(rng.uniform(-0.08, 0.08, 2), 0)
    goal = cube + {TASKS[0]: [0, 0, 0.25], TASKS[1]: [0.05, 0.35, 0.08], TASKS[2]: [0.3, -0.05, 0.0]}[task]
    above = cube + np.array([0, 0, 0.12]) + rng.normal(0, 0.015, 3)
    detour = (start + above) / 2 + rng.normal(0, 0.05, 3)
    way = [(detour, 0.0), (above, 0.0), (cube, 0.0), (cube, 1.0), (goal, 1.0)]
    gain, lever = rng.uniform(3.0, 5.0), rng.normal(0, 0.4, (3, 7)) * 0 + _jacobian()
    position, velocity, grip, turn = start.copy(), np.zeros(3), 0.0, rng.normal(0, 0.05, 3)
    held, rows, at, waited = cube.copy(), [], 0, 0
    turn_goal = np.array([0.0, 0.0, rng.uniform(-0.6, 0.6)])
    joint_offset = rng.normal(0, 0.05, 7)
    for _ in range(400):
        target, close = way[at]
        wish = np.clip(gain * (target - position), -0.5, 0.5)
        wish = wish + rng.normal(0, 0.02 * noise, 3)
        if waited > 0:
            wish, waited = rng.normal(0, 0.004, 3), waited - 1
        elif rng.random() < 0.008 * noise:
            waited = int(rng.integers(2, 6))
        spin = np.clip(2 * (turn_goal - turn), -1, 1) + rng.normal(0, 0.02, 3)
        command = 1.0 if close else -1.0
        rows.append(
            (position.copy(), velocity.copy(), turn.copy(), grip, held.copy(), np.concatenate([wish, spin, [command]]))
        )
        velocity = 0.25 * velocity + 0.75 * wish
        position = position + DT * velocity
        turn = turn + DT * spin
        grip += 0.35 * ((command > 0) - grip)
        if grip > 0.6 and close:
            held = held + (position - held) * 0.9
        reached = np.linalg.norm(target - position) < 0.015 and (not close or grip > 0.8)
        at += bool(reached)
        if at == len(way):
            if len(rows) % chunk == 0 and len(rows) >= 3 * chunk:
                break
            at -= 1
    T = len(rows)
    column = [np.stack([np.atleast_1d(row[k]) for row in rows]) for k in range(6)]
    sensed = lambda values, size: values + rng.normal(0, size, values.shape)  # noqa: E731
    state = {
        "eef_pos": sensed(column[0], 3e-4),
        "eef_rot": sensed(column[2], 1e-3),
        "joint_pos": sensed(column[0] @ lever + joint_offset + 0.3 * column[2] @ lever[:3], 1e-3)[:, :joints],
        "gripper": sensed(0.04 * (1 - column[3]), 2e-5),
        "object": sensed(column[4], 3e-4),
    }
    frames = _draw(rng, column[0], column[4], column[3][:, 0]) if images else {}
    return Recording(name, task, state, column[5], frames, np.arange(T) * DT)


def _jacobian() -> np.ndarray:
    return np.random.default_rng(7).normal(0, 1.5, (3, 7))


def _draw(rng: np.random.Generator, hand: np.ndarray, cube: np.ndarray, grip: np.ndarray) -> dict[str, np.ndarray]:
    """Two views: from the front with a light table, from the side with a darker one."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    light = rng.uniform(0.9, 1.1)
    views = {}
    for name, (across, up), base in (("front", (1, 2), 140.0), ("side", (0, 2), 80.0)):
        back = (base + (60 * x if name == "front" else 80 * (1 - y)))[None] * light
        picture = np.broadcast_to(back, (len(hand), SIZE, SIZE)).copy()
        for where, color, wide in ((hand, -70.0, 0.09), (cube, 60.0, 0.06)):
            u = 0.5 + 0.9 * (where[:, across] - (0.3 if across == 0 else 0.0))
            v = 0.85 - 1.4 * where[:, up]
            blob = np.exp(-(np.square(x[None] - u[:, None, None]) + np.square(y[None] - v[:, None, None])) / wide**2)
            picture += color * blob
        picture = picture + rng.normal(0, 1.5, picture.shape)
        views[name] = np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, -1)
    return views


def record_many(
    seed: int, episodes: int, tasks: int = 3, images: bool = False, joints: int = 7, chunk: int = 1
) -> list[Recording]:
    """A clean set: several tasks, operators of different quality."""
    rng = np.random.default_rng(seed)
    skill = rng.uniform(0.6, 1.8, 5)
    return [
        record(
            rng,
            f"episode_{i:06d}",
            TASKS[int(rng.integers(tasks))],
            images,
            float(skill[int(rng.integers(5))]),
            joints,
            chunk,
        )
        for i in range(episodes)
    ]
