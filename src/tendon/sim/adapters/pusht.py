"""gym-pusht 0.1.8: a round agent pushes a T onto its mark, 10 steps a second; an action is where the agent should be.

Success is the simulator's own: more than 95 % of the mark is covered, which also ends the episode. Observations:
``agent_pos`` (2), ``environment_state`` (8 corners of the T, x and y), ``state`` (agent, T's position and angle), and
``top_image``. The expert is a planner that tries pushes in a copy of the physics; noise 0.05 moves its targets by 2 pixels.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..experts.pusht import PushTExpert
from ..protocol import Array, Refused
from ..quick_pusht import quick_pusht

NUMERICS = 1
EXPERT_NUMERICS = {"PushT-v0": 3}  # by task: of the file in experts/
IMPORTS = ("gym_pusht.envs.pusht",)  # what make() imports: see guest.preload

TASK, CAMERA, FPS = "PushT-v0", "top", 10
REWARD_DIGITS = 9  # after the point
SMALLEST_CROSS = 96  # pixels; gym-pusht draws a cross of 0 pixels on less, which OpenCV refuses
SLIPPERY = 0.01  # of its speed the T keeps in a second, where a table grips less


class Adapter:
    """See sim/guest.py for what each method is asked, sim/perturbations.py for the last few."""

    FLAT_PICTURES = True
    PIXEL = 1.0  # of 512 pixels, or a hundredth of a radian
    SENSOR_NOISE = 3.0  # of 512 pixels
    ACTION_NOISE = 10.0
    skips_pictures = False  # of the next observation, as nobody looks at them

    def make(
        self,
        task: str,
        options: dict[str, Any],
        fps: float,
        cameras: tuple[str, ...],
        size: tuple[int, int],
        sizes: dict[str, tuple[int, int]],
    ) -> dict[str, Any]:
        """Only task ``PushT-v0``, only camera ``top``, no options."""
        if task != TASK:
            raise Refused(f"pusht has no task {task!r}", f"env.task={TASK}")
        if options:
            raise Refused(f"pusht has no options, given: {', '.join(sorted(options))}", "env.options={}")
        if fps != FPS:
            raise Refused(f"PushT runs at {FPS} steps a second, asked for {fps:g}", f"env.fps={FPS}")
        for camera in cameras:
            if camera != CAMERA:
                raise Refused(f"pusht has no camera {camera!r}", f"use the camera {CAMERA} (observation top_image)")
        self.sizes = sizes
        self.env: Any = quick_pusht()
        return {"action_dim": 2, "cameras": [CAMERA]}

    def reset(self, seed: int) -> dict[str, Array]:
        """The episode of this seed, as ``gymnasium.make("gym_pusht/PushT-v0").reset(seed=seed)`` starts it."""
        self.env.reset(seed=seed)
        return self._observe()

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool]:
        """Move for 0.1 s; the reward is the covered share of the mark over 0.95, at most 1.

        Its last bits differ from process to process, as the library of polygons adds areas in the order of their addresses.
        """
        _, reward, terminated, _, info = self.env.step(np.asarray(action, np.float64))
        return self._observe(), round(float(reward), REWARD_DIGITS), bool(info["is_success"]), bool(terminated)

    def reset_expert(self, seed: int, noise: float) -> None:
        """The planner of experts/pusht.py; noise 0.05 moves its targets by 2 pixels."""
        self.scripted = PushTExpert(self.env, seed, noise)

    def expert(self) -> Array:
        """The planner's next target."""
        return self.scripted.act()

    def state(self, texts: bool) -> tuple[Array, str, str]:
        """Positions, angle and velocities; a gym environment for robomimic (type 2)."""
        agent, block = self.env.agent, self.env.block
        moving = (*agent.velocity, *block.velocity, block.angular_velocity)
        states = np.array([*agent.position, *block.position, block.angle, *moving])
        kwargs = {"control_freq": FPS, "obs_type": "state"}
        env_args = {"env_name": "gym_pusht/PushT-v0", "env_version": "0.1.8", "type": 2, "env_kwargs": kwargs}
        return states, "", json.dumps(env_args) if texts else ""

    def render(self, width: int, height: int, camera: str) -> Array:
        """The table, with a cross where the agent should be on frames that are not tiny."""
        if camera not in ("", CAMERA):
            raise Refused(f"pusht has no camera {camera!r}", f"use the camera {CAMERA}")
        drawn = min(width, height) >= SMALLEST_CROSS
        frame: Array = self.env._get_img(self.env._draw(), width=width, height=height, render_action=drawn)
        return frame

    def snapshot(self) -> Array:
        """All that is drawn: agent, T, and where the agent should be."""
        agent, block, asked = self.env.agent, self.env.block, self.env._last_action
        cross = agent.position if asked is None else asked
        return np.array([*agent.position, *block.position, 100 * block.angle, *cross, asked is not None])

    def show(self, snapshot: Array) -> None:
        """Put them there; nothing is simulated."""
        agent, block = self.env.agent, self.env.block
        agent.position = tuple(snapshot[:2])
        block.angle = float(snapshot[4]) / 100
        block.position = tuple(snapshot[2:4])
        self.env._last_action = np.array(snapshot[5:7]) if snapshot[7] else None
        self.env.space.reindex_shapes_for_body(block)

    def close(self) -> None:
        """Let the simulator go."""
        if hasattr(self, "env"):
            self.env.close()

    def look(self, moved: bool) -> dict[str, Array]:
        """What is observed now."""
        return self._observe()

    def stay(self) -> Array:
        """The agent should be where it is."""
        return np.array(self.env.agent.position)

    def change_physics(self, mass: float, friction: float) -> str:
        """Until the next reset the T slides on when it is let go, where else it stops at once; its weight is felt by nobody."""
        if mass != 1:
            return "the agent pushes with any force, so a heavier T moves the same"
        self.env.space.damping = SLIPPERY
        return ""

    def shift_start(self, rng: np.random.Generator) -> None:
        """The T lies elsewhere, up to 30 pixels and 0.3 rad away, with its middle where episodes have none too."""
        block = self.env.block
        block.position = tuple(np.clip(np.array(block.position) + rng.uniform(-30, 30, 2), 90, 420))
        block.angle += rng.uniform(-0.3, 0.3)
        self.env.space.step(self.env.dt)

    def _observe(self) -> dict[str, Array]:
        env = self.env
        observation = {
            "agent_pos": np.array(env.agent.position),
            "environment_state": env.keypoints(),
            "state": env.get_obs(),
        }
        for camera, (height, width) in () if self.skips_pictures else self.sizes.items():
            observation[f"{camera}_image"] = env._get_img(env._draw(), width=width, height=height)
        return observation
