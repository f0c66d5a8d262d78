"""What people will see of an episode that has just been played, from states that were kept: nothing is simulated again.

An adapter of MuJoCo (``mujoco()``) needs nothing for it; another one has ``snapshot()``, numbers that say all that is
drawn, and ``show(snapshot)``, which puts the world so. ``PIXEL`` is by how much a number changes until people see it.
Called by guest.py; the next reset makes the world what it is without a film.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .protocol import Array

PIXEL = 4e-3  # m or rad, of a MuJoCo world of some 1 m on 256 pixels


class Film:
    """The states of one episode, and what is drawn of them."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter
        self.states: list[Array] = []

    @property
    def is_possible(self) -> bool:
        """Whether this adapter can be drawn from states."""
        drawn = hasattr(self.adapter, "render")
        return drawn and (hasattr(self.adapter, "snapshot") or hasattr(self.adapter, "mujoco"))

    def keep(self) -> None:
        """The world as it is now."""
        if hasattr(self.adapter, "snapshot"):
            self.states.append(np.array(self.adapter.snapshot(), np.float64))
            return
        _, data = self.adapter.mujoco()
        self.states.append(np.concatenate([data.qpos, data.mocap_pos.ravel(), data.mocap_quat.ravel()]))

    def plan(self, stride: int, most: int) -> tuple[int, list[tuple[int, int]]]:
        """Steps between frames, at least ``stride`` and so many that there are at most ``most``; frames, and how long each stays."""
        last = len(self.states) - 1
        stride = max(stride, -(-last // most))
        frames: list[tuple[int, int]] = []
        pixel = float(getattr(self.adapter, "PIXEL", PIXEL))
        for index in sorted({*range(0, last, stride), last}):
            if frames and np.abs(self.states[index] - self.states[frames[-1][0]]).max(initial=0.0) < pixel:
                frames[-1] = (frames[-1][0], frames[-1][1] + 1)
            else:
                frames.append((index, 1))
        return stride, frames

    def show(self, index: int) -> None:
        """The world as it was after so many steps, as far as it is drawn."""
        state = self.states[index]
        if hasattr(self.adapter, "show"):
            self.adapter.show(state)
            return
        import mujoco

        model, data = self.adapter.mujoco()
        num_joints, num_mocap = len(data.qpos), data.mocap_pos.size
        data.qpos[:] = state[:num_joints]
        data.mocap_pos[:] = state[num_joints : num_joints + num_mocap].reshape(data.mocap_pos.shape)
        data.mocap_quat[:] = state[num_joints + num_mocap :].reshape(data.mocap_quat.shape)
        for derive in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight, mujoco.mj_tendon):
            derive(model, data)
