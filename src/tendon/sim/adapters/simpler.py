"""SimplerEnv: Google robot and WidowX in SAPIEN, which needs a GPU; ``simpler_env`` is not on the package index.

``task`` is one of its environments, such as ``widowx_carrot_on_plate``; the seed chooses the episode id, ``seed`` modulo
``options.episodes`` (24). Reward 1 where the object was grasped, which is the benchmark's partial success. ``options``:
``episodes``, ``parts`` (the action is told as delta_ee_pos, delta_ee_rot, gripper), ``sticky_gripper`` (steps that a gripper
command is repeated: Google robot 10, WidowX 1).
Observations: ``state`` (hand and gripper, 7), ``ee_pos``, ``ee_rot``, ``gripper``, ``<camera>_image``: ``image`` or ``image_0``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..protocol import Array, Refused

NUMERICS = 1

EPISODES = 24
PARTS = {"delta_ee_pos": 3, "delta_ee_rot": 3, "gripper": 1}
CONTROL_HZ = {"google_robot": 3, "widowx": 5}
STICKY = {"google_robot": 10, "widowx": 1}
CAMERA = {"google_robot": "image", "widowx": "image_0"}
GRASPED = ("is_src_obj_grasped", "consecutive_grasp", "grasped")


class Adapter:
    """See sim/guest.py for what each method is asked."""

    def make(
        self, task: str, options: dict[str, Any], fps: float, cameras: tuple[str, ...], size: tuple[int, int]
    ) -> dict[str, Any]:
        """One environment."""
        robot = next((name for name in CONTROL_HZ if task.startswith(name)), "")
        unknown = sorted(set(options) - {"episodes", "parts", "sticky_gripper"})
        if not robot:
            raise Refused(f"simpler has no task {task!r}", f"a name that begins with {' or '.join(CONTROL_HZ)}")
        if unknown:
            raise Refused(f"simpler has no option {unknown[0]!r}", "env.options={episodes: 24, parts: true}")
        if fps != CONTROL_HZ[robot]:
            raise Refused(
                f"{robot} runs at {CONTROL_HZ[robot]} steps a second, asked for {fps:g}", f"env.fps={CONTROL_HZ[robot]}"
            )
        if any(camera != CAMERA[robot] for camera in cameras):
            raise Refused(f"{robot} has one camera, {CAMERA[robot]}", f"env.cameras names {', '.join(cameras)}")
        import simpler_env

        self.env = simpler_env.make(task)
        self.camera = CAMERA[robot]
        self.num_episodes = int(options.get("episodes", EPISODES))
        self.sticky, self.parted = int(options.get("sticky_gripper", STICKY[robot])), bool(options.get("parts"))
        return {"cameras": [self.camera], **({"action": PARTS} if self.parted else {"action_dim": sum(PARTS.values())})}

    def reset(self, seed: int) -> tuple[dict[str, Array], str]:
        """The episode of this seed."""
        raw, _ = self.env.reset(options={"obj_init_options": {"episode_id": seed % self.num_episodes}})
        self.closing, self.held = 0.0, 0
        return self._observe(raw), str(self.env.get_language_instruction())

    def step(self, action: Any) -> tuple[dict[str, Array], float, bool, bool, str]:
        """One control step; the instruction of a long task may change."""
        values = np.concatenate([np.atleast_1d(action[part]) for part in PARTS]) if isinstance(action, dict) else action
        moves = np.array(values, np.float64)
        moves[-1] = self._gripper(2 * float(moves[-1] > 0.5) - 1)
        raw, _, done, truncated, info = self.env.step(moves)
        stats = {**info.get("episode_stats", {}), **info}
        grasped = any(bool(stats.get(name, False)) for name in GRASPED)
        success = bool(info.get("success", done))
        told = str(self.env.get_language_instruction())
        return self._observe(raw), float(grasped or success), success, bool(done or truncated), told

    def render(self, width: int, height: int, camera: str) -> Array:
        """The view of its camera, as large as it is."""
        return self._image(self.raw)

    def close(self) -> None:
        """Let the simulator go."""
        if hasattr(self, "env"):
            self.env.close()

    def _gripper(self, command: float) -> float:
        """A change of the command is repeated for some steps."""
        if self.held:
            self.held -= 1
        elif command != self.closing:
            self.closing, self.held = command, self.sticky - 1
        return self.closing

    def _image(self, raw: Any) -> Array:
        from simpler_env.utils.env.observation_utils import get_image_from_maniskill2_obs_dict

        frame: Array = np.asarray(get_image_from_maniskill2_obs_dict(self.env, raw), np.uint8)
        return frame

    def _observe(self, raw: Any) -> dict[str, Array]:
        self.raw = raw
        state = np.asarray(raw["agent"]["eef_pos"], np.float64).reshape(-1)[:7]
        parts = {"ee_pos": state[:3], "ee_rot": state[3:6], "gripper": state[6:7]}
        return {"state": state, **parts, f"{self.camera}_image": self._image(raw)}
