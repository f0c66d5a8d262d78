"""GenManip in Isaac Sim, which has no package: the adapter drives an object that your own Python there makes.

``options.make`` names it, ``module:function``; called with the task it gives an object with ``reset(episode)``,
``step(action)``, ``score()`` (the share of sub-goals that are reached, 0 to 1), ``instruction`` and ``close()``. ``reset``
and ``step`` return a mapping with ``joints``, ``gripper``, ``joints_vel``, ``gripper_vel``, ``ee_pos``, ``ee_rot`` and the
pictures ``ego_view``, ``base_view``, ``base_2_view``. The reward is what the score rises by, success is a score of 1.
``options``: ``make``, ``parts`` (the action is told as gripper, delta_ee_pos, delta_ee_rot).
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..protocol import Array, Refused

NUMERICS = 1

STATES = ("joints", "gripper", "joints_vel", "gripper_vel", "ee_pos", "ee_rot")
PARTS = {"gripper": 1, "delta_ee_pos": 3, "delta_ee_rot": 3}
CAMERAS = ("ego_view", "base_view", "base_2_view")


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
        """What ``options.make`` makes of the task."""
        module, _, function = str(options.get("make", "")).partition(":")
        if not module or not function or set(options) - {"make", "parts"}:
            raise Refused("genmanip is made by a function of yours", "env.options={make: my_package.genmanip:make}")
        for camera in cameras:
            if camera not in CAMERAS:
                raise Refused(f"genmanip has no camera {camera!r}", f"one of {', '.join(CAMERAS)}")
        self.env = getattr(importlib.import_module(module), function)(task)
        self.sizes, self.parted = sizes, bool(options.get("parts"))
        return {"cameras": list(CAMERAS), **({"action": PARTS} if self.parted else {"action_dim": sum(PARTS.values())})}

    def reset(self, seed: int) -> tuple[dict[str, Array], str]:
        """The episode of this seed."""
        raw = self.env.reset(seed)
        self.score = float(self.env.score())
        return self._observe(raw), str(self.env.instruction)

    def step(self, action: Any) -> tuple[dict[str, Array], float, bool, bool, str]:
        """One step."""
        values = np.concatenate([np.atleast_1d(action[part]) for part in PARTS]) if isinstance(action, dict) else action
        raw = self.env.step(np.asarray(values, np.float64))
        before, self.score = self.score, float(self.env.score())
        success = self.score >= 1
        return self._observe(raw), self.score - before, success, success, str(self.env.instruction)

    def render(self, width: int, height: int, camera: str) -> Array:
        """The view of a camera, as large as it is."""
        frame: Array = np.asarray(self.raw[camera or CAMERAS[1]], np.uint8)
        return frame

    def close(self) -> None:
        """Let the simulator go."""
        if hasattr(self, "env"):
            self.env.close()

    def _observe(self, raw: Any) -> dict[str, Array]:
        self.raw = raw
        states = {name: np.asarray(raw[name], np.float64).reshape(-1) for name in STATES}
        images = {f"{camera}_image": np.asarray(raw[camera], np.uint8) for camera in self.sizes}
        return {"state": np.concatenate(list(states.values())), **states, **images}
