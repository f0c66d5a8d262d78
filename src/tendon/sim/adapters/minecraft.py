"""MineStudio's Minecraft (`MinecraftSim` of its 1.1): tested against an imitation of that class only, never against Minecraft.

It runs in the interpreter that tendon runs in, where MineStudio, its engine and JDK 8 must be installed. An action is 20 buttons
and a camera in degrees (pitch down, yaw to the right). Success is a counter of the game (``kill_entity`` of sheep) that has
grown since the start of the episode. The world is that of the seed; what lives in it moves as it likes.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..prompts import INTERACTIONS, NO_TARGET, Prompt, prompt_source
from ..protocol import Array, Refused

NUMERICS = 1

CAMERA, FPS = "agent", 20
POV = (360, 640)  # height and width of what the game draws
BUTTONS = (
    "attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "use", "drop", "inventory",
    *(f"hotbar.{n}" for n in range(1, 10)),
)  # fmt: skip
OPTIONS = {
    "counter",
    "match",
    "count",
    "interaction",
    "point",
    "commands",
    "biome",
    "inventory",
    "masks",
    "record",
    "sam2",
}


class Adapter:
    """See sim/guest.py for what each method is asked."""

    def make(
        self, task: str, options: dict[str, Any], fps: float, cameras: tuple[str, ...], size: tuple[int, int]
    ) -> dict[str, Any]:
        """Any name of a task; conf/env/minecraft.yaml says what the options mean. Worlds are made by ``reset``."""
        self._check(options, fps, cameras)
        from minestudio.simulator import MinecraftSim
        from minestudio.simulator.callbacks import CommandsCallback

        self._simulator, self._commands = MinecraftSim, CommandsCallback
        self.task, self.options, self.cameras, self.size = task, options, cameras, size
        named = options.get("interaction")
        self.interaction = NO_TARGET if named is None else INTERACTIONS[named]
        self.prompts = None if named is None else prompt_source(options, "sam2")
        self.sim: Any = None
        self.seed: int | None = None
        return {"action": {"buttons": len(BUTTONS), "camera": 2}, "cameras": [CAMERA], "instruction": task}

    def reset(self, seed: int) -> dict[str, Array]:
        """The world of this seed. MineStudio takes a seed only when it is made, so another seed is another simulator."""
        if self.seed != seed:
            self.close()
            commands = list(self.options.get("commands", ()))
            self.sim = self._simulator(
                action_type="env",
                obs_size=(self.size[1], self.size[0]),
                render_size=(POV[1], POV[0]),
                seed=seed,
                inventory=dict(self.options.get("inventory", {})),
                preferred_spawn_biome=self.options.get("biome"),
                callbacks=[self._commands(commands)] if commands else [],
            )
            self.seed = seed
        observation, info = self.sim.reset()
        self.counted = self.counted_at_start = self._count(info)
        return self._observe(observation, info, first=True)

    def step(self, action: dict[str, Array]) -> tuple[dict[str, Array], float, bool, bool]:
        """One twentieth of a second; reward 1 for each time that the counter has grown by one."""
        buttons = dict(zip(BUTTONS, np.asarray(action["buttons"]) > 0.5))  # noqa: B905
        taken = self.sim.noop_action()  # without drop, which the game's actions lack
        for name in taken:
            taken[name] = np.asarray(action["camera"], np.float32) if name == "camera" else int(buttons.get(name, 0))
        observation, _, terminated, truncated, info = self.sim.step(taken)
        count, before = self._count(info), self.counted
        self.counted = count
        success = "counter" in self.options and count - self.counted_at_start >= int(self.options.get("count", 1))
        done = bool(success or terminated or truncated)
        return self._observe(observation, info), float(count - before), success, done

    def render(self, width: int, height: int, camera: str) -> Array:
        """What the player sees: the nearest pixels of the game's picture."""
        if camera not in ("", CAMERA):
            raise Refused(f"minecraft has no camera {camera!r}", f"use the camera {CAMERA}")
        rows, columns = np.arange(height) * POV[0] // height, np.arange(width) * POV[1] // width
        return np.asarray(self.frame[rows][:, columns])

    def close(self) -> None:
        """Let the game go."""
        if getattr(self, "sim", None) is not None:
            self.sim.close()
            self.sim = None

    def _check(self, options: dict[str, Any], fps: float, cameras: tuple[str, ...]) -> None:
        if fps != FPS:
            raise Refused(f"Minecraft runs at {FPS} steps a second, asked for {fps:g}", f"env.fps={FPS}")
        for camera in cameras:
            if camera != CAMERA:
                raise Refused(
                    f"minecraft has no camera {camera!r}", f"use the camera {CAMERA} (observation {CAMERA}_image)"
                )
        if unknown := sorted(set(options) - OPTIONS):
            raise Refused(f"minecraft has no option {unknown[0]!r}", f"its options are {', '.join(sorted(OPTIONS))}")
        if options.get("interaction") not in (None, *INTERACTIONS):
            raise Refused(
                f"there is no interaction {options['interaction']!r}", f"it is one of {', '.join(INTERACTIONS)}"
            )

    def _count(self, info: dict[str, Any]) -> float:
        """How often the game has counted what the options name, since it started."""
        counters = info.get(str(self.options.get("counter", "")), {})
        matching = re.compile(str(self.options.get("match", "")))
        return float(sum(float(np.sum(value)) for name, value in counters.items() if matching.match(str(name))))

    def _observe(self, observation: dict[str, Any], info: dict[str, Any], *, first: bool = False) -> dict[str, Array]:
        self.frame: Array = np.asarray(info["pov"], np.uint8)
        mask = np.zeros(POV, np.uint8)
        if self.prompts is not None:
            prompt = Prompt(int(self.seed or 0), POV, point=self._point if "point" in self.options else None)
            mask = self.prompts.start(self.frame, prompt) if first else self.prompts.track(self.frame)
        images = {f"{camera}_image": np.asarray(observation["image"], np.uint8) for camera in self.cameras}
        return {**images, "target": mask, "interaction": np.array(self.interaction, np.int64)}

    def _point(self) -> tuple[int, int]:
        row, column = self.options["point"]
        return int(row), int(column)
