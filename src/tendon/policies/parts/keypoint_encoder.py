"""LeRobot's image encoder: a crop, a ResNet with GroupNorm, key points, a linear layer with ReLU. N: images of a batch.

As the encoder of its Diffusion and VQ-BeT policies: twice as many features as key points. ``vision.py`` is robomimic's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tendon.policies.parts.augment import cropped
from tendon.policies.parts.vision import RESNET_CHANNELS, RESNET_STRIDE, Backbone, make_resnet

NUMERICS = 1

CHANNELS_OF_A_GROUP = 16


class KeypointEncoder(nn.Module):
    """Images ``[N, C, H, W]`` of floats to ``[N, 2 * num_keypoints]``."""

    places: Tensor  # [P, 2]

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        *,
        backbone: Backbone,
        pretrained: bool,
        group_norm: bool,
        num_keypoints: int,
    ) -> None:
        """``size``: of the images behind the crop."""
        super().__init__()
        self.size, self.output_dim = size, 2 * num_keypoints
        self.backbone = make_resnet(backbone, channels, pretrained=pretrained)
        if group_norm:
            normalize_groups(self.backbone)
        self.filters = nn.Conv2d(RESNET_CHANNELS, num_keypoints, 1)
        self.linear = nn.Linear(self.output_dim, self.output_dim)
        self.register_buffer("places", places_of(size), persistent=False)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """The expected place ``(x, y)`` of each filter, mixed."""
        weights_NKP = self.filters(self.backbone(images_NCHW)).flatten(2).softmax(-1)
        features_NF: Tensor = self.linear((weights_NKP @ self.places).flatten(1)).relu()
        return features_NF

    def crop(self, images: Tensor, places_B2: Tensor | None) -> Tensor:
        """A part of ``[B, T, C, H, W]``: one place for a window, by numbers in [0, 1); the middle without them."""
        spare = [side - part for side, part in zip(images.shape[-2:], self.size, strict=True)]
        if spare == [0, 0]:
            return images
        if places_B2 is None:  # round, not floor: as torchvision's CenterCrop
            corner = images.new_tensor([round(one / 2) for one in spare]).long()
            return cropped(images, self.size, corner.expand(*images.shape[:2], 2))
        corners_B2 = (places_B2 * (images.new_tensor(spare) + 1)).long()
        return cropped(images, self.size, corners_B2.unsqueeze(1).expand(-1, images.shape[1], -1))


def places_of(size: tuple[int, int]) -> Tensor:
    """Where the pixels of the feature map are ``[P, 2]``, from -1 to 1, for images of that size."""
    height, width = (math.ceil(side / RESNET_STRIDE) for side in size)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)


def normalize_groups(module: nn.Module) -> None:
    """Every batch norm becomes a group norm of 16 channels a group: its numbers do not depend on the batch."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(child.num_features // CHANNELS_OF_A_GROUP, child.num_features))
        else:
            normalize_groups(child)
