"""A camera's image to a few key points and one layer: the encoder of LeRobot's Diffusion Policy and VQ-BeT.

A ResNet, a spatial softmax, a linear layer with ReLU. N: images of a batch, of all times and cameras.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from tendon.policies.parts.vision import (
    RESNET_STRIDE,
    DeepBackbone,
    SpatialSoftmax,
    group_norm,
    make_resnet,
    resnet_channels,
)

NUMERICS = 1


class RgbEncoder(nn.Module):
    """One camera, or several that share it."""

    def __init__(
        self, shape: tuple[int, int, int], backbone: DeepBackbone, num_keypoints: int, *, pretrained: bool, groups: bool
    ) -> None:
        """Build it.

        Args:
            shape: channels, height and width of the image that comes in, resized and cropped.
            backbone: a ResNet by name.
            num_keypoints: of the spatial softmax; twice as many numbers come out.
            pretrained: begin with ImageNet's weights.
            groups: group norms of 16 channels in place of batch norms.
        """
        super().__init__()
        channels, height, width = shape
        norm = group_norm if groups else nn.BatchNorm2d
        self.backbone = make_resnet(backbone, channels, pretrained=pretrained, norm=norm)
        height, width = math.ceil(height / RESNET_STRIDE), math.ceil(width / RESNET_STRIDE)
        self.pool = SpatialSoftmax(resnet_channels(backbone), height, width, num_keypoints, saved="places")
        self.output_dim = 2 * num_keypoints
        self.out = nn.Linear(self.output_dim, self.output_dim)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """``[N, output_dim]``."""
        features: Tensor = self.out(self.pool(self.backbone(images_NCHW)).flatten(1)).relu()
        return features
