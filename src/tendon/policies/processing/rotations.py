"""Rotations written in another way: quaternions, axis and angle, Euler angles, 6 numbers, matrices. Differentiable.

``rotation_6d`` is the first two rows of the matrix, as pytorch3d, robomimic and GR00T have it. ``euler_XYZ``: three
different axes in any order; capital letters turn about the moving axes, small ones about the fixed ones, as scipy's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from tendon.data.stats import FeatureStats
from tendon.policies.processing.normalize import bounds
from tendon.policies.processing.transform import Features, Phase, Stats, Transform, misfit, needed, reshaped

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = 1

WIDTHS = {"quaternion_xyzw": 4, "quaternion_wxyz": 4, "axis_angle": 3, "rotation_6d": 6, "matrix": 9}
EULER = tuple(
    f"euler_{''.join(axes)}"
    for letters in ("XYZ", "xyz")
    for axes in [(a, b, c) for a in letters for b in letters for c in letters if len({a, b, c}) == 3]
)
KINDS = (*WIDTHS, *EULER)
SMALL = 1e-8
T = TypeVar("T")


def width_of(kind: str) -> int:
    """Numbers of a rotation."""
    return WIDTHS.get(kind, 3)


@dataclass(frozen=True, kw_only=True)
class Rotation(Transform):
    """The numbers from ``start`` on of some vectors become another way to write the same rotation; the others stay.

    Example:
        ``Rotation(keys=("observation.state", "action"), start=3, source="axis_angle", target="rotation_6d")``
    """

    kind: ClassVar[str] = "rotation"

    keys: tuple[str, ...]
    start: int
    source: str
    target: str

    def after(self, features: Features) -> Features:
        """Vectors that are as much longer or shorter."""
        for key in self.keys:
            feature = needed(features, key, self.kind)
            for kind in (self.source, self.target):
                if kind not in KINDS:
                    raise misfit(self.kind, key, f"there is no {kind}", f"choose of {', '.join(KINDS)}")
            end = self.start + width_of(self.source)
            if end > feature.dim:
                why = f"{self.source} takes its numbers {self.start} to {end - 1}, it has {feature.dim}"
                raise misfit(self.kind, key, why, "name where the rotation begins")
            names = self._spliced(feature.names, [""] * width_of(self.target)) if feature.names else ()
            width = feature.dim - width_of(self.source) + width_of(self.target)
            features = reshaped(features, key, (width,), names=names)
        return features

    def stats_after(self, features: Features, stats: Stats) -> Stats:
        """The ends of what the new numbers can be; their mean and std are not known."""
        after, made = self.after(features), dict(stats)
        angle = self.target == "axis_angle" or self.target in EULER
        for key in self.keys:
            if key in stats:
                limits = bounds(after[key], *((-math.pi, math.pi) if angle else (-1.0, 1.0)))
                old = {name: getattr(stats[key], name) for name in ("mean", "std", "min", "max", "q01", "q99")}
                new = {
                    name: self._spliced(values, getattr(limits, name)[: width_of(self.target)])
                    for name, values in old.items()
                }
                made[key] = FeatureStats(stats[key].count, **new)
        return made

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """From ``source`` to ``target``."""
        return {key: self._turned(batch[key], self.source, self.target) for key in self.keys if key in batch}

    def inverse(
        self, actions: Mapping[str, Tensor], numbers: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """From ``target`` to ``source``; what is not quite a rotation becomes the nearest one."""
        return {key: self._turned(actions[key], self.target, self.source) for key in self.keys if key in actions}

    def _spliced(self, values: Sequence[T], new: Sequence[T]) -> tuple[T, ...]:
        return (*values[: self.start], *new, *values[self.start + width_of(self.source) :])

    def _turned(self, vectors: Tensor, source: str, target: str) -> Tensor:
        import torch

        end = self.start + width_of(source)
        part = convert(vectors[..., self.start : end], source, target)
        return torch.cat([vectors[..., : self.start], part, vectors[..., end:]], -1)


def convert(values: Tensor, source: str, target: str) -> Tensor:
    """Rotations ``[..., n]`` written as ``source`` to ``[..., m]`` written as ``target``."""
    if source == target:
        return values
    return from_matrix(to_matrix(values, source), target)


def to_matrix(values: Tensor, kind: str) -> Tensor:
    """``[..., 3, 3]``; what is not quite a rotation is made one."""
    import torch

    if kind == "matrix":
        return values.reshape(*values.shape[:-1], 3, 3)
    if kind == "rotation_6d":
        first = torch.nn.functional.normalize(values[..., :3], dim=-1)
        second = values[..., 3:]
        second = torch.nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
        return torch.stack([first, second, torch.linalg.cross(first, second)], -2)
    if kind == "quaternion_wxyz":
        return _matrix_of_quaternion(values.roll(-1, -1))
    if kind == "quaternion_xyzw":
        return _matrix_of_quaternion(values)
    if kind == "axis_angle":
        half = values.norm(dim=-1, keepdim=True) / 2
        # sin(half) / angle, by its series where the angle is next to nothing
        factor = torch.where(half > SMALL, half.sin() / (2 * half).clamp(min=SMALL), 0.5 - half.square() / 12)
        return _matrix_of_quaternion(torch.cat([values * factor, half.cos()], -1))
    axes = kind.removeprefix("euler_")
    turns = [_about(axis.lower(), angle) for axis, angle in zip(axes, values.unbind(-1), strict=True)]
    first, second, third = turns if axes.isupper() else reversed(turns)
    result: Tensor = first @ second @ third
    return result


def from_matrix(matrix: Tensor, kind: str) -> Tensor:
    """Rotation matrices ``[..., 3, 3]`` written as ``kind``; a quaternion's real part is not negative."""
    import torch

    if kind == "matrix":
        return matrix.flatten(-2)
    if kind == "rotation_6d":
        return matrix[..., :2, :].flatten(-2)
    if kind in EULER:
        return _euler(matrix, kind.removeprefix("euler_"))
    quaternion = _quaternion(matrix)
    if kind == "quaternion_xyzw":
        return quaternion
    if kind == "quaternion_wxyz":
        return quaternion.roll(1, -1)
    vector, real = quaternion[..., :3], quaternion[..., 3:]
    sine = vector.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, real)
    return vector * torch.where(sine > SMALL, angle / sine.clamp(min=SMALL), 2.0)


def _matrix_of_quaternion(xyzw: Tensor) -> Tensor:
    import torch

    x, y, z, w = torch.nn.functional.normalize(xyzw, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _quaternion(matrix: Tensor) -> Tensor:
    """x, y, z, w: of four ways to compute it the one that divides by the largest number."""
    import torch

    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    diagonal = [m[..., i, i] for i in range(3)]
    squares = torch.stack([1 - trace + 2 * one for one in diagonal] + [1 + trace], -1)  # 4 x^2, 4 y^2, 4 z^2, 4 w^2
    xy, xz, yz = (m[..., i, j] + m[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    xw, yw, zw = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    products = torch.stack(
        [
            torch.stack([squares[..., 0], xy, xz, xw], -1),
            torch.stack([xy, squares[..., 1], yz, yw], -1),
            torch.stack([xz, yz, squares[..., 2], zw], -1),
            torch.stack([xw, yw, zw, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = torch.nn.functional.normalize(products.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def _about(axis: str, angle: Tensor) -> Tensor:
    """Turns about one axis ``[..., 3, 3]``."""
    import torch

    cos, sin, one, zero = angle.cos(), angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)
    entries = {
        "x": (one, zero, zero, zero, cos, -sin, zero, sin, cos),
        "y": (cos, zero, sin, zero, one, zero, -sin, zero, cos),
        "z": (cos, -sin, zero, sin, cos, zero, zero, zero, one),
    }
    return torch.stack(entries[axis], -1).reshape(*angle.shape, 3, 3)


def _euler(matrix: Tensor, axes: str) -> Tensor:
    """Of three different axes, the middle angle within a quarter turn."""
    import torch

    order = axes if axes.isupper() else axes[::-1]
    i, j, k = ("XYZ".index(axis) for axis in order.upper())
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    first = torch.atan2(-sign * matrix[..., j, k], matrix[..., k, k])
    second = torch.asin((sign * matrix[..., i, k]).clamp(-1, 1))
    third = torch.atan2(-sign * matrix[..., i, j], matrix[..., i, i])
    angles = (first, second, third) if axes.isupper() else (third, second, first)
    return torch.stack(angles, -1)
