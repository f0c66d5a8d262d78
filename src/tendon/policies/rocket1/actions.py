"""VPT's action space without torch: twenty buttons and a camera in degrees to two classes, and back. Pure numpy.

One class says which buttons are pressed together, at most one of each group of opposites; the other one says where the
camera turns, on a grid that is finer near zero. Axes: ... any; K buttons; 2 pitch and yaw.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tendon.policies.rocket1.features import BUTTON_NAMES

NUM_BUTTONS = len(BUTTON_NAMES)
INVENTORY = BUTTON_NAMES.index("inventory")
# Of each group at most one is pressed; where several are, the rule beside it says which. The camera's digit is the last.
HOTBAR = tuple(f"hotbar.{n}" for n in range(1, 10))  # the highest
GROUPS = (
    HOTBAR,
    ("forward", "back"),  # both: none
    ("left", "right"),  # both: none
    ("sprint", "sneak"),  # both: sneak
    ("use",),
    ("drop",),
    ("attack",),
    ("jump",),
)
OPPOSITES = (("forward", "back"), ("left", "right"))
RADICES = (*(1 + len(group) for group in GROUPS), 2)
NUM_COMBINATIONS = int(np.prod(RADICES))  # 8640
INVENTORY_CLASS = NUM_COMBINATIONS  # pressed alone; the others and the camera are dropped
NUM_BUTTON_CLASSES = NUM_COMBINATIONS + 1
STRIDES = tuple(int(np.prod(RADICES[i + 1 :])) for i in range(len(RADICES)))


@dataclass(frozen=True)
class CameraBins:
    """A grid over pitch and yaw: clipped, compressed by mu-law (or not), rounded to an odd number of bins on each axis."""

    max_degrees: float = 10.0
    bin_size: float = 2.0  # of the compressed value, which reaches from -max_degrees to max_degrees
    mu: float = 10.0  # 0: linear

    @property
    def num_bins(self) -> int:
        """Bins on one axis."""
        return round(2 * self.max_degrees / self.bin_size) + 1

    @property
    def num_classes(self) -> int:
        """Pairs of bins."""
        return self.num_bins**2

    @property
    def null(self) -> int:
        """The class of a camera that stays."""
        return (self.num_bins // 2) * (self.num_bins + 1)

    def bins(self, degrees: np.ndarray) -> np.ndarray:
        """The bin of each angle; halves go to the even bin."""
        share = np.clip(np.asarray(degrees, np.float64), -self.max_degrees, self.max_degrees) / self.max_degrees
        if self.mu:
            share = np.sign(share) * np.log1p(self.mu * np.abs(share)) / np.log1p(self.mu)
        return np.asarray(np.round((share + 1) * self.max_degrees / self.bin_size), np.int64)

    def degrees(self, bins: np.ndarray) -> np.ndarray:
        """The angle in the middle of each bin."""
        share = np.asarray(bins, np.float64) * self.bin_size / self.max_degrees - 1
        if self.mu:
            share = np.sign(share) * np.expm1(np.abs(share) * np.log1p(self.mu)) / self.mu
        return share * self.max_degrees


@dataclass(frozen=True)
class ActionCodec:
    """Buttons and camera as two classes.

    Example:
        ``ActionCodec().encode(buttons, np.array([0.0, 10.0]))`` with no button pressed is ``(1, 65)``.
    """

    camera: CameraBins = field(default_factory=CameraBins)

    def encode(self, buttons_K: np.ndarray, camera_2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The classes of ``buttons [..., 20]`` (nonzero: pressed) and ``camera [..., 2]`` degrees, int64 ``[...]`` each."""
        pressed = np.asarray(buttons_K) != 0
        bins = self.camera.bins(camera_2)
        camera = bins[..., 0] * self.camera.num_bins + bins[..., 1]
        inventory = pressed[..., INVENTORY]
        camera = np.where(inventory, self.camera.null, camera)
        digits = [*(_digit(pressed, group) for group in GROUPS), camera != self.camera.null]
        combination = sum(np.asarray(digit, np.int64) * stride for digit, stride in zip(digits, STRIDES, strict=True))
        return np.where(inventory, INVENTORY_CLASS, combination), camera

    def decode(self, buttons: np.ndarray, camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Buttons uint8 ``[..., 20]`` and camera float64 ``[..., 2]`` in degrees, of two classes ``[...]``.

        A combination that says the camera stays makes it stay. With the inventory the camera moves as it is told: VPT's
        own decoder does so.
        """
        classes, camera = np.asarray(buttons, np.int64), np.asarray(camera, np.int64)
        inventory = classes == INVENTORY_CLASS
        combination = np.where(inventory, 0, classes)
        pressed = np.zeros((*classes.shape, NUM_BUTTONS), np.uint8)
        for group, radix, stride in zip(GROUPS, RADICES[:-1], STRIDES[:-1], strict=True):
            digit = combination // stride % radix
            for number, name in enumerate(group, start=1):
                pressed[..., BUTTON_NAMES.index(name)] = digit == number
        pressed[..., INVENTORY] = inventory
        moves = inventory | (combination % 2 == 1)
        camera = np.where(moves, camera, self.camera.null)
        bins = np.stack([camera // self.camera.num_bins, camera % self.camera.num_bins], -1)
        return pressed, self.camera.degrees(bins)


def _digit(pressed_K: np.ndarray, group: tuple[str, ...]) -> np.ndarray:
    """0 where nothing of a group is pressed, else the place of what counts, from 1."""
    digit = np.zeros(pressed_K.shape[:-1], np.int64)
    for number, name in enumerate(group, start=1):  # the later one wins
        digit = np.where(pressed_K[..., BUTTON_NAMES.index(name)], number, digit)
    if group in OPPOSITES:
        together = np.logical_and.reduce([pressed_K[..., BUTTON_NAMES.index(name)] for name in group])
        digit = np.where(together, 0, digit)
    return digit


CODEC = ActionCodec()
