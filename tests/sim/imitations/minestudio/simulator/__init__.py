"""What MineStudio 1.1.6 does: no seed in reset, cumulative counters, one flag for both ends, and actions without drop."""

from __future__ import annotations

from typing import Any

import numpy as np

BUTTONS = [
    "attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "use", "inventory",
    *(f"hotbar.{n}" for n in range(1, 10)),
]  # fmt: skip


class MinecraftSim:
    """Its constructor has the arguments of MineStudio's, its world is grey and its sheep die at once."""

    kills = 0

    def __init__(
        self,
        action_type: str = "agent",
        obs_size: tuple[int, int] = (224, 224),
        render_size: tuple[int, int] = (640, 360),
        seed: int = 0,
        inventory: dict[str, Any] | None = None,
        preferred_spawn_biome: str | None = None,
        num_empty_frames: int = 20,
        callbacks: list[Any] | None = None,
        camera_config: Any = None,
    ) -> None:
        assert action_type == "env"
        assert render_size == (640, 360)
        self.obs_size, self.seed, self.callbacks, self.closed = obs_size, seed, callbacks or [], False

    def noop_action(self) -> dict[str, Any]:
        return {**dict.fromkeys(BUTTONS, 0), "camera": np.zeros(2, np.float32)}

    def reset(self) -> tuple[dict[str, Any], dict[str, Any]]:
        assert not self.closed
        self.yaw = self.pitch = 0.0
        self.steps = 0
        return self._seen()

    def step(self, action: dict[str, Any]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        assert set(action) == set(self.noop_action()), sorted(action)
        self.steps += 1
        pitch, yaw = action.pop("camera")
        self.pitch, self.yaw = self.pitch + float(pitch), self.yaw + float(yaw)
        if action["attack"]:
            type(self).kills += 1
        done = self.steps == 5
        observation, info = self._seen()
        return observation, 0.0, done, done, info

    def close(self) -> None:
        self.closed = True

    def _seen(self) -> tuple[dict[str, Any], dict[str, Any]]:
        pov = np.full((360, 640, 3), self.seed % 250, np.uint8)
        pov[0, 0] = (int(self.pitch) % 256, int(self.yaw) % 256, len(self.callbacks))
        counted = {"sheep": np.array(self.kills), "cow": 3 * self.steps}
        image = np.full((self.obs_size[1], self.obs_size[0], 3), self.seed % 250, np.uint8)
        return {"image": image}, {"pov": pov, "kill_entity": counted}
