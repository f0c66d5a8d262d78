"""A scripted expert for robosuite's Lift: come above the cube, sink, close, rise.

It looks only at the current observation (no timer, no stored phase), so a policy that sees the same can copy it
exactly, and it finds back by itself wherever noise has pushed the arm.
"""

from __future__ import annotations

import numpy as np

from ..protocol import Array

GAIN = 8.0  # action per metre: an action of 1 moves the goal of the controller by 0.05 m
HOVER = 0.08  # m above the cube while not yet aligned
ALIGNED = 0.01  # m: sideways error at which sinking begins
NEAR = 0.02  # m: distance at which the fingers close
OPEN_WIDTH, GRASP_WIDTH = 0.064, 0.052  # m between the fingers: rising begins below the first, is full at the second
RISE = 0.6  # action


class LiftExpert:
    """Acts for one episode; ``noise`` is the standard deviation added to the six motion actions that are executed."""

    def __init__(self, seed: int, noise: float) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.noise = noise

    def act(self, cube_pos: Array, hand_pos: Array, finger_pos: Array) -> Array:
        """``[7]``: position 3, rotation 3, fingers (1 closes)."""
        to_cube = cube_pos - hand_pos
        sideways = float(np.linalg.norm(to_cube[:2]))
        action = np.zeros(7)
        action[:2] = GAIN * to_cube[:2]
        if sideways < NEAR and abs(to_cube[2]) < NEAR:
            width = float(finger_pos[0] - finger_pos[1])
            held = float(np.clip((OPEN_WIDTH - width) / (OPEN_WIDTH - GRASP_WIDTH), 0, 1))
            action[2] = (1 - held) * GAIN * to_cube[2] + held * RISE
            action[6] = 1.0
        else:
            action[2] = GAIN * (to_cube[2] + np.clip(4 * (sideways - ALIGNED), 0, HOVER))
            action[6] = -1.0
        action[:6] = np.clip(action[:6], -1, 1) + self.noise * self.rng.standard_normal(6)
        executed: Array = np.clip(action, -1, 1)
        return executed
