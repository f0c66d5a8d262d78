"""A scripted expert for robosuite's PickPlaceCan: come above the can, sink, close, rise, carry, lower, let go.

It looks only at the current observation (no timer, no stored phase), so a policy that sees the same can copy it
exactly, and a can that slips or lands beside its place is picked up again.
"""

from __future__ import annotations

import numpy as np

from ..protocol import Array

GAIN = 8.0  # action per metre: an action of 1 moves the goal of the controller by 0.05 m
PLACE = np.array([0.1975, 0.4025])  # m: middle of the can's quarter of the second bin
PLACED = 0.04  # m: sideways distance from PLACE at which the can may be lowered and left
CARRY_HEIGHT = 1.02  # m: height of the can while it is carried, above the walls of both bins
LEAVE_HEIGHT = 0.89  # m: height of the can at which the fingers open; standing in a bin it is at 0.86
HOVER = 0.12  # m above the can while not yet aligned
ALIGNED = 0.012  # m: sideways error at which sinking begins
NEAR = 0.02  # m: distance at which the fingers close
OPEN_WIDTH, GRASP_WIDTH = 0.064, 0.054  # m between the fingers: rising begins below the first, is full at the second


class CanExpert:
    """Acts for one episode; ``noise`` is the standard deviation added to the six motion actions that are executed."""

    def __init__(self, seed: int, noise: float) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.noise = noise

    def act(self, can_pos: Array, hand_pos: Array, finger_pos: Array) -> Array:
        """``[7]``: position 3, rotation 3, fingers (1 closes)."""
        to_can = can_pos - hand_pos
        to_place = PLACE - can_pos[:2]
        sideways = float(np.linalg.norm(to_can[:2]))
        is_near = sideways < NEAR and abs(to_can[2]) < NEAR
        is_placed = float(np.linalg.norm(to_place)) < PLACED
        width = float(finger_pos[0] - finger_pos[1])
        held = float(np.clip((OPEN_WIDTH - width) / (OPEN_WIDTH - GRASP_WIDTH), 0, 1))
        action = np.zeros(7)
        if is_placed and can_pos[2] < LEAVE_HEIGHT:
            action[2], action[6] = 1 - held, -1.0  # rising with the can in the fingers would lift it again
        elif is_near:
            action[6] = 1.0
            lifted = float(np.clip((can_pos[2] - CARRY_HEIGHT + 0.06) / 0.04, 0, 1))
            height = LEAVE_HEIGHT - 0.02 if is_placed else CARRY_HEIGHT
            action[:2] = GAIN * ((1 - held) * to_can[:2] + held * max(lifted, float(is_placed)) * to_place)
            action[2] = GAIN * ((1 - held) * to_can[2] + held * (height - can_pos[2]))
        else:
            action[:2] = GAIN * to_can[:2]
            action[2] = GAIN * (to_can[2] + np.clip(4 * (sideways - ALIGNED), 0, HOVER))
            action[6] = -1.0
        action[:6] = np.clip(action[:6], -1, 1) + self.noise * self.rng.standard_normal(6)
        executed: Array = np.clip(action, -1, 1)
        return executed
