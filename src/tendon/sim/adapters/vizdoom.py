"""ViZDoom 1.3.2: a room seen by the player, with a thing to hunt or to approach and another one that must be left alone.

The prompt is observed: ``target``, the mask of what is aimed at, and ``interaction``, MineStudio's number. An action is 20
buttons with Minecraft's names and a camera in degrees (pitch down, yaw to the right). In ``Hunt`` the episode ends when one
of the two things is killed, in ``Approach`` when one is reached; success is the right one. Reward 1 for it, -1 for the other.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..experts.vizdoom import VizdoomExpert
from ..prompts import INTERACTIONS, NO_TARGET, Prompt, prompt_source
from ..protocol import Array, Refused
from ..vizdoom_map import APPROACHED, HUNTED, MAP, Scene, actor, scene, wad

NUMERICS = 1
EXPERT_NUMERICS = {"Hunt": 1, "Approach": 1}  # by task: of the file in experts/
IMPORTS = ("vizdoom",)  # what make() imports: see guest.preload

CAMERA = "agent"
TICS = 35  # a second
BUTTONS = {  # Minecraft's name: ViZDoom's button; nothing corresponds to the inventory
    "attack": "ATTACK", "back": "MOVE_BACKWARD", "forward": "MOVE_FORWARD", "jump": "JUMP", "left": "MOVE_LEFT",
    "right": "MOVE_RIGHT", "sneak": "CROUCH", "sprint": "SPEED", "use": "USE", "drop": "DROP_SELECTED_WEAPON", "inventory": "",
    **{f"hotbar.{n}": f"SELECT_WEAPON{n}" for n in range(1, 10)},
}  # fmt: skip
PRESSED = [name for name in BUTTONS.values() if name]
TURNS = ["LOOK_UP_DOWN_DELTA", "TURN_LEFT_RIGHT_DELTA"]  # degrees up, and to the right
SETTLE = 19  # tics after which a player that was put somewhere can move, and its gun is ready
TOUCH = 64  # distance at which a thing is reached
OPTIONS = {"screen", "turn", "moving", "prompt", "scored", "masks", "record", "sam2", "whole_chunks"}
INSTANCE = "+viz_instance_id"  # on the engine's command line, before the name of its shared memory
WHO = ("target", "distractor")


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
        """Tasks ``Hunt`` and ``Approach``, camera ``agent``; conf/env/vizdoom_hunt.yaml says what the options mean."""
        self._check(task, options, cameras)
        self.task, self.sizes = task, sizes
        self.tics = round(TICS / fps)
        if abs(TICS / fps - self.tics) > 1e-6:
            fix = f"env.fps={TICS / max(1, self.tics):g}"
            raise Refused(
                f"ViZDoom runs at {TICS} tics a second, a step of 1/{fps:g} s is no whole number of them", fix
            )
        self.kinds = tuple(HUNTED if task == "Hunt" else APPROACHED)
        self.turn = float(options.get("turn", 60))
        self.prompted, self.scored = str(options.get("prompt", "target")), str(options.get("scored", "target"))
        self.prompts = prompt_source(options, "labels")
        self.chunk = int(options.get("whole_chunks", 1))
        self.game = self._game(tuple(options.get("screen", (360, 640))), bool(options.get("moving", False)))
        return {"action": {"buttons": len(BUTTONS), "camera": 2}, "cameras": [CAMERA]}

    def reset(self, seed: int) -> tuple[dict[str, Array], str]:
        """The scene of this seed; the things are summoned, the player is put at its start and turned."""
        self.scene: Scene = scene(seed, self.kinds, self.turn)
        self.game.set_seed(seed % 2**32)
        self.game.new_episode()
        for thing in (self.scene.target, self.scene.distractor):
            self.game.send_game_command("warp {} {}".format(*thing.summoned_from))
            self.game.send_game_command(f"summon {actor(thing.kind)}")
        self.game.send_game_command("warp {} {}".format(*self.scene.start))
        self._advance({}, np.zeros(2), 1)
        self.things = {who: self._summoned(getattr(self.scene, who).kind) for who in WHO}
        self._advance({}, np.zeros(2), SETTLE)
        left = (self.scene.angle + 180) % 360 - 180
        for _ in range(4):  # a turn by more than 180 degrees at once would be cut
            self._advance({}, np.array([0.0, -left / 4]), 1)
        self.aims, self.steps, self.ended = self.prompted != "none", 0, list[str]()
        return self._observe(seed), self._instruction()

    def step(self, action: dict[str, Array]) -> tuple[dict[str, Array], float, bool, bool]:
        """Turn the camera in the first tic, hold the buttons for all of them."""
        pressed = dict(zip(BUTTONS, np.asarray(action["buttons"]) > 0.5))  # noqa: B905
        self._advance(pressed, np.asarray(action["camera"], np.float64), self.tics)
        self.steps += 1
        self.ended = self.ended or [who for who in WHO if self._is_done(who)]
        done = bool(self.ended) and self.steps % self.chunk == 0
        self.aims = self.aims and not (self.ended and self.chunk > 1)
        success = done and self.ended == [self.scored]
        return self._observe(), 1.0 if success else -1.0 if done else 0.0, success, done

    def reset_expert(self, seed: int, noise: float) -> None:
        """It follows the prompt that is observed; noise 0.05 turns the camera by 1 degree more."""
        self.scripted = VizdoomExpert(seed, noise, focal=self.height * 2 / 3)  # Doom's 90 degrees are those of 4:3

    def expert(self) -> dict[str, Array]:
        """The expert's next action."""
        pressed, camera = self.scripted.act(self.mask, self._interaction())
        return {"buttons": np.array([name in pressed for name in BUTTONS], np.float64), "camera": camera}

    def render(self, width: int, height: int, camera: str) -> Array:
        """What the player sees, with the outline of what is aimed at."""
        if camera not in ("", CAMERA):
            raise Refused(f"vizdoom has no camera {camera!r}", f"use the camera {CAMERA}")
        frame = self.game.get_state().screen_buffer.copy()
        inner = self.mask.copy()
        inner[1:-1, 1:-1] &= self.mask[:-2, 1:-1] & self.mask[2:, 1:-1] & self.mask[1:-1, :-2] & self.mask[1:-1, 2:]
        frame[(self.mask - inner).astype(bool)] = (0, 255, 0)
        return _resized(frame, height, width)

    def close(self) -> None:
        """Let the simulator go."""
        if hasattr(self, "game"):
            self.game.close()

    def _check(self, task: str, options: dict[str, Any], cameras: tuple[str, ...]) -> None:
        if task not in ("Hunt", "Approach"):
            raise Refused(f"vizdoom has no task {task!r}", "env.task=Hunt, or Approach")
        for camera in cameras:
            if camera != CAMERA:
                raise Refused(
                    f"vizdoom has no camera {camera!r}", f"use the camera {CAMERA} (observation {CAMERA}_image)"
                )
        if unknown := sorted(set(options) - OPTIONS):
            raise Refused(f"vizdoom has no option {unknown[0]!r}", f"its options are {', '.join(sorted(OPTIONS))}")
        for option, values in (("prompt", (*WHO, "none")), ("scored", WHO)):
            if options.get(option, "target") not in values:
                raise Refused(f"env.options.{option} is {options[option]!r}", f"it is one of {', '.join(values)}")

    def _game(self, screen: tuple[int, int], moving: bool) -> Any:
        """The engine, started in a folder of its own as it writes into the one where it is started.

        It holds what it has opened, so that nothing is left behind when it is killed.
        """
        import vizdoom

        self.height, self.width = int(screen[0]), int(screen[1])
        resolution = getattr(vizdoom.ScreenResolution, f"RES_{self.width}X{self.height}", None)
        if resolution is None or self.width * 9 != self.height * 16:
            why = f"env.options.screen is {self.height} x {self.width}, which is no 16:9 resolution of ViZDoom"
            raise Refused(why, "env.options.screen=[360,640], or [180,320], or [144,256]")
        game = vizdoom.DoomGame()
        game.set_doom_game_path(str(Path(vizdoom.__file__).parent / "freedoom2.wad"))
        game.set_doom_map(MAP)
        game.set_screen_resolution(resolution)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_labels_buffer_enabled(True)
        game.set_objects_info_enabled(True)
        game.set_available_buttons([getattr(vizdoom.Button, name) for name in (*PRESSED, *TURNS)])
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_render_hud(False)
        game.set_render_crosshair(False)
        game.set_episode_timeout(0)
        with tempfile.TemporaryDirectory(prefix="tendon-vizdoom-") as folder:
            room = Path(folder) / "room.wad"
            room.write_bytes(wad(moving=moving))
            game.set_doom_scenario_path(str(room))
            os.chdir(folder)
            game.init()
            os.chdir("/")
            _forget_shared_memory()
        return game

    def _advance(self, pressed: dict[str, Any], camera: Array, tics: int) -> None:
        buttons = [float(pressed.get(name, False)) for name, button in BUTTONS.items() if button]
        pitch, yaw = camera.tolist()
        self.game.set_action([*buttons, -pitch, yaw])  # ViZDoom's pitch looks up
        self.game.advance_action(1, tics == 1)  # drawn after the last tic only
        if tics > 1:
            self.game.set_action([*buttons, 0.0, 0.0])
            self.game.advance_action(tics - 1, True)
        self.view = self.game.get_state()

    def _summoned(self, kind: str) -> int:
        return next(int(thing.id) for thing in self.view.objects if thing.name == actor(kind))

    def _is_done(self, who: str) -> bool:
        """Whether a thing is killed, or reached."""
        thing = next((thing for thing in self.view.objects if thing.id == self.things[who]), None)
        if self.task == "Hunt" or thing is None:
            return thing is None
        player = next(thing for thing in self.view.objects if thing.name == "DoomPlayer")
        return bool(np.hypot(player.position_x - thing.position_x, player.position_y - thing.position_y) < TOUCH)

    def _observe(self, seed: int | None = None) -> dict[str, Array]:
        """``seed``: the episode starts, and so does the prompt."""
        frame = self.view.screen_buffer
        if not self.aims:
            self.mask = np.zeros((self.height, self.width), np.uint8)
        elif seed is not None:
            prompt = Prompt(seed, (self.height, self.width), self._label, self._point)
            self.mask = self.prompts.start(frame, prompt)
        else:
            self.mask = self.prompts.track(frame)
        images = {f"{camera}_image": _resized(frame, *size) for camera, size in self.sizes.items()}
        return {**images, "target": self.mask, "interaction": np.array(self._interaction(), np.int64)}

    def _interaction(self) -> int:
        return INTERACTIONS[self.task.lower()] if self.aims else NO_TARGET

    def _label(self) -> Array:
        """The mask of the thing that the prompt means."""
        values = [label.value for label in self.view.labels if label.object_id == self.things[self.prompted]]
        return np.isin(self.view.labels_buffer, values).astype(np.uint8)

    def _point(self) -> tuple[int, int] | None:
        rows, columns = np.nonzero(self._label())
        return (int(np.median(rows)), int(np.median(columns))) if len(rows) else None

    def _instruction(self) -> str:
        if self.prompted == "none":
            return ""
        return f"{self.task.lower()} the {getattr(self.scene, self.prompted).kind}"


def _forget_shared_memory() -> None:
    """Take the names off the memory that this process and its engine share, both of which have opened it."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            words: list[str] = []
            with contextlib.suppress(OSError):  # a child that has ended meanwhile
                words = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if INSTANCE in words:
                name = words[words.index(INSTANCE) + 1]
                for file in Path("/dev/shm").glob(f"ViZDoom*{name}"):  # noqa: S108
                    file.unlink(missing_ok=True)


def _resized(frame: Array, height: int, width: int) -> Array:
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
