"""A point mass that must reach a target: numpy only, in every image, for first runs and tests.

The mass is pushed by a bounded force and braked by the air; where it starts, where the target is and which way a
constant wind blows come from the seed. The wind is felt but not seen, so only a policy that looks at where it is gets
there.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..protocol import Array, Refused

NUMERICS = 1
EXPERT_NUMERICS = {"Reach": 1}  # by task

FORCE = 3.0  # m/s^2 at action 1
DRAG_PER_S = 4.0
WIND = 0.25  # m/s^2 at most
RADIUS = 0.06  # m, success
ARENA = 1.0  # half side in m
BORDER = 0.98  # m from the middle the wall begins, where it is drawn
SUBSTEPS = 10


class Adapter:
    """See sim/guest.py for what each method is asked, sim/perturbations.py for the last few."""

    FLAT_PICTURES = True
    PIXEL = 4e-3  # m that people cannot see
    SENSOR_NOISE = 0.01  # m
    ACTION_NOISE = 0.2
    mass, friction = 1.0, 1.0
    skips_pictures = False  # of the next observation, as nobody looks at them

    def make(
        self, task: str, options: dict[str, Any], fps: float, cameras: tuple[str, ...], size: tuple[int, int]
    ) -> dict[str, Any]:
        """Only task ``Reach``, only camera ``top``, no options."""
        if task != "Reach":
            raise Refused(f"reach has no task {task!r}", "env.task=Reach")
        if options:
            raise Refused(f"reach has no options, given: {', '.join(sorted(options))}", "env.options={}")
        wrong = [camera for camera in cameras if camera != "top"]
        if wrong:
            raise Refused(f"reach has no camera {wrong[0]!r}", "use the camera top (observation top_image)")
        self.fps, self.cameras, self.size = fps, cameras, size
        return {"action_dim": 2, "cameras": ["top"]}

    def reset(self, seed: int) -> dict[str, Array]:
        """Start, target and wind of this seed; start and target are at least 0.5 m apart."""
        rng = np.random.default_rng(seed)
        self.target, self.position = rng.uniform(-0.8, 0.8, (2, 2))
        while np.linalg.norm(self.target - self.position) < 0.5:
            self.position = rng.uniform(-0.8, 0.8, 2)
        angle = rng.uniform(0, 2 * np.pi)
        self.wind = WIND * rng.uniform() * np.array([np.cos(angle), np.sin(angle)])
        self.velocity = np.zeros(2)
        self.mass = self.friction = 1.0
        return self._observe()

    def goal(self) -> dict[str, Array]:
        """At rest in the target."""
        before, self.position = self.position, self.target
        observed = self._observe()
        self.position = before
        return observed

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool]:
        """Push for 1/fps seconds; reward 1 in the target."""
        force = FORCE / self.mass * np.clip(np.asarray(action, np.float64), -1, 1)
        drag = DRAG_PER_S * self.friction
        dt = 1 / self.fps / SUBSTEPS
        for _ in range(SUBSTEPS):
            self.velocity = self.velocity + dt * (force + self.wind - drag * self.velocity)
            self.position = self.position + dt * self.velocity
            outside = np.abs(self.position) > ARENA
            self.velocity[outside] = 0.0
            self.position = np.clip(self.position, -ARENA, ARENA)
        success = bool(np.linalg.norm(self.target - self.position) < RADIUS)
        return self._observe(), float(success), success, False

    def reset_expert(self, seed: int, noise: float) -> None:
        """A PD controller; ``noise`` is the standard deviation added to its action."""
        self.expert_rng = np.random.default_rng([seed, 1])
        self.noise = noise

    def expert(self) -> Array:
        """Towards the target, braking."""
        action = 5.0 * (self.target - self.position) - 0.5 * self.velocity
        noisy: Array = np.clip(np.clip(action, -1, 1) + self.noise * self.expert_rng.standard_normal(2), -1, 1)
        return noisy

    def state(self, texts: bool) -> tuple[Array, str, str]:
        """The physical state; a gym-like environment for robomimic (type 2)."""
        states = np.concatenate([self.position, self.velocity, self.target, self.wind])
        env_args = {"env_name": "Reach", "env_version": "1", "type": 2, "env_kwargs": {"fps": self.fps}}
        return states, "", json.dumps(env_args) if texts else ""

    def render(self, width: int, height: int, camera: str) -> Array:
        """The arena from above: target green, mass blue."""
        if camera not in ("", "top"):
            raise Refused(f"reach has no camera {camera!r}", "use the camera top")
        x, y = np.linspace(-ARENA, ARENA, width), np.linspace(ARENA, -ARENA, height)
        frame = np.full((height, width, 3), 245, np.uint8)
        frame[np.abs(y) > BORDER] = frame[:, np.abs(x) > BORDER] = (90, 90, 90)
        for (left, up), radius, colour in (
            (self.target, RADIUS + 0.02, (0, 158, 115)),
            (self.position, 0.05, (0, 114, 178)),
        ):
            columns, rows = np.flatnonzero(np.abs(x - left) < radius), np.flatnonzero(np.abs(y - up) < radius)
            inside = np.hypot(x[columns] - left, (y[rows] - up)[:, None]) < radius
            down, along = np.nonzero(inside)
            frame[rows[down], columns[along]] = colour
        return frame

    def snapshot(self) -> Array:
        """All that is drawn."""
        return np.concatenate([self.position, self.target])

    def show(self, snapshot: Array) -> None:
        """Mass and target where they were."""
        self.position, self.target = snapshot[:2], snapshot[2:]

    def close(self) -> None:
        """Nothing to let go of."""

    def look(self, moved: bool) -> dict[str, Array]:
        """What is observed now."""
        return self._observe()

    def stay(self) -> Array:
        """No push."""
        return np.zeros(2)

    def change_physics(self, mass: float, friction: float) -> str:
        """Until the next reset: the mass, and how much the air brakes. Nothing, or why it cannot be."""
        self.mass, self.friction = mass, friction
        return ""

    def shift_start(self, rng: np.random.Generator) -> None:
        """Begin in motion, which no episode does."""
        self.velocity = rng.uniform(-0.6, 0.6, 2)

    def _observe(self) -> dict[str, Array]:
        observation = {
            "agent_pos": self.position.copy(),
            "agent_vel": self.velocity.copy(),
            "target_pos": self.target.copy(),
        }
        for camera in () if self.skips_pictures else self.cameras:
            observation[f"{camera}_image"] = self.render(self.size[1], self.size[0], camera)
        return observation
