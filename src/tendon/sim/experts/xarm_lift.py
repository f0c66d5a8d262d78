"""A scripted expert for xArm's Lift: come above the cube, sink, close, rise.

It looks only at the current observation (no timer, no stored phase), so a policy that sees the same can copy it.
"""

from __future__ import annotations

import numpy as np

from ..protocol import Array

GAIN = 12.0  # action per metre; an action of 1 moves the gripper by 0.05 m in a step
HOVER = 0.08  # m above the cube while not yet aligned
ALIGNED = 0.02  # m: sideways error at which sinking begins
NEAR = 0.02  # m: distance at which the fingers close
OPEN_ANGLE, GRASP_ANGLE = 0.12, 0.22  # rad of the fingers: rising begins above the first, is full at the second
RISE = 0.5  # action


class XarmLiftExpert:
    """Acts for one episode; ``noise`` is the standard deviation added to the three motions that are executed."""

    def __init__(self, seed: int, noise: float) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.noise = noise

    def act(self, cube: Array, gripper: Array, finger_angle: float) -> Array:
        """``[4]``: motion x, y, z and fingers (1 closes).

        Args:
            cube: position.
            gripper: position, in the same frame.
            finger_angle: 0 is open.
        """
        to_cube = cube - gripper
        sideways = float(np.linalg.norm(to_cube[:2]))
        action = np.zeros(4)
        action[:2] = GAIN * to_cube[:2]
        if sideways < 2 * NEAR and abs(to_cube[2]) < 2 * NEAR:
            held = float(np.clip((finger_angle - OPEN_ANGLE) / (GRASP_ANGLE - OPEN_ANGLE), 0, 1))
            action[2] = (1 - held) * GAIN * to_cube[2] + held * RISE
            action[3] = 1.0
        else:
            action[2] = GAIN * (to_cube[2] + np.clip(4 * (sideways - ALIGNED), 0, HOVER))
            action[3] = -1.0
        action[:3] = np.clip(action[:3], -1, 1) + self.noise * self.rng.standard_normal(3)
        executed: Array = np.clip(action, -1, 1).astype(np.float32)
        return executed
