"""Meta-World 3.1.1: 50 tasks of one Sawyer arm, 80 steps a second; the task's name is what the robot is told.

``task`` is a name (``reach-v3``), several joined by ``+``, or ``MT10`` and ``MT50``: with several, the seed chooses the
episode's task, ``seed`` modulo their number. Goals are drawn by the seed and seen. Success is the simulator's own.
``options``: ``instructions``, texts to say instead of a task's name, such as ``{reach-v3: touch the red dot}``.
Observations: ``agent_pos`` (hand and gripper, 4), ``environment_state`` (objects, the step before, goal, 35), ``<camera>_image``.
"""

from __future__ import annotations

import difflib
import json
import warnings
from typing import Any

import numpy as np

from ..protocol import Array, Refused

NUMERICS = 1
EXPERT_NUMERICS = {"reach-v3": 1}  # by task: of the package's own experts, which its version is part of
IMPORTS = ("metaworld",)  # what make() imports: see guest.preload

FPS = 80
HAND = 4  # numbers of agent_pos
CAMERAS = ("corner", "corner2", "corner3", "corner4", "topview", "gripperPOV", "behindGripper")
TURNED = ("corner2",)  # hung upside down in the model
SETS = ("MT10", "MT50")


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
        """One task or several; each is built when an episode first needs it."""
        self.tasks = _tasks(task)
        unknown = sorted(set(options) - {"instructions"})
        if unknown:
            raise Refused(
                f"metaworld has no option {unknown[0]!r}", "env.options.instructions={reach-v3: touch the dot}"
            )
        said = dict(options.get("instructions") or {})
        strangers = sorted(set(said) - set(self.tasks))
        if strangers:
            raise Refused(
                f"instructions name {strangers[0]!r}, which is no task here", f"one of {', '.join(self.tasks)}"
            )
        if fps != FPS:
            raise Refused(f"Meta-World runs at {FPS} steps a second, asked for {fps:g}", f"env.fps={FPS}")
        for camera in cameras:
            _demand_camera(camera)
        self.said = {name: str(said.get(name, words_of(name))) for name in self.tasks}
        self.sizes = sizes
        self.environments: dict[str, Any] = {}
        self.renderers: dict[tuple[str, int, int], Any] = {}
        self._enter(self.tasks[0])
        return {"action_dim": 4, "cameras": list(CAMERAS)}

    def reset(self, seed: int) -> tuple[dict[str, Array], str]:
        """The episode of this seed, whatever ran before."""
        self._enter(self.tasks[seed % len(self.tasks)])
        self.env.seed(seed)
        self.raw, _ = self.env.reset()
        return self._observe(), self.said[self.name]

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool]:
        """One eightieth of a second; the task never says done by itself."""
        self.env.curr_path_length = 0  # env.episode_length ends an episode, not the package's 500 steps
        self.raw, reward, _, _, info = self.env.step(np.clip(np.asarray(action, np.float64), -1, 1))
        return self._observe(), float(reward), bool(info["success"]), False

    def reset_expert(self, seed: int, noise: float) -> None:
        """The package's scripted policy of the task; ``noise`` is the standard deviation added to its action."""
        from metaworld.policies import ENV_POLICY_MAP

        self.scripted = ENV_POLICY_MAP[self.name]()
        self.expert_rng = np.random.default_rng([seed, 1])
        self.noise = noise

    def expert(self) -> Array:
        """The expert's action for what was observed last."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its gains are clipped, at every step
            action = np.clip(self.scripted.get_action(self.raw), -1, 1)
        noisy: Array = np.clip(action + self.noise * self.expert_rng.standard_normal(4), -1, 1)
        return noisy

    def state(self, texts: bool) -> tuple[Array, str, str]:
        """Positions and velocities of all joints; a gym environment for robomimic (type 2)."""
        states = np.concatenate([self.env.data.qpos, self.env.data.qvel])
        env_args = {"env_name": self.name, "env_version": "3.1.1", "type": 2, "env_kwargs": {"control_freq": FPS}}
        return states, "", json.dumps(env_args) if texts else ""

    def render(self, width: int, height: int, camera: str) -> Array:
        """The view of a camera for people: without shadows and reflections, four times as fast in software OpenGL."""
        return self._draw(width, height, camera or "corner2", faithful=False)

    def _draw(self, width: int, height: int, camera: str, faithful: bool) -> Array:
        """An upright frame; ``faithful``: as Meta-World draws it."""
        import mujoco

        _demand_camera(camera)
        key = (self.name, width, height)
        if key not in self.renderers:
            self.renderers[key] = mujoco.Renderer(self.env.model, height, width)
        renderer = self.renderers[key]
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = int(faithful)
        renderer.update_scene(self.env.data, camera=camera)
        if self.decorate is not None:
            self.decorate(renderer.scene)
        frame: Array = renderer.render()
        return frame[::-1, ::-1].copy() if camera in TURNED else frame

    def close(self) -> None:
        """Let MuJoCo go."""
        for renderer in self.__dict__.get("renderers", {}).values():
            renderer.close()
        for env in self.__dict__.get("environments", {}).values():
            env.close()

    def mujoco(self) -> tuple[Any, Any]:
        """Model and data of the current task."""
        return self.env.model, self.env.data

    def look(self, moved: bool) -> dict[str, Array]:
        """What is observed now, measured again only where things ``moved``; the step before is the same."""
        if moved:
            self.env._prev_obs = self.env._get_curr_obs_combined_no_goal()
            self.raw = self.env._get_obs()
        return self._observe()

    def stay(self) -> Array:
        """No motion."""
        return np.zeros(4)

    def _enter(self, name: str) -> None:
        """Make a task the current one."""
        if name not in self.environments:
            from metaworld.env_dict import ALL_V3_ENVIRONMENTS

            env = ALL_V3_ENVIRONMENTS[name]()
            env._freeze_rand_vec, env.seeded_rand_vec = False, True  # every reset draws, from the seed
            env._set_task_called = True
            env._partially_observable = False  # the goal is seen
            env.__dict__.pop("sawyer_observation_space", None)  # which was made for a goal that is not
            self.on_build(env.model)
            self.environments[name] = env
        self.name, self.env = name, self.environments[name]

    def _observe(self) -> dict[str, Array]:
        images = {
            f"{camera}_image": self._draw(width, height, camera, faithful=True)
            for camera, (height, width) in (() if self.skips_pictures else self.sizes.items())
        }
        return {"agent_pos": self.raw[:HAND].copy(), "environment_state": self.raw[HAND:].copy(), **images}


def words_of(task: str) -> str:
    """What the robot is told: ``faucet-open-v3`` is "faucet open"."""
    return task.removesuffix("-v3").replace("-", " ")


def _tasks(task: str) -> tuple[str, ...]:
    from metaworld import env_dict

    if task in SETS:
        return tuple(getattr(env_dict, f"{task}_V3"))
    known = sorted(env_dict.ALL_V3_ENVIRONMENTS)
    names = tuple(task.split("+"))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.3)
            raise Refused(
                f"metaworld has no task {name!r}",
                f"env.task={near[0]}" if near else f"{', '.join(SETS)}, {', '.join(known)}",
            )
    return names


def _demand_camera(camera: str) -> None:
    if camera not in CAMERAS:
        raise Refused(f"metaworld has no camera {camera!r}", f"one of {', '.join(CAMERAS)}")
