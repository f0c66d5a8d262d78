"""A world of MuJoCo, changed for an episode and put back: lights, cameras, colours, masses, friction, where things lie.

Model and data are MuJoCo's own structures, whichever package holds them. Only arrays of the model change, so the adapter's next
reset finds the world that it knows. Called by perturbations.py alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .protocol import Array

LIGHTS = ("light_diffuse", "light_specular", "light_dir", "cam_pos", "cam_quat", "mat_rgba", "geom_rgba")
PHYSICS = ("body_mass", "body_inertia", "geom_friction", "pair_friction")
HEADLIGHT = ("ambient", "diffuse", "specular")
DIM = 0.5
CAMERA_M, CAMERA_RAD = 0.02, np.deg2rad(3)
SHIFT_M, SHIFT_RAD = 0.03, 0.3
FREE = 0  # mjJNT_FREE


class World:
    """What is changed of one model, and how it was."""

    def __init__(self, model: Any, data: Any, rng: np.random.Generator) -> None:
        self.model, self.data, self.rng = model, data, rng
        self.before = {name: getattr(model, name).copy() for name in (*LIGHTS, *PHYSICS)}
        self.headlight = {name: getattr(model.vis.headlight, name).copy() for name in HEADLIGHT}
        self.distractors: list[tuple[int, Array, Array, Array]] = []
        self.weighed = False

    def change(self, name: str) -> str:
        """Change one quantity; why it cannot be, or nothing."""
        import mujoco

        why: str = getattr(self, f"_{name}")()
        if not why and name == "start_state":
            mujoco.mj_forward(self.model, self.data)
        elif not why:
            mujoco.mj_camlight(self.model, self.data)  # where cameras and lights are; nothing else may move
        return why

    def restore(self) -> None:
        """All as it was."""
        for name, values in self.before.items():
            getattr(self.model, name)[:] = values
        for name, values in self.headlight.items():
            getattr(self.model.vis.headlight, name)[:] = values
        self._derive()
        self.distractors = []

    def paint(self) -> None:
        """Other pictures on all textures; before anything is drawn, since they are given to the graphics card once."""
        model = self.model
        pixels = model.tex_data if hasattr(model, "tex_data") else model.tex_rgb
        for number in range(model.ntex):
            channels = int(model.tex_nchannel[number]) if hasattr(model, "tex_nchannel") else 3
            height, width = int(model.tex_height[number]), int(model.tex_width[number])
            begin = int(model.tex_adr[number])
            picture = pixels[begin : begin + height * width * channels].reshape(height, width, channels)
            cells = self.rng.integers(0, 256, (-(-height // 16), -(-width // 16), channels))
            pattern = cells.repeat(16, 0).repeat(16, 1)[:height, :width]
            picture[:] = (0.6 * picture + 0.4 * pattern).astype(np.uint8)

    def decorate(self, scene: Any) -> None:
        """Add what is not part of the task to a scene, which is seen and touches nothing."""
        import mujoco

        for kind, size, place, colour in self.distractors:
            if scene.ngeom >= scene.maxgeom:
                return
            scene.ngeom += 1  # first: some packages show no more geoms than these
            mujoco.mjv_initGeom(scene.geoms[scene.ngeom - 1], kind, size, place, np.eye(3).flatten(), colour)

    def _lighting(self) -> str:
        model = self.model
        for name in ("light_diffuse", "light_specular"):
            getattr(model, name)[:] = DIM * self.before[name]
        turned = self.before["light_dir"] + self.rng.uniform(-0.5, 0.5, self.before["light_dir"].shape)
        model.light_dir[:] = turned / np.maximum(1e-9, np.linalg.norm(turned, axis=1, keepdims=True))
        for name in HEADLIGHT:
            getattr(model.vis.headlight, name)[:] = DIM * self.headlight[name]
        return ""

    def _camera_pose(self) -> str:
        model = self.model
        if not model.ncam:
            return "it has no camera"
        model.cam_pos[:] = self.before["cam_pos"] + self.rng.uniform(-CAMERA_M, CAMERA_M, (model.ncam, 3))
        for number in range(model.ncam):
            model.cam_quat[number] = _product(self.before["cam_quat"][number], self._turn(CAMERA_RAD))
        return ""

    def _texture(self) -> str:
        """In other colours too; patterns are painted when a model is built."""
        for name in ("mat_rgba", "geom_rgba"):
            values = self.before[name]
            getattr(self.model, name)[:, :3] = values[:, :3] * self.rng.uniform(0.5, 1.0, (len(values), 3))
        return ""

    def _distractor(self) -> str:
        things = self._free_joints()
        middle = self.model.stat.center.copy()
        if things:
            middle = np.mean([self.data.xpos[self.model.jnt_bodyid[joint]] for joint in things], 0)
        for kind in (2, 6, 5):  # mjGEOM_SPHERE, _BOX, _CYLINDER
            angle, away = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0.12, 0.22)
            place = middle + away * np.array([np.cos(angle), np.sin(angle), 0.0])
            colour = np.array([*self.rng.uniform(0, 1, 3), 1.0], np.float32)
            self.distractors.append((kind, np.full(3, 0.03), place, colour))
        return ""

    def _start_state(self) -> str:
        things = self._free_joints()
        if not things:
            return "nothing in it lies free to be put elsewhere"
        for joint in things:
            at = int(self.model.jnt_qposadr[joint])
            angle, turn = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(-SHIFT_RAD, SHIFT_RAD)
            self.data.qpos[at : at + 2] += SHIFT_M * np.array([np.cos(angle), np.sin(angle)])
            about_z = np.array([np.cos(turn / 2), 0, 0, np.sin(turn / 2)])
            self.data.qpos[at + 3 : at + 7] = _product(about_z, self.data.qpos[at + 3 : at + 7])
        return ""

    def _mass(self) -> str:
        things = {int(self.model.jnt_bodyid[joint]) for joint in self._free_joints()}
        if not things:
            return "nothing in it lies free to be heavier"
        for body in range(self.model.nbody):
            if int(self.model.body_rootid[body]) in {int(self.model.body_rootid[thing]) for thing in things}:
                self.model.body_mass[body] = 2 * self.before["body_mass"][body]
                self.model.body_inertia[body] = 2 * self.before["body_inertia"][body]
        self.weighed = True
        self._derive()
        return ""

    def _friction(self) -> str:
        for name in ("geom_friction", "pair_friction"):
            getattr(self.model, name)[:] = 0.5 * self.before[name]
        return ""

    def _derive(self) -> None:
        """What MuJoCo computes from masses once, in a copy of the data: it moves the joints while it does."""
        import mujoco

        if self.weighed:
            mujoco.mj_setConst(self.model, mujoco.MjData(self.model))

    def _free_joints(self) -> list[int]:
        return [joint for joint in range(self.model.njnt) if int(self.model.jnt_type[joint]) == FREE]

    def _turn(self, angle: float) -> Array:
        """A rotation about a random axis."""
        axis = self.rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * axis)])


def _product(a: Array, b: Array) -> Array:
    """Of two quaternions."""
    w, v, z, u = a[0], a[1:], b[0], b[1:]
    return np.array([w * z - v @ u, *(w * u + z * v + np.cross(v, u))])
