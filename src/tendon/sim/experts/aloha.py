"""Scripted experts for Aloha's TransferCube and Insertion: way-points of both hands, carried out in a copy whose hands are pulled.

The package ships the same robots with hands that follow a pose (mocap). The way-points are carried out there, and what the joints
do is the expert's action for the simulator that is driven by joints. Metres, degrees, control steps of 0.02 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..protocol import Array


def xyz(x: float, y: float, z: float) -> Array:
    """A difference of positions."""
    return np.array([x, y, z])


LEFT_START = xyz(-0.31718881, 0.5, 0.29525084)  # where gripper_link is after a reset
RIGHT_START = xyz(0.31718881, 0.49999888, 0.29525084)
OPEN, CLOSED = 1.0, 0.0
TILT = 60.0  # degrees about y: fingers point down to the table
NOISE = 0.1  # metres of standard deviation of every way-point in the air at noise 1
ARMS = (slice(0, 6), slice(8, 14))  # of qpos
ALIGNED_STEP = 290  # of Insertion: peg and socket face each other


@dataclass(frozen=True)
class Waypoint:
    """Where a hand is at a step."""

    step: int
    position: Array
    rotation: tuple[str, float]  # axis and degrees, from how the hand is after a reset
    gripper: float


def transfer_cube(cube: Array, shift: Any) -> tuple[list[Waypoint], list[Waypoint]]:
    """The right hand takes the cube from the table, the left hand takes it from the right one in the air."""
    down, level, turned = ("y", -TILT), ("x", 0.0), ("x", 90.0)
    above = cube + xyz(0, 0, 0.10)
    meet = xyz(0.02, 0.5, 0.25)
    right = [
        Waypoint(0, RIGHT_START, level, CLOSED),
        Waypoint(80, above + shift(), down, OPEN),
        Waypoint(115, cube + xyz(0, 0, -0.012), down, OPEN),
        Waypoint(150, cube + xyz(0, 0, -0.012), down, CLOSED),
        Waypoint(215, meet + shift(), down, CLOSED),
        Waypoint(235, meet, down, CLOSED),
        Waypoint(290, meet, down, CLOSED),
        Waypoint(310, meet, down, OPEN),
        Waypoint(350, meet + xyz(0.12, 0, 0.02), down, OPEN),
    ]
    left = [
        Waypoint(0, LEFT_START, level, CLOSED),
        Waypoint(110, LEFT_START + shift(), turned, OPEN),
        Waypoint(215, meet + xyz(-0.14, 0, -0.02) + shift(), turned, OPEN),
        Waypoint(255, meet + xyz(-0.02, 0, -0.02), turned, OPEN),
        Waypoint(285, meet + xyz(-0.02, 0, -0.02), turned, CLOSED),
        Waypoint(310, meet + xyz(-0.02, 0, -0.02), turned, CLOSED),
        Waypoint(350, meet + xyz(-0.10, 0, -0.02), turned, CLOSED),
    ]
    return left, right


def insertion(peg: Array, socket: Array, apart: Array, shift: Any) -> tuple[list[Waypoint], list[Waypoint]]:
    """The right hand takes the peg, the left hand the socket; in the air the peg is pushed in.

    ``apart`` is by how much the peg lies too low or too far aside in its hand for this.
    """
    right_down, left_down, level = ("y", -TILT), ("y", TILT), ("x", 0.0)
    meet = xyz(0.0, 0.5, 0.32)
    both = []
    for start, rotation, taken, side, grasp, held in (  # the last two: where the hand is, on the table and in the air
        (LEFT_START, left_down, socket, -1.0, -0.02, xyz(0, 0, -0.02)),
        (RIGHT_START, right_down, peg, 1.0, -0.038, xyz(0, 0, -0.0165) + apart),
    ):
        both.append(
            [
                Waypoint(0, start, level, CLOSED),
                Waypoint(90, taken + xyz(0, 0, 0.09) + shift(), rotation, OPEN),
                Waypoint(130, taken + xyz(0, 0, grasp), rotation, OPEN),
                Waypoint(165, taken + xyz(0, 0, grasp), rotation, CLOSED),
                Waypoint(250, meet + held + xyz(side * 0.11, 0, 0) + shift(), rotation, CLOSED),
                Waypoint(290, meet + held + xyz(side * 0.10, 0, 0), rotation, CLOSED),
                Waypoint(350, meet + held + xyz(side * 0.045, 0, 0), rotation, CLOSED),
                Waypoint(400, meet + held + xyz(side * 0.035, 0, 0), rotation, CLOSED),
            ]
        )
    return both[0], both[1]


class AlohaExpert:
    """The joints' way for one episode; ``noise`` moves the way-points in the air."""

    def __init__(self, pulled: Any, driven: Any, num_steps: int, seed: int, noise: float) -> None:
        """Plan the episode.

        Args:
            pulled: the copy with pulled hands, which has just been reset; it can be reset again.
            driven: of Insertion, a copy that is driven by joints; what is grasped lies otherwise in its hands.
            num_steps: length of the episode.
            seed: of the noise.
            noise: 1 is ``NOISE`` metres.
        """
        things = pulled.task.things

        def actions(apart: Array) -> Array:
            rng = np.random.default_rng([seed, 1])

            def shift() -> Array:
                moved: Array = noise * NOISE * rng.standard_normal(3)
                return moved

            pulled.reset()
            if driven is None:
                return _joints(pulled, *transfer_cube(things[:3], shift), num_steps)
            return _joints(pulled, *insertion(things[:3], things[7:10], apart, shift), num_steps)

        self.step = 0
        self.actions = actions(np.zeros(3))
        if driven is not None:
            self.actions = actions(_apart(driven, self.actions))

    def act(self) -> Array:
        """The next targets of the joints, as float32 holds them; after the last one it stays there."""
        action: Array = self.actions[min(self.step, len(self.actions) - 1)]
        self.step += 1
        return action


def _apart(driven: Any, actions: Array) -> Array:
    """From the peg to the socket's axis when both are held up."""
    driven.reset()
    for action in actions[:ALIGNED_STEP]:
        driven.step(action)
    peg, socket = driven.physics.data.qpos[16:19], driven.physics.data.qpos[23:26]
    return xyz(0, socket[1] - peg[1], socket[2] - peg[2])


def _joints(environment: Any, left: Sequence[Waypoint], right: Sequence[Waypoint], num_steps: int) -> Array:
    """``[num_steps, 14]``: where the joints are while the hands are pulled along their way-points."""
    actions = []
    joints = environment.physics.data.qpos
    for step in range(num_steps):
        hands = [_at(arm, step) for arm in (left, right)]
        environment.step(np.concatenate(hands))
        parts = [np.append(joints[arm], hand[7]) for arm, hand in zip(ARMS, hands, strict=True)]
        actions.append(np.concatenate(parts))
    return np.array(actions, np.float32)


def _at(waypoints: Sequence[Waypoint], step: int) -> Array:
    """Position, rotation as a quaternion, gripper: between the way-points before and after."""
    index = sum(point.step <= step for point in waypoints)
    before, after = waypoints[max(0, index - 1)], waypoints[min(index, len(waypoints) - 1)]
    share = (step - before.step) / max(1, after.step - before.step) if after is not before else 0.0
    position = before.position + share * (after.position - before.position)
    rotation = _quaternion(*before.rotation) * (1 - share) + _quaternion(*after.rotation) * share
    gripper = before.gripper + share * (after.gripper - before.gripper)
    return np.concatenate([position, rotation / np.linalg.norm(rotation), [gripper]])


def _quaternion(axis: str, degrees: float) -> Array:
    half = np.radians(degrees) / 2
    quaternion = np.zeros(4)
    quaternion[0], quaternion["xyz".index(axis) + 1] = np.cos(half), np.sin(half)
    return quaternion
