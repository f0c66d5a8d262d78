"""Images changed at random on the device, while they are still whole batches: crop, colours, size.

One draw per window, so that the frames of a window move together; the draw is a function of a generator that the loop
seeds. Images come as the loader gives them, ``uint8 [B, T, H, W, C]``, and leave as ``float32 [B, T, C, H, W]`` in
[0, 1]. Called by policies that see.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augmentation:
    """What is done; zeros and None do nothing."""

    resize: tuple[int, int] | None = None  # height and width, before the crop
    crop: tuple[int, int] | None = None  # at random in training, in the middle otherwise
    brightness: float = 0.0  # factors from 1 - x to 1 + x
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # of the circle, at most 0.5


def to_float(images: Tensor) -> Tensor:
    """``uint8 [B, T, H, W, C]`` as ``float32 [B, T, C, H, W]`` in [0, 1]."""
    return images.movedim(-1, -3).float() / 255


def augmented(images: Tensor, asked: Augmentation, generator: torch.Generator | None) -> Tensor:
    """The images of a batch; without a generator nothing is random."""
    found = to_float(images)
    if asked.resize is not None and tuple(found.shape[-2:]) != asked.resize:
        B, T = found.shape[:2]
        resized = interpolate(found.flatten(0, 1), asked.resize, mode="bilinear", antialias=True)
        found = resized.reshape(B, T, *resized.shape[1:])
    if asked.crop is not None:
        found = _cropped(found, asked.crop, generator)
    if generator is not None:
        found = _coloured(found, asked, generator)
    return found


def _cropped(images: Tensor, size: tuple[int, int], generator: torch.Generator | None) -> Tensor:
    """One place per window, gathered at once."""
    (B, T, C, H, W), (h, w) = images.shape, size
    room = torch.tensor([H - h + 1, W - w + 1], device=images.device)
    if generator is None:
        corner = ((room - 1) // 2).expand(B, 2)
    else:
        corner = (torch.rand(B, 2, device=images.device, generator=generator) * room).long().clamp(max=room - 1)
    rows = (corner[:, :1] + torch.arange(h, device=images.device))[:, None, None, :, None].expand(B, T, C, h, W)
    columns = (corner[:, 1:] + torch.arange(w, device=images.device))[:, None, None, None, :].expand(B, T, C, h, w)
    return images.gather(3, rows).gather(4, columns)


def _coloured(images: Tensor, asked: Augmentation, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, hue, in this order."""
    B = images.shape[0]
    draws = torch.rand(4, B, 1, 1, 1, 1, device=images.device, generator=generator) * 2 - 1
    if asked.brightness:
        images = (images * (1 + draws[0] * asked.brightness)).clamp(0, 1)
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
