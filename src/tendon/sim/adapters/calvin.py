"""CALVIN (mees/calvin): an episode is a chain of five instructions, 360 steps each; nothing of it is on the package index.

``calvin_env`` and ``calvin_agent`` of its repository must be importable where the guest runs. The chain is that of the seed among the 1000
of ``get_sequences``. The next instruction is said when a subtask is done; reward 1 for each, success when all five are. ``options``:
``dataset`` (its validation folder), ``parts`` (the action is told as delta_ee_pos, delta_ee_rot, gripper).
Observations: ``state`` (hand, 6), ``ee_pos``, ``ee_rot``, ``image_base_image`` (200), ``image_wrist_image`` (84).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..protocol import Array, Refused

NUMERICS = 1

NUM_CHAINS, STEPS_OF_SUBTASK = 1000, 360
PARTS = {"delta_ee_pos": 3, "delta_ee_rot": 3, "gripper": 1}
CAMERAS = {"image_base": "rgb_static", "image_wrist": "rgb_gripper"}
FPS = 30


class Adapter:
    """See sim/guest.py for what each method is asked."""

    def make(
        self,
        task: str,
        options: dict[str, Any],
        fps: float,
        cameras: tuple[str, ...],
        size: tuple[int, int],
        sizes: dict[str, tuple[int, int]],
    ) -> dict[str, Any]:
        """The environment of a validation folder and its chains."""
        unknown = sorted(set(options) - {"dataset", "parts"})
        if unknown or not options.get("dataset"):
            raise Refused("calvin needs its validation folder", "env.options={dataset: .../task_ABC_D/validation}")
        if fps != FPS:
            raise Refused(f"CALVIN runs at {FPS} steps a second, asked for {fps:g}", f"env.fps={FPS}")
        for camera in cameras:
            if camera not in CAMERAS:
                raise Refused(f"calvin has no camera {camera!r}", f"one of {', '.join(CAMERAS)}")
        from calvin_agent.evaluation.multistep_sequences import get_sequences
        from calvin_env.envs.play_table_env import get_env

        self.env = get_env(str(options["dataset"]), show_gui=False)
        self.chains = get_sequences(NUM_CHAINS)
        self.oracle, self.texts = _oracle()
        self.sizes, self.parted = sizes, bool(options.get("parts"))
        return {"cameras": list(CAMERAS), **({"action": PARTS} if self.parted else {"action_dim": sum(PARTS.values())})}

    def reset(self, seed: int) -> tuple[dict[str, Array], str]:
        """The chain of this seed, from its start."""
        from calvin_agent.evaluation.utils import get_env_state_for_initial_condition

        start, self.chain = self.chains[seed % len(self.chains)]
        robot, scene = get_env_state_for_initial_condition(start)
        self.env.reset(robot_obs=robot, scene_obs=scene)
        self.num_done = 0
        self._begin_subtask()
        return self._observe(self.env.get_obs()), self._text()

    def step(self, action: Any) -> tuple[dict[str, Array], float, bool, bool, str]:
        """One step; done when a subtask took too long, or all are done."""
        values = np.concatenate([np.atleast_1d(action[part]) for part in PARTS]) if isinstance(action, dict) else action
        moves = np.array(values, np.float64)
        moves[-1] = 1 if moves[-1] > 0.5 else -1  # the gripper is told 0 or 1
        raw, _, _, info = self.env.step(moves)
        self.num_steps += 1
        subtask = self.chain[self.num_done]
        reached = bool(self.oracle.get_task_info_for_set(self.before, info, {subtask}))
        if reached:
            self.num_done += 1
        success = self.num_done == len(self.chain)
        late = not reached and self.num_steps >= STEPS_OF_SUBTASK
        if reached and not success:
            self._begin_subtask()
        return self._observe(raw), float(reached), success, success or late, "" if success else self._text()

    def render(self, width: int, height: int, camera: str) -> Array:
        """The view of a camera, as large as it is."""
        frame: Array = np.asarray(self.env.get_obs()["rgb_obs"][CAMERAS.get(camera, "rgb_static")], np.uint8)
        return frame

    def close(self) -> None:
        """Let the simulator go."""
        if hasattr(self, "env") and hasattr(self.env, "close"):
            self.env.close()

    def _begin_subtask(self) -> None:
        self.before, self.num_steps = self.env.get_info(), 0

    def _text(self) -> str:
        return str(self.texts[self.chain[self.num_done]][0])

    def _observe(self, raw: dict[str, Any]) -> dict[str, Array]:
        hand = np.asarray(raw["robot_obs"], np.float64)[:6]
        images = {f"{camera}_image": np.asarray(raw["rgb_obs"][CAMERAS[camera]], np.uint8) for camera in self.sizes}
        return {"state": hand, "ee_pos": hand[:3], "ee_rot": hand[3:], **images}


def _oracle() -> tuple[Any, Any]:
    """What says that a subtask is done, and the texts of each."""
    from pathlib import Path

    import calvin_agent
    import hydra
    from omegaconf import OmegaConf

    conf = Path(calvin_agent.__file__).resolve().parents[1] / "conf"
    tasks = OmegaConf.load(conf / "callbacks/rollout/tasks/new_playtable_tasks.yaml")
    return hydra.utils.instantiate(tasks), OmegaConf.load(conf / "annotations/new_playtable_validation.yaml")
