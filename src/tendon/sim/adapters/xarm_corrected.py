"""gym-xarm 0.1.1's Lift with two corrections, without which no episode of it succeeds or lasts as long as it says.

1. Height: the simulator compares the cube's height above the table with a goal measured from the floor, so the cube would
   have to rise 0.78 m. Here both are measured from the table: 0.15 m above where the cube lies.
2. Time: a control step is 20 steps of the physics (0.04 s, 25 a second, as the simulator declares) and not 2.
Success is the simulator's rule with the first correction. Numbers of FOWM or TD-MPC on xArm are of another environment.
Observations: ``agent_pos`` (4), ``state`` (28: the simulator's vector with the goal's height corrected), ``camera0_image``.
Noise is the standard deviation added to the expert's three motions.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..experts.xarm_lift import XarmLiftExpert
from ..protocol import Array, Refused

NUMERICS = 1
EXPERT_NUMERICS = {"XarmLiftCorrected": 1}  # by task: of the file in experts/
IMPORTS = ("gym_xarm.tasks",)  # what make() imports: see guest.preload

TASK, CAMERA, FPS, SUBSTEPS = "XarmLiftCorrected", "camera0", 25, 20


class Adapter:
    """See sim/guest.py for what each method is asked, sim/perturbations.py for the last few."""

    SENSOR_NOISE = 0.005  # m
    ACTION_NOISE = 0.1
    on_build = staticmethod(lambda model: None)  # each model before anything of it is drawn
    decorate: Any = None  # each scene before it is drawn
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
        """Only task ``XarmLiftCorrected``, only camera ``camera0``, no options."""
        if task != TASK:
            why = (
                " (as shipped it cannot be solved, see the text at the top of this simulator)" if "Lift" in task else ""
            )
            raise Refused(f"xarm_corrected has no task {task!r}{why}", f"env.task={TASK}")
        if options:
            raise Refused(f"xarm_corrected has no options, given: {', '.join(sorted(options))}", "env.options={}")
        if fps != FPS:
            raise Refused(f"xArm runs at {FPS} steps a second, asked for {fps:g}", f"env.fps={FPS}")
        for camera in cameras:
            self._known(camera)
        self.sizes = sizes
        self.env = _lift()
        self.on_build(self.env.model)
        self.renderers: dict[tuple[int, int], Any] = {}
        return {"action_dim": 4, "cameras": [CAMERA]}

    def reset(self, seed: int) -> dict[str, Array]:
        """The episode of this seed: the simulator's own draws, from a state in which nothing moves yet."""
        import mujoco

        mujoco.mj_resetData(self.env.model, self.env.data)
        self.env.reset(seed=seed)
        return self._observe()

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool]:
        """One twenty-fifth of a second; success ends the episode."""
        import mujoco

        executed = np.clip(np.asarray(action, np.float64), -1, 1)
        self.env._action = executed
        self.env._apply_action(executed)
        mujoco.mj_step(self.env.model, self.env.data, nstep=SUBSTEPS)
        mujoco.mj_forward(self.env.model, self.env.data)
        success = bool(self.env.is_success())
        return self._observe(), float(self.env.get_reward()), success, success

    def reset_expert(self, seed: int, noise: float) -> None:
        """The controller of experts/xarm_lift.py; ``noise`` is the standard deviation added to the three motions."""
        self.scripted = XarmLiftExpert(seed, noise)

    def expert(self) -> Array:
        """The action for where cube and gripper are now."""
        return self.scripted.act(self.env.obj, self.env.eef, float(self.env.gripper_angle[0]))

    def state(self, texts: bool) -> tuple[Array, str, str]:
        """Positions and velocities of all joints; a gym environment for robomimic (type 2)."""
        states = np.concatenate([self.env.data.qpos, self.env.data.qvel])
        env_args = {"env_name": TASK, "env_version": "gym-xarm 0.1.1", "type": 2, "env_kwargs": {"control_freq": FPS}}
        return states, "", json.dumps(env_args) if texts else ""

    def render(self, width: int, height: int, camera: str) -> Array:
        """The simulator's only view."""
        self._known(camera or CAMERA)
        return self._draw(width, height)

    def close(self) -> None:
        """Let the drawing contexts go."""
        for renderer in getattr(self, "renderers", {}).values():
            getattr(renderer, "close", lambda: None)()  # which came later than the version that is pinned

    def mujoco(self) -> tuple[Any, Any]:
        """Model and data."""
        return self.env.model, self.env.data

    def look(self, moved: bool) -> dict[str, Array]:
        """What is observed now."""
        return self._observe()

    def stay(self) -> Array:
        """No motion; the gripper neither opens nor closes."""
        return np.zeros(4)

    def _known(self, camera: str) -> None:
        if camera != CAMERA:
            raise Refused(f"xarm_corrected has no camera {camera!r}", f"use {CAMERA} (observation {CAMERA}_image)")

    def _draw(self, width: int, height: int) -> Array:
        import mujoco

        if (width, height) not in self.renderers:
            screen = self.env.model.vis.global_
            screen.offwidth, screen.offheight = max(screen.offwidth, width), max(screen.offheight, height)
            self.renderers[width, height] = mujoco.Renderer(self.env.model, height, width)
        renderer = self.renderers[width, height]
        renderer.update_scene(self.env.data, camera=CAMERA)
        if self.decorate is not None:
            self.decorate(renderer.scene)
        frame: Array = renderer.render()
        return frame

    def _observe(self) -> dict[str, Array]:
        observation = {"agent_pos": self.env.robot_state, "state": self.env._get_obs()}
        for camera, (height, width) in () if self.skips_pictures else self.sizes.items():
            observation[f"{camera}_image"] = self._draw(width, height)
        return observation


def _lift() -> Any:
    """The simulator's Lift, whose goal and cube are both measured from the table."""
    from gym_xarm.tasks import Lift

    class CorrectedLift(Lift):  # type: ignore[misc]
        _init_z: float

        def _initialize_renderer(self, renderer_type: str) -> None:
            """This adapter draws, and only what is read."""

        def _sample_goal(self) -> Any:
            goal = super()._sample_goal()
            self._init_z = self._init_z - self.center_of_table[2]
            return goal

    return CorrectedLift(obs_type="state")
