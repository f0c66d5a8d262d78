"""Named perturbations of a simulator: what a policy meets outside of its training, the same for the same seed.

In: an adapter, a name of ``STANDARD`` (or any ``action_delay_<N>ms``), what the host reads. Out: ``Perturbed``, which sim/guest.py
asks for resets and steps in the adapter's place. What the guest cannot do is refused, by name and with the reason, so a rate is
never one of an unperturbed world. Signals and flat pictures are done here, worlds of MuJoCo in mujoco_world.py.

What an adapter may have for it: ``look(moved)``, what is observed after the world was changed; ``mujoco()``, model and data as they
are now; ``FLAT_PICTURES``, its pictures are drawings; ``SENSOR_NOISE`` and ``ACTION_NOISE``, standard deviations in its own units;
``stay()``, the action that moves nothing; ``shift_start(rng)`` and ``change_physics(mass, friction)``, where there is no MuJoCo;
``on_build`` and ``decorate``, called with each model that is built and each scene before it is drawn.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from typing import Any

import numpy as np

from .mujoco_world import World
from .protocol import Array, Refused

NUMERICS = 1

PICTURES = ("lighting", "camera_pose", "texture", "distractor")  # nothing but what is seen
WORLDS = ("start_state", "mass", "friction")
SIGNALS = ("observation_noise", "action_noise", "dropped_frames")
DELAYS = ("action_delay_50ms", "action_delay_100ms", "action_delay_200ms")
STANDARD = (*PICTURES, *WORLDS, *SIGNALS, *DELAYS)
DELAY = re.compile(r"action_delay_(\d+)ms")
MOST_DELAY_MS = 200
WORDS = {
    "lighting": "lights at half of their strength, from another side",
    "camera_pose": "cameras moved by up to 2 cm and turned by up to 3 degrees",
    "texture": "surfaces in other colours and patterns",
    "distractor": "three things in view that are not part of the task",
    "start_state": "a start that no episode has: things lie elsewhere, or move already",
    "mass": "what is moved weighs twice as much",
    "friction": "surfaces grip half as well",
    "observation_noise": "noise in what is measured, and of 8 grey levels in pictures",
    "action_noise": "noise in the actions that are carried out",
    "dropped_frames": "three of ten observations are lost, the one before is seen again",
}
MASS, FRICTION = 2.0, 0.5
GREY_LEVELS = 8.0
DIMMED = 0.55
DROPPED = 0.3
OFF = 0.25  # a delay of whole steps may be so much shorter or longer than the one that is asked for


def words_of(name: str) -> str:
    """What a perturbation does, in words."""
    delay = DELAY.fullmatch(name)
    return f"actions take effect {delay.group(1)} ms late" if delay else WORDS[name]


def is_known(name: str) -> bool:
    """Whether it is a perturbation."""
    delay = DELAY.fullmatch(name)
    return int(delay.group(1)) <= MOST_DELAY_MS if delay else name in WORDS


def delay_steps(name: str, fps: float) -> int:
    """The whole steps that a delay is nearest to."""
    delay = DELAY.fullmatch(name)
    assert delay is not None
    return int(np.floor(int(delay.group(1)) * fps / 1000 + 0.5))


class Unsupported(Refused):
    """The guest cannot be perturbed so; the reason names both."""

    def __init__(self, name: str, guest: str, why: str) -> None:
        super().__init__(f"{guest} does not support {name}: {why}", "leave it out: perturb=NAME,NAME,...")


class Perturbed:
    """An adapter under one perturbation, asked like the adapter itself."""

    def __init__(self, adapter: Any, guest: str, name: str) -> None:
        if not is_known(name):
            known = ", ".join(STANDARD)
            raise Refused(f"no perturbation is called {name!r}", f"standard, or of {known}; action_delay_<0 to 200>ms")
        self.adapter, self.guest, self.name = adapter, guest, name
        self.read: frozenset[str] = frozenset()
        self.rng = np.random.default_rng(0)
        self.world: World | None = None
        self.delayed: deque[Any] = deque()
        self.before: dict[str, Array] = {}
        if name == "texture":
            self.adapter.on_build = self._paint
        if name == "distractor":
            self.adapter.decorate = self._decorate

    def made(self, fps: float, read: frozenset[str]) -> None:
        """The task is built: refuse what it cannot do before anything is played."""
        self.read, self.steps = read, 0
        name = self.name
        if (
            name in PICTURES
            and not hasattr(self.adapter, "mujoco")
            and not getattr(self.adapter, "FLAT_PICTURES", False)
        ):
            raise self._unsupported("it says nothing of how its pictures are made")
        if name in WORLDS:
            self._demand("look", "it cannot look again after a change")
        if name in WORLDS and not hasattr(self.adapter, "mujoco"):
            self._demand(
                "shift_start" if name == "start_state" else "change_physics", "it has no such quantity to change"
            )
        if name == "action_noise" and not getattr(self.adapter, "ACTION_NOISE", 0):
            raise self._unsupported("it does not say how large noise of an action would be")
        if DELAY.fullmatch(name):
            self.steps = delay_steps(name, fps)
            asked_ms, done_ms = int(DELAY.fullmatch(name).group(1)), 1000 * self.steps / fps  # type: ignore[union-attr]
            if abs(done_ms - asked_ms) > OFF * asked_ms:
                raise self._unsupported(f"a step takes {1000 / fps:g} ms, so it would be {done_ms:g} ms")
            self._demand("stay", "it has no action that moves nothing")

    def reset(self, seed: int) -> Any:
        """The episode of this seed, perturbed; as the adapter's own reset."""
        self.rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        if self.world is not None:
            self.world.restore()  # the adapter resets the world that it knows
        started = self.adapter.reset(seed)
        observation = started[0] if isinstance(started, tuple) else started
        if self.name in PICTURES + WORLDS:
            observation = self._changed(observation)
        if self.steps:
            self.delayed = deque(self.adapter.stay() for _ in range(self.steps))
        self.before = {}
        observation = self._seen(observation)
        return (observation, *started[1:]) if isinstance(started, tuple) else observation

    def step(self, action: Any) -> tuple[Any, ...]:
        """Carry an action out, or the one that is due now."""
        if self.steps:
            self.delayed.append(action)
            action = self.delayed.popleft()
        if self.name == "action_noise":
            action = self._noisy_action(action)
        observation, *rest = self.adapter.step(action)
        return (self._seen(observation), *rest)

    def _changed(self, observation: dict[str, Array]) -> dict[str, Array]:
        """The world of this episode, changed, and what is seen of it now."""
        if hasattr(self.adapter, "mujoco"):
            model, data = self.adapter.mujoco()
            self.world = World(model, data, self.rng)
            why = self.world.change(self.name)
            if why:
                raise self._unsupported(why)
        elif self.name in PICTURES:
            self.flat = _Flat(self.name, self.rng)
            return observation
        elif self.name == "start_state":
            self.adapter.shift_start(self.rng)
        else:
            why = self.adapter.change_physics(*((MASS, 1.0) if self.name == "mass" else (1.0, FRICTION)))
            if why:
                raise self._unsupported(why)
        looked: dict[str, Array] = self.adapter.look(self.name == "start_state")
        return looked

    def _seen(self, observation: dict[str, Array]) -> dict[str, Array]:
        """What the policy sees of an observation."""
        if self.name == "observation_noise":
            return {name: self._noisy(name, np.asarray(value)) for name, value in observation.items()}
        if self.name == "dropped_frames":
            if not self.before or self.rng.uniform() >= DROPPED:
                self.before = observation
            return self.before
        if self.name in PICTURES and not hasattr(self.adapter, "mujoco"):
            return {
                name: self.flat.drawn(value) if _is_picture(np.asarray(value)) else value
                for name, value in observation.items()
            }
        return observation

    def _noisy(self, name: str, value: Array) -> Array:
        if self.read and name not in self.read:
            return value
        if _is_picture(value):
            noise = self.rng.normal(0, GREY_LEVELS, value.shape)
            grainy: Array = np.clip(value + noise, 0, 255).round().astype(np.uint8)
            return grainy
        if value.dtype.kind != "f":
            return value
        deviation = getattr(self.adapter, "SENSOR_NOISE", 0)
        if not deviation:
            raise self._unsupported(f"it does not say how large noise of {name} would be")
        noisy: Array = (value + self.rng.normal(0, deviation, value.shape)).astype(value.dtype)
        return noisy

    def _noisy_action(self, action: Any) -> Any:
        if isinstance(action, dict):
            raise self._unsupported("its action has parts, of which some are buttons")
        action = np.asarray(action, np.float64)
        noisy: Array = action + self.rng.normal(0, self.adapter.ACTION_NOISE, action.shape)
        return noisy

    def _paint(self, model: Any) -> None:
        World(model, None, np.random.default_rng(zlib.crc32(b"paint"))).paint()

    def _decorate(self, scene: Any) -> None:
        if self.world is not None:
            self.world.decorate(scene)

    def _demand(self, method: str, why: str) -> None:
        if not hasattr(self.adapter, method):
            raise self._unsupported(why)

    def _unsupported(self, why: str) -> Unsupported:
        return Unsupported(self.name, self.guest, why)


def _is_picture(value: Array) -> bool:
    return value.dtype == np.uint8 and value.ndim == 3


class _Flat:
    """How drawings, which have neither lights nor lenses, are changed: the same for a whole episode."""

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        self.name = name
        self.shift = rng.uniform(-0.04, 0.04, 2)
        self.tint = rng.uniform(0.6, 1.0, 3)
        self.blobs = [(rng.uniform(0.05, 0.95, 2), rng.uniform(0.03, 0.06), rng.integers(0, 256, 3)) for _ in range(3)]

    def drawn(self, picture: Array) -> Array:
        """A picture as it is seen now."""
        height, width = picture.shape[:2]
        rows, columns = np.mgrid[0:height, 0:width]
        seen: Array = picture.copy()
        if self.name == "lighting":
            seen = (DIMMED * picture).round().astype(np.uint8)
        elif self.name == "texture":
            seen = (picture * self.tint).round().astype(np.uint8)
        elif self.name == "camera_pose":
            down, right = round(self.shift[0] * height), round(self.shift[1] * width)
            seen = picture[np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)]
        else:
            for (y, x), radius, colour in self.blobs:
                seen[np.hypot(rows / height - y, columns / width - x) < radius] = colour
        return seen
