"""gym-aloha 0.1.1: two ViperX arms on a table, 50 steps a second; an action is the 14 joints' targets, grippers from 0 to 1.

Tasks ``AlohaTransferCube-v0`` and ``AlohaInsertion-v0``. Success is the simulator's own: reward 4 (the left hand holds the cube
in the air; the peg touches the pin in the socket), which also ends the episode. Noise 0.05 moves the expert's way-points in the
air by 5 mm. Only cameras that are read are drawn.
Observations: ``agent_pos`` (14), ``agent_vel`` (14), ``environment_state`` (position and quaternion of the cube; of peg and socket),
``top_image``, ``angle_image``, ``front_close_image``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..experts.aloha import AlohaExpert
from ..protocol import Array, Refused

NUMERICS = 1
EXPERT_NUMERICS = {"AlohaTransferCube-v0": 1, "AlohaInsertion-v0": 1}  # by task: of the file in experts/
IMPORTS = ("dm_control.mujoco", "gym_aloha.tasks.sim")  # what make() imports: see guest.preload

TASKS = {"AlohaTransferCube-v0": "transfer_cube", "AlohaInsertion-v0": "insertion"}
CAMERAS = ("top", "angle", "front_close")
FPS = 50
EXPERT_STEPS = 400
SUCCESS_REWARD = 4


class Adapter:
    """See sim/guest.py for what each method is asked, sim/perturbations.py for the last few."""

    SENSOR_NOISE = 0.01  # rad and m
    ACTION_NOISE = 0.02
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
        """One of the two tasks, no options."""
        if task not in TASKS:
            raise Refused(f"aloha has no task {task!r}", f"env.task={' or '.join(TASKS)}")
        if options:
            raise Refused(f"aloha has no options, given: {', '.join(sorted(options))}", "env.options={}")
        if fps != FPS:
            raise Refused(f"Aloha runs at {FPS} steps a second, asked for {fps:g}", f"env.fps={FPS}")
        for camera in cameras:
            self._known(camera)
        self.task, self.sizes = task, sizes
        self.env = _environment(TASKS[task])
        self.on_build(self.env.physics.model.ptr)
        self.pulled: Any = None  # copies for the expert, made when it is asked for
        self.driven: Any = None
        return {"action_dim": 14, "cameras": list(CAMERAS)}

    def reset(self, seed: int) -> dict[str, Array]:
        """The episode of this seed, as gym_aloha draws it."""
        from gym_aloha import utils
        from gym_aloha.tasks import sim

        is_cube = TASKS[self.task] == "transfer_cube"
        pose = utils.sample_box_pose(seed) if is_cube else np.concatenate(utils.sample_insertion_pose(seed))
        sim.BOX_POSE[0] = pose  # the package reads it from there
        self.env.reset()
        return self._observe()

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool]:
        """One fiftieth of a second."""
        reward = float(self.env.step(np.asarray(action, np.float64)).reward)
        success = reward == SUCCESS_REWARD
        return self._observe(), reward, success, success

    def reset_expert(self, seed: int, noise: float) -> None:
        """The way-points of experts/aloha.py; noise 0.05 moves those in the air by 5 mm."""
        if self.pulled is None:
            self.pulled = _environment(f"end_effector_{TASKS[self.task]}")
            self.driven = _environment(TASKS[self.task]) if TASKS[self.task] == "insertion" else None
        self.pulled.task.things = self._things()
        self.scripted = AlohaExpert(self.pulled, self.driven, EXPERT_STEPS, seed, noise)

    def expert(self) -> Array:
        """The next targets of the joints."""
        return self.scripted.act()

    def state(self, texts: bool) -> tuple[Array, str, str]:
        """Positions and velocities of all joints; a gym environment for robomimic (type 2)."""
        data = self.env.physics.data
        states = np.concatenate([data.qpos, data.qvel])
        name = f"gym_aloha/{self.task}"
        env_args = {"env_name": name, "env_version": "0.1.1", "type": 2, "env_kwargs": {"control_freq": FPS}}
        return states, "", json.dumps(env_args) if texts else ""

    def render(self, width: int, height: int, camera: str) -> Array:
        """The view of a camera."""
        self._known(camera or CAMERAS[0])
        return self._draw(width, height, camera or CAMERAS[0])

    def close(self) -> None:
        """Let MuJoCo go."""
        for name in ("env", "pulled", "driven"):
            if getattr(self, name, None) is not None:
                getattr(self, name).close()

    def mujoco(self) -> tuple[Any, Any]:
        """Model and data."""
        return self.env.physics.model.ptr, self.env.physics.data.ptr

    def look(self, moved: bool) -> dict[str, Array]:
        """What is observed now."""
        return self._observe()

    def stay(self) -> Array:
        """The joints' targets are where they are; grippers as they are."""
        positions: Array = np.array(self.env.task.get_qpos(self.env.physics), np.float64)
        return positions

    def _draw(self, width: int, height: int, camera: str) -> Array:
        more: dict[str, Any] = {}
        if self.decorate is not None:
            more["scene_callback"] = lambda physics, scene: self.decorate(scene)
        frame: Array = self.env.physics.render(height=height, width=width, camera_id=camera, **more)
        return frame

    def _known(self, camera: str) -> None:
        if camera not in CAMERAS:
            raise Refused(f"aloha has no camera {camera!r}", f"one of {', '.join(CAMERAS)}")

    def _things(self) -> Array:
        things: Array = self.env.physics.data.qpos[16:].copy()
        return things

    def _observe(self) -> dict[str, Array]:
        task, physics = self.env.task, self.env.physics
        sizes = () if self.skips_pictures else self.sizes.items()
        images = {f"{camera}_image": self._draw(width, height, camera) for camera, (height, width) in sizes}
        joints = {"agent_pos": task.get_qpos(physics), "agent_vel": task.get_qvel(physics)}
        return {**joints, "environment_state": self._things(), **images}


def _environment(task_name: str) -> Any:
    """A task of the package as its own environment builds it, except that it draws nothing by itself."""
    from dm_control import mujoco
    from dm_control.rl import control
    from gym_aloha.constants import ASSETS_DIR, DT
    from gym_aloha.tasks import sim, sim_end_effector

    tasks = {
        "transfer_cube": sim.TransferCubeTask,
        "insertion": sim.InsertionTask,
        "end_effector_transfer_cube": sim_end_effector.TransferCubeEndEffectorTask,
        "end_effector_insertion": sim_end_effector.InsertionEndEffectorTask,
    }

    base: Any = tasks[task_name]

    class Undrawn(base):  # type: ignore[misc]
        things: Array  # where the objects lie, in the copy with pulled hands

        def get_observation(self, physics: Any) -> dict[str, Array]:
            """Nothing: the adapter observes."""
            return {}

        def initialize_episode(self, physics: Any) -> None:
            """In the copy with pulled hands the objects lie where they lie in the other one."""
            super().initialize_episode(physics)
            if task_name.startswith("end_effector"):
                physics.data.qpos[16:] = self.things

    physics = mujoco.Physics.from_xml_path(str(ASSETS_DIR / f"bimanual_viperx_{task_name}.xml"))
    return control.Environment(physics, Undrawn(), float("inf"), control_timestep=DT, flat_observation=False)
