"""The action codec on the device: buttons and camera of a dataset, in its order of names, to classes and back. No state.

What ``actions.py`` says in numpy, in torch; tests hold the two to each other. Axes: ... any; K buttons; 2 pitch and yaw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tendon.policies.rocket1.actions import (
    GROUPS,
    INVENTORY_CLASS,
    NUM_BUTTON_CLASSES,
    OPPOSITES,
    STRIDES,
    ActionCodec,
)
from tendon.policies.rocket1.features import BUTTON_NAMES


class ActionClasses(nn.Module):
    """Encodes targets and decodes what was drawn; its tables are buffers that no file holds."""

    pressed_table: Tensor
    degree_table: Tensor

    def __init__(self, codec: ActionCodec, button_names: Sequence[str] = BUTTON_NAMES) -> None:
        """``button_names``: of the dataset's columns, in its order; buttons that VPT has and it has not are never pressed."""
        super().__init__()
        self.codec = codec
        self.place = {name: i for i, name in enumerate(button_names)}
        classes = np.arange(NUM_BUTTON_CLASSES)
        pressed, _ = codec.decode(classes, np.full(NUM_BUTTON_CLASSES, codec.camera.null))
        own = [BUTTON_NAMES.index(name) for name in button_names if name in BUTTON_NAMES]
        table = np.zeros((NUM_BUTTON_CLASSES, len(button_names)), np.float32)
        table[:, [self.place[BUTTON_NAMES[i]] for i in own]] = pressed[:, own]
        bins = codec.camera.degrees(np.arange(codec.camera.num_bins)).astype(np.float32)
        camera = np.stack(np.meshgrid(bins, bins, indexing="ij"), -1).reshape(-1, 2)
        self.register_buffer("pressed_table", torch.from_numpy(table), persistent=False)
        self.register_buffer("degree_table", torch.from_numpy(camera), persistent=False)

    def encode(self, buttons_K: Tensor, camera_2: Tensor) -> dict[str, Tensor]:
        """The classes ``[...]`` of each head."""
        pressed = buttons_K != 0
        bins = self._bins(camera_2)
        camera = bins[..., 0] * self.codec.camera.num_bins + bins[..., 1]
        inventory = self._button(pressed, "inventory")
        camera = torch.where(inventory, self.codec.camera.null, camera)
        combination = (camera != self.codec.camera.null).long()
        for group, stride in zip(GROUPS, STRIDES[:-1], strict=True):
            digit = torch.zeros_like(combination)
            held = [self._button(pressed, name) for name in group]
            for number, one in enumerate(held, start=1):  # the later one wins
                digit = torch.where(one, number, digit)
            if group in OPPOSITES:
                digit = torch.where(held[0] & held[1], 0, digit)
            combination = combination + digit * stride
        return {"buttons": torch.where(inventory, INVENTORY_CLASS, combination), "camera": camera}

    def decode(self, buttons: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """Buttons ``[..., K]`` of 0 and 1, and degrees ``[..., 2]``, both float32."""
        moves = (buttons == INVENTORY_CLASS) | (buttons % 2 == 1)
        camera = torch.where(moves, camera, self.codec.camera.null)
        return self.pressed_table[buttons], self.degree_table[camera]

    def _bins(self, degrees: Tensor) -> Tensor:
        bins = self.codec.camera
        share = degrees.double().clamp(-bins.max_degrees, bins.max_degrees) / bins.max_degrees
        if bins.mu:
            share = share.sign() * (share.abs() * bins.mu).log1p() / math.log1p(bins.mu)
        return ((share + 1) * bins.max_degrees / bins.bin_size).round().long()

    def _button(self, pressed_K: Tensor, name: str) -> Tensor:
        at = self.place.get(name)
        return torch.zeros_like(pressed_K[..., 0]) if at is None else pressed_K[..., at]


def draw(log_probs: Tensor, uniform: Tensor, nucleus: float) -> Tensor:
    """A class ``[...]`` for each distribution ``[..., C]``: of the most probable ones that make up ``nucleus``, by a number in [0, 1)."""
    ordered, classes = log_probs.exp().sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.where(before < nucleus, ordered, 0.0)
    kept[..., 0] = ordered[..., 0]  # the most probable one is always there
    total = kept.cumsum(-1)
    place = (total <= (uniform * total[..., -1]).unsqueeze(-1)).sum(-1, keepdim=True)
    last = (kept > 0).sum(-1, keepdim=True) - 1
    return classes.gather(-1, torch.minimum(place, last)).squeeze(-1)
