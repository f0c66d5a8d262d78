"""Cameras and masks: bytes to floats, size, padding, crop, colours. Masks take the same way, without blending values.

Chance comes from numbers in [0, 1) that the caller draws for each window; without them a crop is the middle and colours
stay. The parts that compute are in ``policies/parts/augment.py``, which the encoder of behaviour cloning uses too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tendon.data.features import Feature
from tendon.policies.processing.transform import Features, Phase, Transform, misfit, needed, reshaped

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = 1

Size = tuple[int, int]
Range = Literal["unit", "signed"]  # of a byte: [0, 1] or [-1, 1]
Side = Literal["middle", "front", "end"]  # where the picture lies among its padding: openpi's, at the end, at the front
NUM_COLOUR_DRAWS = 4


@dataclass(frozen=True, kw_only=True)
class ToFloat(Transform):
    """Bytes ``[B, T, H, W, C]`` to floats ``[B, T, C, H, W]``."""

    kind: ClassVar[str] = "to_float"

    keys: tuple[str, ...]
    range: Range = "unit"

    def after(self, features: Features) -> Features:
        """Cameras of floats; the shape stays written as (H, W, C)."""
        for key in self.keys:
            feature = needed(features, key, self.kind)
            if feature.kind != "image":
                raise misfit(self.kind, key, f"it is a {feature.kind}", "name cameras only")
            features = reshaped(features, key, feature.shape, "float32")
        return features

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """Also floats that came as floats, which are in the range already."""
        from tendon.policies.parts.augment import to_float

        made = {}
        for key in self.keys:
            if key in batch:
                unit = to_float(batch[key])
                made[key] = unit * 2 - 1 if self.range == "signed" and batch[key].dtype != unit.dtype else unit
        return made

    def inverse(
        self, actions: Mapping[str, Tensor], numbers: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """The nearest bytes (for a policy that predicts images)."""
        import torch

        made = {}
        for key in self.keys:
            if key in actions:
                unit = (actions[key] + 1) / 2 if self.range == "signed" else actions[key]
                made[key] = (unit * 255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)
        return made


@dataclass(frozen=True, kw_only=True)
class _OtherSize(Transform):
    """Pictures and masks get another height and width; how is each one's own."""

    keys: tuple[str, ...]
    size: Size
    antialias: bool = True

    def after(self, features: Features) -> Features:
        """Of the new size."""
        return _resized(features, self.keys, self.size, self.kind)

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """Each picture by itself."""
        return {key: self._one(batch[key]) for key in self.keys if key in batch}

    def _one(self, pictures: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Resize(_OtherSize):
    """Another height and width, stretched; masks take the nearest value."""

    kind: ClassVar[str] = "resize"

    mode: Literal["bilinear", "bicubic", "nearest"] = "bilinear"

    def _one(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-2:] == self.size:
            return pictures
        return _interpolated(pictures, self.size, self.mode, self.antialias)


@dataclass(frozen=True, kw_only=True)
class Letterbox(_OtherSize):
    """Another height and width with the picture's own proportions, the rest filled: openpi's resize_with_pad.

    ``fill`` is black in the range of the floats: 0 of [0, 1], -1 of [-1, 1]. Masks are filled with 0.
    """

    kind: ClassVar[str] = "letterbox"

    fill: float = 0.0
    side: Side = "middle"

    def _one(self, pictures: Tensor) -> Tensor:
        from torch.nn.functional import pad

        inner = inner_size(pictures.shape[-2], pictures.shape[-1], self.size)
        if pictures.shape[-2:] != inner:
            pictures = _interpolated(pictures, inner, "bilinear", self.antialias)
        top, bottom = _padding(self.size[0] - inner[0], self.side)
        left, right = _padding(self.size[1] - inner[1], self.side)
        fill = self.fill if pictures.is_floating_point() else 0
        return pad(pictures, (left, right, top, bottom), value=fill)


@dataclass(frozen=True, kw_only=True)
class Crop(Transform):
    """A part of the picture: anywhere with numbers of chance, the middle without (acting, validation).

    ``size``, or ``scale`` of the picture's own. One place for all frames of a window unless ``per_frame``; one for all
    keys with ``together`` (a camera and its mask).
    """

    kind: ClassVar[str] = "crop"

    keys: tuple[str, ...]
    size: tuple[int, ...] = ()
    scale: float = 1.0
    per_frame: bool = False
    together: bool = False
    random: bool = True  # false: the middle in training too
    middle: Literal["floor", "round"] = "floor"  # of an odd number of spare pixels; round: to even, as torchvision

    def after(self, features: Features) -> Features:
        """Of the size of the part."""
        for key in self.keys:
            feature = needed(features, key, self.kind)
            _demand_picture(feature, self.kind)
            height, width = self._size(feature.shape[0], feature.shape[1])
            if not (0 < height <= feature.shape[0] and 0 < width <= feature.shape[1]):
                why = f"it is {feature.shape[0]} x {feature.shape[1]}, the crop {height} x {width}"
                raise misfit(self.kind, key, why, "make the crop a part of the picture")
            features = reshaped(features, key, (height, width, *feature.shape[2:]))
        return features

    def num_draws(self, features: Features, times: Mapping[str, int]) -> int:
        """A row and a column for each place."""
        if not self.random:
            return 0
        return sum(self._draws(times).values()) if not self.together else max(self._draws(times).values())

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """The parts, bytes or floats as they came."""
        made, start = {}, 0
        for key in self.keys:
            if key not in batch:
                continue
            pictures = batch[key]
            places_BT2 = None
            if draws_BN is not None and self.random:
                count = 2 * (pictures.shape[1] if self.per_frame else 1)
                places_BT2 = draws_BN[:, start : start + count].reshape(len(pictures), -1, 2)
                start += 0 if self.together else count
            made[key] = self._one(pictures, places_BT2)
        return made

    def _draws(self, times: Mapping[str, int]) -> Mapping[str, int]:
        return {key: 2 * (times.get(key, 1) if self.per_frame else 1) for key in self.keys}

    def _size(self, height: int, width: int) -> Size:
        return (self.size[0], self.size[1]) if self.size else (int(height * self.scale), int(width * self.scale))

    def _one(self, pictures: Tensor, places_BT2: Tensor | None) -> Tensor:
        from tendon.policies.parts.augment import cropped

        planes, back = _planes(pictures)
        height, width = planes.shape[-2:]
        size = self._size(height, width)
        corners_BT2 = None
        if places_BT2 is None and self.middle == "round":
            top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
            return back(planes[..., top : top + size[0], left : left + size[1]])
        if places_BT2 is not None:
            spare = places_BT2.new_tensor([height - size[0], width - size[1]])
            corners_BT2 = (places_BT2 * (spare + 1)).long().expand(-1, planes.shape[1], -1)
        return back(cropped(planes, size, corners_BT2))


@dataclass(frozen=True, kw_only=True)
class Colour(Transform):
    """Brightness, contrast, saturation and hue, changed alike in all frames of a window; needs floats in [0, 1].

    ``together``: alike in all cameras too, as GR00T does.
    """

    kind: ClassVar[str] = "colour"

    keys: tuple[str, ...]
    brightness: float = 0.0  # factors from 1 - x to 1 + x
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # of the circle, at most 0.5
    together: bool = True

    def after(self, features: Features) -> Features:
        """The same; floats of one or three channels."""
        for key in self.keys:
            feature = needed(features, key, self.kind)
            if feature.kind != "image" or feature.dtype == "uint8":
                raise misfit(
                    self.kind, key, f"it is {feature.dtype} of a {feature.kind}", "put to_float in front of it"
                )
        return features

    def num_draws(self, features: Features, times: Mapping[str, int]) -> int:
        """One for each of the four changes."""
        return NUM_COLOUR_DRAWS * (1 if self.together else len(self.keys))

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """As they were, without numbers of chance."""
        from tendon.policies.parts.augment import Augmentation, coloured

        if draws_BN is None:
            return {}
        asked = Augmentation((), 0, self.brightness, self.contrast, self.saturation, self.hue)
        made = {}
        for i, key in enumerate(self.keys):
            if key in batch:
                start = 0 if self.together else NUM_COLOUR_DRAWS * i
                made[key] = coloured(batch[key], asked, draws_BN[:, start : start + NUM_COLOUR_DRAWS])
        return made


def inner_size(height: int, width: int, size: Size) -> Size:
    """Height and width of a picture that is made as large as it fits into ``size``."""
    ratio = max(width / size[1], height / size[0])
    return max(1, int(height / ratio)), max(1, int(width / ratio))


def _padding(spare: int, side: Side) -> tuple[int, int]:
    before = {"middle": spare // 2, "front": 0, "end": spare}[side]
    return before, spare - before


def _resized(features: Features, keys: tuple[str, ...], size: Size, kind: str) -> Features:
    for key in keys:
        feature = needed(features, key, kind)
        _demand_picture(feature, kind)
        if feature.kind == "image" and feature.dtype == "uint8":
            raise misfit(kind, key, "its images are bytes", "put to_float in front of it")
        features = reshaped(features, key, (*size, *feature.shape[2:]))
    return features


def _demand_picture(feature: Feature, kind: str) -> None:
    if feature.kind not in ("image", "mask"):
        raise misfit(kind, feature.key, f"it is a {feature.kind}", "name cameras and masks only")


def _interpolated(pictures: Tensor, size: Size, mode: str, antialias: bool) -> Tensor:
    """Floats ``[B, T, C, H, W]``; masks ``[B, T, H, W]``, whose values must not blend."""
    from torch.nn.functional import interpolate

    if not pictures.is_floating_point():
        nearest = interpolate(pictures.flatten(0, 1).unsqueeze(1), size, mode="nearest")
        return nearest.view(*pictures.shape[:2], *size)
    smooth = antialias and mode != "nearest"
    made = interpolate(pictures.flatten(0, 1), size, mode=mode, antialias=smooth)
    return made.view(*pictures.shape[:2], *made.shape[1:])


def _planes(pictures: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``[B, T, C, H, W]`` of bytes, floats or masks, and the way back."""
    if pictures.dim() == 4:
        return pictures.unsqueeze(2), lambda planes: planes.squeeze(2)
    if pictures.is_floating_point():
        return pictures, lambda planes: planes
    return pictures.movedim(-1, -3), lambda planes: planes.movedim(-3, -1)
