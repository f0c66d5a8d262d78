"""A scripted expert for ViZDoom's room, which sees what a policy sees: the mask of what is aimed at and the interaction.

It turns right until the mask appears, turns towards its middle, and attacks when this is in front of the gun (hunt) or
walks there (approach). Noise 0.05 turns the camera by 1 degree of standard deviation more.
"""

from __future__ import annotations

from math import atan2, degrees

import numpy as np

from ..prompts import INTERACTIONS
from ..protocol import Array

MAX_TURN = 10.0  # degrees in a step, as far as VPT's camera reaches
SURE = 0.6  # of half the width of the object: so near its middle it is hit
WALK = 15.0  # degrees from the way to the object within which the expert walks
NOISE = 20.0  # degrees of standard deviation at noise 1


class VizdoomExpert:
    """Acts in one episode."""

    def __init__(self, seed: int, noise: float, focal: float) -> None:
        """``focal``: pixels of the picture that one unit is at a distance of one unit."""
        self._rng = np.random.default_rng([seed, 1])
        self._noise, self._focal = noise, focal

    def act(self, mask_HW: Array, interaction: int) -> tuple[list[str], Array]:
        """The buttons that are pressed, and pitch and yaw in degrees."""
        camera = np.zeros(2)
        if interaction not in (INTERACTIONS["hunt"], INTERACTIONS["approach"]):
            return [], camera
        columns = np.flatnonzero(mask_HW.any(0))
        if not len(columns):
            camera[1] = MAX_TURN
            return [], self._with_noise(camera)
        middle = mask_HW.shape[1] / 2
        left, right = columns[0] - middle, columns[-1] + 1 - middle
        aside = (left + right) / 2
        turn = degrees(atan2(aside, self._focal))
        camera[1] = np.clip(turn, -MAX_TURN, MAX_TURN)
        if interaction == INTERACTIONS["hunt"]:
            pressed = ["attack"] if abs(aside) < SURE * (right - left) / 2 else []
        else:
            pressed = ["forward"] if abs(turn) < WALK else []
        return pressed, self._with_noise(camera)

    def _with_noise(self, camera: Array) -> Array:
        camera[1] = np.clip(camera[1] + self._noise * NOISE * self._rng.standard_normal(), -MAX_TURN, MAX_TURN)
        return camera
