"""robosuite 1.5: one arm, its default composite controller, low-dimensional observations named as robomimic names them.

Frames are drawn by this adapter and not by robosuite's camera sensors, so a task without images needs no OpenGL
library. ``options``: ``robot`` (Panda), ``hard_reset`` (false; true rebuilds the model at every reset as robosuite
does by default: 0.2 s more an episode, and Lift draws the cube's size anew).
"""

from __future__ import annotations

import difflib
import json
from typing import Any

import numpy as np

from ..experts.can import CanExpert
from ..experts.lift import LiftExpert
from ..protocol import Array, Refused
from ..quick_view import QuickView

NUMERICS = 1
EXPERT_NUMERICS = {"Lift": 1, "PickPlaceCan": 1}  # by task: of the files in experts/
IMPORTS = ("robosuite", "robosuite.utils.binding_utils")  # what make() imports: see guest.preload

OPTIONS = {"robot": "Panda", "hard_reset": False}
CAMERAS = ("agentview", "robot0_eye_in_hand")
VISUAL = (1, 2)  # groups of geoms that are drawn: meshes, not what collides
EXPERTS: dict[str, tuple[Any, str]] = {"Lift": (LiftExpert, "cube_pos"), "PickPlaceCan": (CanExpert, "Can_pos")}
MAKE_SEED = 0  # what robosuite draws when a model is built (the size of Lift's cube) is the same in every guest


class Adapter:
    """See sim/guest.py for what each method is asked, sim/perturbations.py for the last few."""

    SENSOR_NOISE = 0.005  # m and the like
    ACTION_NOISE = 0.1
    on_build = staticmethod(lambda model: None)  # each model before anything of it is drawn
    decorate: Any = None  # each scene before it is drawn
    skips_pictures = False  # of the next observation, as nobody looks at them
    view: QuickView | None = None  # what people are shown

    def make(
        self,
        task: str,
        options: dict[str, Any],
        fps: float,
        cameras: tuple[str, ...],
        size: tuple[int, int],
        sizes: dict[str, tuple[int, int]],
    ) -> dict[str, Any]:
        """Build one environment; ``fps`` is its control frequency, ``sizes`` height and width of each camera."""
        import robosuite

        known = sorted(robosuite.ALL_ENVIRONMENTS)
        if task not in known:
            near = difflib.get_close_matches(task, known, 1, 0.3)
            raise Refused(
                f"robosuite has no task {task!r}", f"env.task={near[0]}" if near else f"one of {', '.join(known)}"
            )
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise Refused(f"unknown option {unknown[0]!r}", f"env.options knows {', '.join(sorted(OPTIONS))}")
        self.task, self.cameras, self.size, self.sizes = task, cameras, size, sizes
        self.env_kwargs = self._env_kwargs({**OPTIONS, **options}, fps)
        self.env = robosuite.make(task, **self.env_kwargs, seed=MAKE_SEED)
        self.on_build(self.env.sim.model._model)
        names = list(self.env.sim.model.camera_names)
        for camera in cameras:
            if camera not in names:
                raise Refused(f"{task} has no camera {camera!r}", f"one of {', '.join(names)}")
        return {"action_dim": int(self.env.action_dim), "cameras": [name for name in CAMERAS if name in names]}

    def reset(self, seed: int) -> dict[str, Array]:
        """The episode of this seed, whatever ran before in this process."""
        self.env.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self.raw = self.env.reset()
        if self.view is not None:
            self.view.forget()
        if self.env_kwargs["hard_reset"]:  # which built another model
            self.on_build(self.env.sim.model._model)
        return self._observe()

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool]:
        """One control step; the task never says done by itself."""
        self.raw, reward, done, _ = self.env.step(np.asarray(action, np.float64))
        return self._observe(), float(reward), bool(self.env._check_success()), bool(done)

    def render(self, width: int, height: int, camera: str) -> Array:
        """The view of a camera for people."""
        number = self._camera_number(camera or CAMERAS[0])
        model, data = self.mujoco()
        if self.view is None or self.view.model is not model:
            self.view = QuickView(model, VISUAL)
        return self.view.draw(data, number, width, height, self.decorate)

    def reset_expert(self, seed: int, noise: float) -> None:
        """Lift and Can have a scripted expert."""
        if self.task not in EXPERTS:
            raise Refused(
                f"there is no scripted expert for {self.task}", "use recorded demonstrations, env=lift or env=can"
            )
        make_expert, self.grasped = EXPERTS[self.task]
        self.scripted = make_expert(seed, noise)

    def expert(self) -> Array:
        """The expert's action for what was observed last."""
        seen = self.raw
        action: Array = self.scripted.act(seen[self.grasped], seen["robot0_eef_pos"], seen["robot0_gripper_qpos"])
        return action

    def state(self, texts: bool) -> tuple[Array, str, str]:
        """Flattened MuJoCo state; the model with paths from robosuite on, which robosuite completes on loading."""
        states = self.env.sim.get_state().flatten()
        if not texts:
            return states, "", ""
        import robosuite

        env_args = {
            "env_name": self.task,
            "env_version": robosuite.__version__,
            "type": 1,
            "env_kwargs": self.env_kwargs,
        }
        model = self.env.sim.model.get_xml().replace(robosuite.__path__[0] + "/", "robosuite/")
        return states, model, json.dumps(env_args, indent=4, sort_keys=True)

    def close(self) -> None:
        """Let MuJoCo go."""
        if self.view is not None:
            self.view.close()
        if hasattr(self, "env"):
            self.env.close()

    def mujoco(self) -> tuple[Any, Any]:
        """Model and data."""
        return self.env.sim.model._model, self.env.sim.data._data

    def look(self, moved: bool) -> dict[str, Array]:
        """What is observed now; measured again only where things ``moved``."""
        if moved:
            self.raw = self.env._get_observations(force_update=True)
        return self._observe()

    def stay(self) -> Array:
        """No motion; the gripper neither opens nor closes."""
        return np.zeros(self.env.action_dim)

    def _env_kwargs(self, options: dict[str, Any], fps: float) -> dict[str, Any]:
        from robosuite.controllers import load_composite_controller_config

        return {
            "robots": [options["robot"]],
            "controller_configs": load_composite_controller_config(robot=options["robot"]),
            "control_freq": fps,
            "hard_reset": bool(options["hard_reset"]),
            "has_renderer": False,
            "has_offscreen_renderer": False,
            "use_camera_obs": False,
            "use_object_obs": True,
            "reward_shaping": False,
            "ignore_done": True,
            "lite_physics": True,
            "camera_names": list(self.cameras or CAMERAS[:1]),
            "camera_heights": self.size[0],
            "camera_widths": self.size[1],
            "camera_depths": False,
        }

    def _observe(self) -> dict[str, Array]:
        """Names as in robomimic: ``object`` is all about the objects, what the robot feels is ``robot0_...``."""
        robot = {name: value for name, value in self.raw.items() if name.startswith("robot0_") and value.ndim == 1}
        robot.pop("robot0_proprio-state", None)
        images = {}
        for camera in () if self.skips_pictures else self.cameras:
            height, width = self.sizes[camera]
            images[f"{camera}_image"] = self._draw(width, height, camera)
        return {"object": self.raw["object-state"], **robot, **images}

    def _camera_number(self, camera: str) -> int:
        model = self.env.sim.model
        if camera not in model.camera_names:
            raise Refused(f"{self.task} has no camera {camera!r}", f"one of {', '.join(model.camera_names)}")
        return int(model.camera_name2id(camera))

    def _draw(self, width: int, height: int, camera: str) -> Array:
        """Upright frame, as robosuite's own camera sensor draws it."""
        from robosuite.utils.binding_utils import MjRenderContextOffscreen

        sim = self.env.sim
        if sim._render_context_offscreen is None:
            context = MjRenderContextOffscreen(sim, device_id=-1, max_width=width, max_height=height)
            context.vopt.geomgroup[0], context.vopt.geomgroup[1] = 0, 1  # visual meshes, not the collision ones
        sim._render_context_offscreen.gl_ctx.make_current()
        if self.decorate is not None:
            return self._draw_decorated(width, height, camera)
        frame: Array = sim.render(width=width, height=height, camera_name=camera)[::-1]
        return frame

    def _draw_decorated(self, width: int, height: int, camera: str) -> Array:
        """As robosuite draws, with more in the scene."""
        import mujoco

        sim, context = self.env.sim, self.env.sim._render_context_offscreen
        context.update_offscreen_size(
            max(width, sim.model.vis.global_.offwidth), max(height, sim.model.vis.global_.offheight)
        )
        context.cam.type, context.cam.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, sim.model.camera_name2id(camera)
        world = (sim.model._model, sim.data._data)
        mujoco.mjv_updateScene(*world, context.vopt, context.pert, context.cam, mujoco.mjtCatBit.mjCAT_ALL, context.scn)
        self.decorate(context.scn)
        mujoco.mjr_render(mujoco.MjrRect(0, 0, width, height), context.scn, context.con)
        pixels: Array = context.read_pixels(width, height)
        return pixels[::-1]
