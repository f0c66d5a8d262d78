"""gym-pusht 0.1.8's PushT with the same numbers, bit for bit, in a quarter of the time; runs in its guest only.

The simulator computes with vectors of Python, makes the mark anew in every step, and counts contacts that nobody reads. Here
the same operations are done in the same order with plain floats, and what does not change is kept.
"""

from __future__ import annotations

from math import cos, sin
from typing import Any

import numpy as np

from .protocol import Array

UNUSED = 1, 2  # types of bodies that there are none of


def quick_pusht() -> Any:
    """A ``PushTEnv`` that steps and looks quickly; starting, drawing and all else is the simulator's own."""
    import shapely
    from gym_pusht.envs.pusht import PushTEnv
    from pymunk._chipmunk import lib  # what Space.step and Body.velocity call

    class QuickPushT(PushTEnv):  # type: ignore[misc]
        def _setup(self) -> None:
            super()._setup()
            self._corners = [[tuple(vertex) for vertex in shape.get_vertices()] for shape in self._block_shapes]
            self._mark = self._outline(self.get_goal_pose_body(self.goal_pose))
            self._mark_area = shapely.area(self._mark)
            self._mark_bounds = shapely.bounds(self._mark).tolist()
            nothing = self.space.add_collision_handler(*UNUSED)
            self.collision_handeler._handler.postSolveFunc = nothing._handler.postSolveFunc

        def step(self, action: Array) -> tuple[None, float, bool, bool, dict[str, Any]]:
            """Like the simulator's, without its observation: see the adapter."""
            self._last_action = action
            goal_x, goal_y = (float(value) for value in action)
            agent, space, dt, k_p, k_v = self.agent._body, self.space._space, self.dt, self.k_p, self.k_v
            for _ in range(int(1 / (dt * self.control_hz))):
                position, velocity = lib.cpBodyGetPosition(agent), lib.cpBodyGetVelocity(agent)
                x, y = velocity.x, velocity.y
                x += (k_p * (goal_x - position.x) + k_v * (0 - x)) * dt
                y += (k_p * (goal_y - position.y) + k_v * (0 - y)) * dt
                lib.cpBodySetVelocity(agent, (x, y))
                lib.cpSpaceStep(space, dt)
            coverage = self._get_coverage()
            is_success = coverage > self.success_threshold
            reward = min(max(coverage / self.success_threshold, 0.0), 1.0)
            return None, reward, is_success, False, {"is_success": is_success, "coverage": coverage}

        def keypoints(self) -> Array:
            """``get_keypoints`` of the T, flat."""
            angle, at = self.block.angle, lib.cpBodyGetPosition(self.block._body)
            c, s = cos(angle), sin(angle)
            values = [(x * c - y * s + at.x, x * s + y * c + at.y) for corners in self._corners for x, y in corners]
            return np.array(values).ravel()

        def _get_coverage(self) -> float:
            block = self._outline(self.block)
            left, low, right, high = shapely.bounds(block).tolist()
            mark_left, mark_low, mark_right, mark_high = self._mark_bounds
            if left > mark_right or right < mark_left or low > mark_high or high < mark_low:
                return 0.0
            return float(shapely.area(shapely.intersection(self._mark, block)) / self._mark_area)

        def _outline(self, body: Any) -> Any:
            """The two rectangles of a T that lies as this body does."""
            rings = []
            for corners in self._corners:
                ring = [lib.cpBodyLocalToWorld(body._body, corner) for corner in corners]
                rings.append([(point.x, point.y) for point in (*ring, ring[0])])
            return shapely.multipolygons(shapely.polygons(np.array(rings)))

    return QuickPushT(obs_type="state")
