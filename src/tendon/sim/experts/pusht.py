"""A planner for PushT that sees the simulator's state: it tries pushes in a copy of the physics and carries out the best.

A plan is a way around the T to one of its sides and a push from there. Most pushes that are tried are the same in every
search, told in the frame of the T, so that what the planner does follows from what it sees and can be imitated; some are drawn,
so that it is never stuck. Every few steps the rest of the plan is compared with them and with variations of itself. Units:
pixels and control steps of 0.1 s.
"""

from __future__ import annotations

from math import atan2, cos, hypot, log, pi, sin
from typing import Any

import numpy as np

from ..protocol import Array

SPEED = 20.0  # pixels that the target moves in one step
REPLAN = 4  # steps between two searches
NUM_PUSHES, NUM_RANDOM, NUM_VARIED = 48, 16, 12  # plans that are tried in a search
STEP_PRICE = 0.008  # a step is worth it when it brings the T 0.8 % nearer to its goal
MARGIN = 0.05  # by so much must another plan be better to replace the one that is carried out
DRAWN = 0.1  # by so much must a push that was drawn be better than one that is always tried
SETTLE = 2  # steps for the agent to arrive where its target is
MAX_STEPS = 45  # of a plan
NOISE = 40.0  # pixels of standard deviation at noise 1
TIP = 90.0  # farther from the middle of the T than this the agent touches nothing
DETOUR = 115.0  # distance from the middle of the T on the way around it
STANDOFF = 8.0  # between the agent and the side where a push begins
SUBSTEPS, DT, STIFFNESS, DAMPING, RADIUS = 10, 0.01, 100.0, 20.0, 15.0  # of the simulator
SIDES = np.array([(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], float)
SPREAD = np.array([0.8191725134, 0.6710436067, 0.5497004779])  # of a sequence that fills a cube evenly
Plan = list[tuple[float, float]]  # corners of the way of the target


class Sandbox:
    """The simulator's bodies in a space of their own, without its counting of contacts and its drawing."""

    lib: Any

    def __init__(self, env: Any) -> None:
        import pymunk
        from pymunk._chipmunk import lib  # Space.step and Body.velocity take three times as long

        self.lib = lib
        self.space = pymunk.Space()
        self.space.damping = 0.0
        corners = [(5, 5), (506, 5), (506, 506), (5, 506)]
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
            self.space.add(env.add_segment(self.space, a, b, 2))
        self.agent = env.add_circle(self.space, (256, 400), RADIUS)
        self.block, self.shapes = env.add_tee(self.space, (256, 300), 0)
        self.goal = self._corners(*env.goal_pose)

    def distance_after(self, block: tuple[float, ...], positions: Array, velocities: Array) -> float:
        """Mean distance of the T's corners from their goal when the agent has gone this way.

        Args:
            block: position and angle.
            positions: of the agent before each substep ``[steps, SUBSTEPS, 2]``.
            velocities: of the agent during it.
        """
        self.block.angle, self.block.position = block[2], block[:2]
        self.block.velocity, self.block.angular_velocity = (0.0, 0.0), 0.0
        middle = tuple(self.block.center_of_gravity)
        near = False
        starts, reaches = positions[:, 0].tolist(), np.abs(positions - positions[:, :1]).sum(-1).max(1).tolist()
        for (x, y), reach, moving in zip(starts, reaches, velocities.tolist(), strict=True):
            centre = self.lib.cpBodyLocalToWorld(self.block._body, middle)
            if hypot(x - centre.x, y - centre.y) - reach > TIP:
                near = False
                continue
            if not near:
                near, self.agent.position = True, (x, y)
            for velocity in moving:
                self.lib.cpBodySetVelocity(self.agent._body, velocity)
                self.lib.cpSpaceStep(self.space._space, DT)
        position = self.block.position
        return float(np.linalg.norm(self._corners(position.x, position.y, self.block.angle) - self.goal, axis=1).mean())

    def _corners(self, x: float, y: float, angle: float) -> Array:
        self.block.angle, self.block.position = angle, (x, y)
        return np.array([self.block.local_to_world(corner) for corner in SIDES.tolist()])


class PushTExpert:
    """Plans one episode of ``env``, which has just been reset."""

    def __init__(self, env: Any, seed: int, noise: float) -> None:
        self.env, self.noise = env, noise
        self.rng, self.noise_rng = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
        self.sandbox = Sandbox(env)
        self.pushes = _pushes(np.outer(np.arange(1, NUM_PUSHES + 1), SPREAD) % 1)
        self.target = tuple(env.agent.position)
        self.plan: Plan = []
        self.steps = 0

    def act(self) -> Array:
        """Where the agent should go next, as float32 holds it."""
        if self.steps % REPLAN == 0 or not self.plan:
            self._search()
        self.steps += 1
        self.target, self.plan = _advance(self.target, self.plan)
        noisy = np.asarray(self.target) + self.noise * NOISE * self.noise_rng.standard_normal(2)
        action: Array = np.clip(noisy, 0, 512).astype(np.float32)
        return action

    def _search(self) -> None:
        """The shortest plans first: a longer one is tried only while its steps alone do not make it worse."""
        agent, block = self.env.agent, self.env.block
        pose = (*block.position, block.angle)
        varied = [self._varied(self.plan) for _ in range(NUM_VARIED)] if self.plan else []
        plans = [*([self.plan] if self.plan else []), *varied, *self._fresh(pose)]
        targets = [_targets(self.target, plan) for plan in plans]
        positions, velocities = _followed(np.array(agent.position), np.array(agent.velocity), targets)
        best = float("inf")
        for index in [0, *sorted(range(1, len(plans)), key=lambda index: len(targets[index]))]:
            steps = len(targets[index])
            price = STEP_PRICE * steps
            if price >= best:
                break
            if index >= len(plans) - NUM_RANDOM:
                price += DRAWN
            price += log(self.sandbox.distance_after(pose, positions[index, :steps], velocities[index, :steps]) + 1)
            if index == 0 and self.plan:
                price -= MARGIN
            if price < best:
                best, chosen = price, plans[index]
        self.plan = chosen

    def _varied(self, plan: Plan) -> Plan:
        """The same way with its last corners moved."""
        size = 10 ** self.rng.uniform(0, 1.3)
        moved = np.array(plan[-2:]) + size * self.rng.standard_normal((len(plan[-2:]), 2))
        return [*plan[:-2], *_inside(moved)]

    def _fresh(self, pose: tuple[float, ...]) -> list[Plan]:
        """Around the T to a point beside one of its sides, then across this side: one plan for each push."""
        turned = np.array([[cos(pose[2]), sin(pose[2])], [-sin(pose[2]), cos(pose[2])]])
        drawn = _pushes(self.rng.random((NUM_RANDOM, 3)))
        corners = np.concatenate([self.pushes, drawn]) @ turned + np.array(pose[:2])  # start and end
        middle = np.array(self.env.block.local_to_world(self.env.block.center_of_gravity))
        return [[*self._around(middle, start), *_inside(np.array([start, end]))] for start, end in corners]

    def _around(self, middle: Array, start: Array) -> Plan:
        """Corners of an arc from where the target is to where the push starts; none where they are neighbours."""
        here = np.asarray(self.target) - middle
        there = start - middle
        first = atan2(here[1], here[0])
        turn = (atan2(there[1], there[0]) - first + pi) % (2 * pi) - pi
        if abs(turn) < 0.6 and hypot(*here) < 160:
            return []
        num = max(1, int(abs(turn) / 0.6))
        angles = [first + turn * (i + 1) / (num + 1) for i in range(num)]
        return _inside(np.array([middle + DETOUR * np.array([cos(angle), sin(angle)]) for angle in angles]))


def _pushes(chosen: Array) -> Array:
    """Where each push starts and ends in the frame of the T ``[pushes, 2, 2]``.

    Args:
        chosen: numbers from 0 to 1 ``[pushes, 3]``: the place along the sides, the aim, the length.
    """
    along = np.roll(SIDES, -1, 0) - SIDES
    lengths = np.linalg.norm(along, axis=1)
    share, aim, length = chosen.T
    reached = share * lengths.sum()
    side = np.searchsorted(lengths.cumsum(), reached)
    left = (reached - (lengths.cumsum() - lengths)[side]) / lengths[side]
    unit = (along / lengths[:, None])[side]
    outward = np.stack([unit[:, 1], -unit[:, 0]], 1)
    contact = SIDES[side] + (0.05 + 0.9 * left)[:, None] * along[side] + RADIUS * outward
    push = (-outward + (1.2 * aim - 0.6)[:, None] * unit) * 10 ** (2.1 * length)[:, None]
    return np.stack([contact + STANDOFF * outward, contact + push], 1)


def _followed(position: Array, velocity: Array, targets: list[Array]) -> tuple[Array, Array]:
    """Where the agent is before each substep, and its velocity in it, for each way ``[ways, steps, SUBSTEPS, 2]``."""
    steps = max(map(len, targets))
    padded = np.stack([np.concatenate([way, np.repeat(way[-1:], steps - len(way), 0)]) for way in targets])
    positions, velocities = np.empty((2, len(targets), steps, SUBSTEPS, 2))
    at, moving = np.tile(position, (len(targets), 1)), np.tile(velocity, (len(targets), 1))
    for step in range(steps):
        for substep in range(SUBSTEPS):
            positions[:, step, substep] = at
            moving = moving + (STIFFNESS * (padded[:, step] - at) - DAMPING * moving) * DT
            velocities[:, step, substep] = moving
            at = at + moving * DT
    return positions, velocities


def _inside(points: Array) -> Plan:
    """Where the agent can be."""
    return [(float(x), float(y)) for x, y in np.clip(points, 22, 489)]


def _advance(target: tuple[float, ...], plan: Plan) -> tuple[tuple[float, float], Plan]:
    """One step of the target along its way, and what is left of this."""
    x, y = target
    left, plan = SPEED, list(plan)
    while plan and left > 0:
        far = hypot(plan[0][0] - x, plan[0][1] - y)
        if far <= left:
            (x, y), left = plan.pop(0), left - far
        else:
            x, y, left = x + (plan[0][0] - x) * left / far, y + (plan[0][1] - y) * left / far, 0.0
    return (x, y), plan


def _targets(target: tuple[float, ...], plan: Plan) -> Array:
    """The whole way of the target, and some steps for the agent to catch up."""
    targets: list[tuple[float, ...]] = []
    while plan and len(targets) < MAX_STEPS:
        target, plan = _advance(target, plan)
        targets.append(target)
    return np.array(targets + [target] * SETTLE)
