"""Images made ready for a net on the device, as whole batches: size, crop, colours.

All chance comes from numbers in [0, 1) that the caller has drawn, so that a batch is changed alike in however many parts
it is computed; without them nothing is random. Bytes ``[B, T, H, W, C]`` or floats ``[B, T, C, H, W]`` become
``float32 [B, T, C, h, w]``, bytes as [0, 1]. Called by the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

NUMERICS = 1

GREY = (0.299, 0.587, 0.114)
NUM_COLOUR_DRAWS = 4
NUM_PLACE_DRAWS = 2


@dataclass(frozen=True)
class Augmentation:
    """What is done; zeros and () do nothing."""

    resize: tuple[int, ...] = ()  # height and width, before the crop
    crop: int = 0  # side of a square: anywhere with draws, the middle without
    brightness: float = 0.0  # factors from 1 - x to 1 + x, one per window: its frames change together
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # of the circle, at most 0.5

    @property
    def colours(self) -> bool:
        """Whether colours change."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    def num_draws(self, num_times: int) -> int:
        """Numbers that a window of so many frames needs."""
        return NUM_COLOUR_DRAWS * self.colours + NUM_PLACE_DRAWS * num_times * bool(self.crop)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what comes out."""
        if self.crop:
            return self.crop, self.crop
        return (self.resize[0], self.resize[1]) if self.resize else (height, width)


def to_float(images: Tensor) -> Tensor:
    """``uint8 [B, T, H, W, C]`` as ``float32 [B, T, C, H, W]`` in [0, 1]; floats are that already."""
    return _unit(_planes(images))


def augmented(images: Tensor, asked: Augmentation, draws_BN: Tensor | None = None) -> Tensor:
    """The images of a batch; ``draws_BN``: ``asked.num_draws(T)`` numbers per window."""
    found = _planes(images)
    B, T = found.shape[:2]
    if asked.resize and tuple(found.shape[-2:]) != asked.resize:
        resized = interpolate(_unit(found).flatten(0, 1), asked.resize, mode="bilinear", antialias=True)
        found = resized.reshape(B, T, *resized.shape[1:])
    colours_BN = None
    if draws_BN is not None and asked.colours:
        colours_BN, draws_BN = draws_BN[:, :NUM_COLOUR_DRAWS], draws_BN[:, NUM_COLOUR_DRAWS:]
    if asked.crop:  # while they are bytes, where nothing was resized
        corners_BT2 = None
        if draws_BN is not None:  # as robomimic, the last row and column of places are never drawn
            spare = torch.tensor([side - asked.crop for side in found.shape[-2:]], device=found.device)
            corners_BT2 = (draws_BN.reshape(B, T, NUM_PLACE_DRAWS) * spare).long()
        found = cropped(found, (asked.crop, asked.crop), corners_BT2)
    return _unit(found) if colours_BN is None else coloured(_unit(found), asked, colours_BN)


def _planes(images: Tensor) -> Tensor:
    return images.movedim(-1, -3) if images.dtype == torch.uint8 else images


def _unit(planes: Tensor) -> Tensor:
    return planes.float() / 255 if planes.dtype == torch.uint8 else planes


def cropped(planes: Tensor, size: tuple[int, int], corners_BT2: Tensor | None) -> Tensor:
    """A part of ``[B, T, C, H, W]``: its upper left corners are given for each frame, or it is the middle."""
    B, T, C, H, W = planes.shape
    height, width = size
    if corners_BT2 is None:
        top, left = (H - height) // 2, (W - width) // 2
        return planes[..., top : top + height, left : left + width]
    rows_BTh = corners_BT2[..., :1] + torch.arange(height, device=planes.device)
    columns_BTw = corners_BT2[..., 1:] + torch.arange(width, device=planes.device)
    rows = rows_BTh[:, :, None, :, None].expand(B, T, C, height, W)
    columns = columns_BTw[:, :, None, None, :].expand(B, T, C, height, width)
    return planes.gather(3, rows).gather(4, columns)


def coloured(images: Tensor, asked: Augmentation, draws_BN: Tensor) -> Tensor:
    """Brightness, contrast, saturation, hue, in this order."""
    draws = (draws_BN * 2 - 1).t()[:, :, None, None, None, None]
    if asked.brightness:
        images = (images * (1 + draws[0] * asked.brightness)).clamp(0, 1)
    if images.shape[2] != len(GREY):
        return images
    weights = torch.tensor(GREY, device=images.device)[:, None, None]
    if asked.contrast:
        mean = (images * weights).sum(-3, keepdim=True).mean((-1, -2), keepdim=True)
        images = (mean + (images - mean) * (1 + draws[1] * asked.contrast)).clamp(0, 1)
    if asked.saturation:
        grey = (images * weights).sum(-3, keepdim=True)
        images = (grey + (images - grey) * (1 + draws[2] * asked.saturation)).clamp(0, 1)
    if asked.hue:
        images = _turned(images, draws[3] * asked.hue)
    return images


def _turned(images: Tensor, turns: Tensor) -> Tensor:
    """Colours turned around the grey axis, as television does (YIQ): brightness stays."""
    angle = turns.flatten() * 2 * torch.pi
    to_yiq = images.new_tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    cos, sin, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], -1).reshape(-1, 3, 3)
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return torch.einsum("bij,btjhw->btihw", matrix, images).clamp(0, 1)
