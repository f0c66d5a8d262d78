"""Pictures of a MuJoCo world for people, in software OpenGL: what they cannot see is not drawn.

Meshes are no finer than a pixel and textures are one colour each, in a copy of the model that the drawing context is made
of. Geoms outside of the picture are left out. Where only geoms have moved since the last frame, the rectangle around these
is all that is drawn again. Called by the ``render`` of adapters; runs in a guest only.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from .protocol import Array

PIXELS = 2.0  # side of the cells whose vertices become one
STILL = 2.0  # times as coarse is what cannot move
CELLS = 128  # of a mesh along each axis at most
HIDDEN = 5  # a group of geoms that nothing shows
SITE_GROUPS = 3  # the first so many are shown
NEAR_M = 0.01
SAMPLE = 17  # of so many pixels of a texture one counts for its colour
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)


class QuickView:
    """What draws one model; ``groups``: of its geoms, those that are shown."""

    def __init__(self, model: Any, groups: tuple[int, ...]) -> None:
        import mujoco

        self.model = model
        sites = (model.site_group < SITE_GROUPS) & (model.site_rgba[:, 3] > 0)
        self.shown = np.concatenate([np.isin(model.geom_group, groups), sites])
        self.is_rigid = not (model.ntendon or model.nskin or model.nflex)
        self.option = mujoco.MjvOption()
        self.option.geomgroup[:] = [group in groups for group in range(6)]
        self.camera = mujoco.MjvCamera()
        self.camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.scene = mujoco.MjvScene(model, 2000)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self.scene.flags[flag] = 0
        self.size = (0, 0)
        self.context: Any = None
        self.library: Any = None
        self.frame: Array = np.empty((0, 0, 3), np.uint8)
        self.forget()

    def forget(self) -> None:
        """Draw the next frame whole: something may have changed that is not a place."""
        self.last: _Look | None = None

    def draw(self, data: Any, camera: int, width: int, height: int, decorate: Any = None) -> Array:
        """An upright frame of one camera."""
        import mujoco

        look = _Look.of(self.model, data, camera, width, height)
        if self.size != (width, height):
            self._open(look)
        changed = look.changed_since(self.last, self.shown) if self.is_rigid else None
        self.last = look
        if changed is None:
            changed, self.frame = (0, 0, width, height), np.empty((height, width, 3), np.uint8)
        left, bottom, right, top = changed
        if left < right and bottom < top:
            self._update(look, data, changed, decorate)
            viewport = mujoco.MjrRect(0, 0, right - left, top - bottom)
            pixels = np.empty((top - bottom, right - left, 3), np.uint8)
            self.library.make_current()
            mujoco.mjr_render(viewport, self.scene, self.context)
            mujoco.mjr_readPixels(pixels, None, viewport, self.context)
            self.frame[bottom:top, left:right] = pixels
        frame: np.ndarray = self.frame[::-1].copy()
        return frame

    def close(self) -> None:
        """Let the drawing context go."""
        if self.context is not None:
            self.library.make_current()
            self.context.free()
            self.library.free()
            self.context, self.size = None, (0, 0)

    def _open(self, look: _Look) -> None:
        import mujoco

        self.close()
        coarse = coarsened(self.model, look, self.shown)
        coarse.vis.global_.offwidth, coarse.vis.global_.offheight = look.width, look.height
        coarse.vis.quality.offsamples = coarse.vis.quality.shadowsize = 0
        self.library = mujoco.GLContext(look.width, look.height)
        self.library.make_current()
        self.context = mujoco.MjrContext(coarse, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        self.size = (look.width, look.height)
        self.forget()

    def _update(self, look: _Look, data: Any, part: tuple[int, int, int, int], decorate: Any) -> None:
        """Fill the scene with what reaches into a part of the picture, and point its camera there."""
        import mujoco

        groups = self.model.geom_group.copy()
        self.model.geom_group[~look.reaches(part)[: self.model.ngeom]] = HIDDEN
        self.camera.fixedcamid = look.camera
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, data, self.option, mujoco.MjvPerturb(), self.camera, everything, self.scene)
        self.model.geom_group[:] = groups
        if decorate is not None:
            decorate(self.scene)
        left, bottom, right, top = part
        for eye in self.scene.camera:
            tall = eye.frustum_top - eye.frustum_bottom
            wide = 2 * eye.frustum_width or tall * look.width / look.height
            eye.frustum_center += wide * ((left + right) / look.width - 1) / 2
            eye.frustum_width *= (right - left) / look.width
            eye.frustum_top = eye.frustum_bottom + tall * top / look.height
            eye.frustum_bottom += tall * bottom / look.height


@dataclass(frozen=True)
class _Look:
    """Where all that can move was in one frame, in the world and in the picture."""

    camera: int
    width: int
    height: int
    fixed: Array  # where camera and lights are
    places: Array  # [geoms and sites, 12]
    boxes: Array  # [geoms and sites, 4] left, bottom, right, top of what is drawn of them
    depths: Array  # [geoms and sites] m

    @classmethod
    def of(cls, model: Any, data: Any, camera: int, width: int, height: int) -> _Look:
        """The world as it is."""
        fixed = [data.cam_xpos[camera], data.cam_xmat[camera], data.light_xpos.ravel(), data.light_xdir.ravel()]
        places = np.concatenate([data.geom_xpos, data.site_xpos])
        turns = np.concatenate([data.geom_xmat, data.site_xmat])
        sites = np.repeat(model.site_size.max(1, initial=0.0)[:, None], 3, 1)
        middles = np.concatenate([model.geom_aabb[:, :3], np.zeros_like(sites)])
        halves = np.concatenate([model.geom_aabb[:, 3:], sites])
        corners = middles[:, None] + CORNERS * halves[:, None]
        corners = places[:, None] + corners @ turns.reshape(-1, 3, 3).transpose(0, 2, 1)
        seen = (corners - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)
        depths = -seen[..., 2]
        focal = height / 2 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
        middle, limit = np.array([width, height]) / 2, np.array([width, height])
        pixels = middle + focal * seen[..., :2] / np.maximum(depths, NEAR_M)[..., None]
        first = np.clip(np.floor(pixels.min(1)) - 1, 0, limit)
        last = np.clip(np.ceil(pixels.max(1)) + 1, 0, limit)
        boxes = np.hstack([first, last]).astype(int)
        boxes[(depths < NEAR_M).any(1) | (halves == 0).all(1)] = (0, 0, width, height)
        boxes[(depths < 0).all(1) & (halves > 0).any(1)] = 0
        return cls(camera, width, height, np.concatenate(fixed), np.hstack([places, turns]), boxes, depths.mean(1))

    def reaches(self, part: tuple[int, int, int, int]) -> Array:
        """Which things may be seen in a part of the picture."""
        left, bottom, right, top = part
        boxes = self.boxes
        inside: Array = (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < top) & (boxes[:, 3] > bottom)
        return inside

    def changed_since(self, before: _Look | None, shown: Array) -> tuple[int, int, int, int] | None:
        """The rectangle around what has moved; None: all of the picture."""
        if before is None or (before.camera, before.width, before.height) != (self.camera, self.width, self.height):
            return None
        if not np.array_equal(before.fixed, self.fixed):
            return None
        moved = shown & (before.places != self.places).any(1)
        boxes = np.concatenate([before.boxes[moved], self.boxes[moved]])
        boxes = boxes[(boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])]
        if not len(boxes):
            return (0, 0, 0, 0)
        left, bottom = boxes[:, :2].min(0)
        right, top = boxes[:, 2:].max(0)
        return int(left), int(bottom), int(right), int(top)


def coarsened(model: Any, look: _Look, shown: Array) -> Any:
    """A copy of a model that looks the same from so far away, and is drawn in a fraction of the time."""
    coarse = copy.copy(model)
    pixel = 2 * np.tan(np.deg2rad(model.cam_fovy[look.camera]) / 2) / look.height  # at a distance of 1 m
    kept = np.empty(CELLS**3, np.int32)
    for mesh in range(model.nmesh):
        geoms = np.flatnonzero((model.geom_dataid == mesh) & shown[: model.ngeom])
        if len(geoms):
            is_still = (model.body_weldid[model.geom_bodyid[geoms]] == 0).all()
            cell_m = PIXELS * (STILL if is_still else 1) * pixel * max(NEAR_M, float(look.depths[geoms].min()))
            _merge_vertices(coarse, mesh, model.geom_aabb[geoms[0]], cell_m, kept)
        else:
            coarse.mesh_facenum[mesh] = 0
    for texture in range(model.ntex):
        _blend(coarse, texture)
    return coarse


def _merge_vertices(model: Any, mesh: int, bounds: Array, cell_m: float, kept: Array) -> None:
    """Keep one vertex in each cell, and each triangle between three cells once; ``bounds``: middle and half a box."""
    first, last = model.mesh_vertadr[mesh], model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh]
    vertices = model.mesh_vert[first:last]
    cell_m = max(cell_m, 2 * float(bounds[3:].max()) / (CELLS - 2))
    lowest = bounds[:3] - bounds[3:] - cell_m / 2
    cells = ((vertices - lowest.astype(np.float32)) * np.float32(1 / cell_m)).astype(np.int32)
    keys = (cells[:, 0] * CELLS + cells[:, 1]) * CELLS + cells[:, 2]
    kept[keys] = np.arange(len(keys))
    begin = model.mesh_faceadr[mesh]
    faces = slice(begin, begin + model.mesh_facenum[mesh])
    merged = kept[keys][model.mesh_face[faces]]
    a, b, c = merged.T
    distinct = np.flatnonzero((a != b) & (b != c) & (a != c))
    ordered = np.sort(merged[distinct], 1).astype(np.int64)
    _, once = np.unique((ordered[:, 0] * len(keys) + ordered[:, 1]) * len(keys) + ordered[:, 2], return_index=True)
    chosen = distinct[once]
    begin_to_end = slice(begin, begin + len(chosen))
    model.mesh_face[begin_to_end] = merged[chosen]
    for corners in (model.mesh_facenormal, model.mesh_facetexcoord):
        corners[begin_to_end] = corners[faces][chosen]
    model.mesh_facenum[mesh] = len(chosen)


def _blend(model: Any, texture: int) -> None:
    """One pixel of the mean colour."""
    height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
    channels, begin = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
    colours = model.tex_data[begin : begin + height * width * channels].reshape(-1, channels)[::SAMPLE]
    sides = 6 if height == 6 * width else 1  # of a cube
    model.tex_data[begin : begin + sides * channels] = np.tile(colours.mean(0).round().astype(np.uint8), sides)
    model.tex_height[texture], model.tex_width[texture] = sides, 1
