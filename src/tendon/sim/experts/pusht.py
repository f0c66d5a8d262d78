"""A planner for PushT that sees the simulator's state: it tries pushes in a copy of the physics and carries out the best.

A plan is a way around the T to one of its sides and a push from there. Every few steps the rest of the plan is compared
with variations of it and with fresh plans; it is replaced when one of them is clearly better. Units: pixels and control
steps of 0.1 s.
"""

from __future__ import annotations

from math import atan2, cos, hypot, log, pi, sin
from typing import Any

import numpy as np

from ..protocol import Array

SPEED = 20.0  # pixels that the target moves in one step
REPLAN = 4  # steps between two searches
NUM_FRESH, NUM_VARIED = 40, 16  # plans that are tried in a search
STEP_PRICE = 0.02  # a step is worth it when it brings the T 2 % nearer to its goal
MARGIN = 0.05  # by so much must another plan be better to replace the one that is carried out
SETTLE = 2  # steps for the agent to arrive where its target is
MAX_STEPS = 45  # of a plan
NOISE = 40.0  # pixels of standard deviation at noise 1
TIP = 90.0  # farther from the middle of the T than this the agent touches nothing
DETOUR = (105.0, 150.0)  # distance from the middle of the T on the way around it
SUBSTEPS, DT, STIFFNESS, DAMPING, RADIUS = 10, 0.01, 100.0, 20.0, 15.0  # of the simulator
SIDES = np.array([(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], float)
Plan = list[tuple[float, float]]  # corners of the way of the target


class Sandbox:
    """The simulator's bodies in a space of their own, without its counting of contacts and its drawing."""

    def __init__(self, env: Any) -> None:
        import pymunk

        self.space = pymunk.Space()
        self.space.damping = 0.0
        corners = [(5, 5), (506, 5), (506, 506), (5, 506)]
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
            self.space.add(env.add_segment(self.space, a, b, 2))
        self.agent = env.add_circle(self.space, (256, 400), RADIUS)
        self.block, self.shapes = env.add_tee(self.space, (256, 300), 0)
        self.goal = self._corners(*env.goal_pose)

    def distance_after(self, agent: tuple[float, ...], block: tuple[float, ...], targets: Array) -> float:
        """Mean distance of the T's corners from their goal when the agent has followed ``targets``.

        Args:
            agent: position and velocity.
            block: position and angle.
            targets: ``[steps, 2]``.
        """
        x, y, vx, vy = agent
        self.block.angle, self.block.position = block[2], block[:2]
        self.block.velocity, self.block.angular_velocity = (0.0, 0.0), 0.0
        near = False
        for target_x, target_y in targets.tolist():
            centre = self.block.local_to_world(self.block.center_of_gravity)
            nearest = hypot(x - centre.x, y - centre.y) - hypot(target_x - x, target_y - y) - hypot(vx, vy) * 0.1
            if near and nearest > TIP:
                near = False
            elif not near and nearest <= TIP:
                near, self.agent.position = True, (x, y)
            for _ in range(SUBSTEPS):
                vx += (STIFFNESS * (target_x - x) - DAMPING * vx) * DT
                vy += (STIFFNESS * (target_y - y) - DAMPING * vy) * DT
                if near:
                    self.agent.velocity = (vx, vy)
                    self.space.step(DT)
                x, y = x + vx * DT, y + vy * DT
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
        agent, block = self.env.agent, self.env.block
        at = (*agent.position, *agent.velocity)
        pose = (*block.position, block.angle)

        def cost(plan: Plan) -> float:
            targets = _targets(self.target, plan)
            return log(self.sandbox.distance_after(at, pose, targets) + 1) + STEP_PRICE * len(targets)

        best = cost(self.plan) - MARGIN if self.plan else float("inf")
        varied = [self._varied(self.plan) for _ in range(NUM_VARIED)] if self.plan else []
        for plan in varied + [self._fresh(pose) for _ in range(NUM_FRESH)]:
            price = cost(plan)
            if price < best:
                best, self.plan = price, plan

    def _varied(self, plan: Plan) -> Plan:
        """The same way with its last corners moved."""
        size = 10 ** self.rng.uniform(0, 1.3)
        moved = np.array(plan[-2:]) + size * self.rng.standard_normal((len(plan[-2:]), 2))
        return [*plan[:-2], *_inside(moved)]

    def _fresh(self, pose: tuple[float, ...]) -> Plan:
        """Around the T to a point beside one of its sides, then across this side."""
        lengths = np.linalg.norm(np.roll(SIDES, -1, 0) - SIDES, axis=1)
        side = int(self.rng.choice(len(SIDES), p=lengths / lengths.sum()))
        along = np.roll(SIDES, -1, 0)[side] - SIDES[side]
        touched = SIDES[side] + self.rng.uniform(0.05, 0.95) * along
        outward = np.array([along[1], -along[0]]) / lengths[side]
        self.sandbox.block.angle, self.sandbox.block.position = pose[2], pose[:2]
        to_world = self.sandbox.block.local_to_world
        start = np.array(to_world((touched + outward * (RADIUS + self.rng.uniform(4, 15))).tolist()))
        contact = np.array(to_world((touched + outward * RADIUS).tolist()))
        inward = (contact - start) / np.linalg.norm(contact - start)
        across = np.array([-inward[1], inward[0]]) * self.rng.normal(0, 0.35)
        end = contact + (inward + across) * 10 ** self.rng.uniform(0, 2.1)
        middle = np.array(to_world(self.sandbox.block.center_of_gravity))
        return [*self._around(middle, start), *_inside(np.array([start, end]))]

    def _around(self, middle: Array, start: Array) -> Plan:
        """Corners of an arc from where the target is to where the push starts; none where they are neighbours."""
        here = np.asarray(self.target) - middle
        there = start - middle
        first, turn = atan2(here[1], here[0]), 0.0
        turn = (atan2(there[1], there[0]) - first + pi) % (2 * pi) - pi
        if abs(turn) < 0.6 and hypot(*here) < 160:
            return []
        if self.rng.random() < 0.15:
            turn -= 2 * pi * np.sign(turn)
        radius = self.rng.uniform(*DETOUR)
        num = max(1, int(abs(turn) / 0.6))
        angles = [first + turn * (i + 1) / (num + 1) for i in range(num)]
        return _inside(np.array([middle + radius * np.array([cos(angle), sin(angle)]) for angle in angles]))


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
