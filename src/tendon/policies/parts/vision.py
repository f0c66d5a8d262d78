"""Images and range scans to features: crop, ResNet, keypoints, a linear layer; robomimic's VisualCore and ScanCore.

The backbone is torchvision's (extra ``vision``), imported when one is built. N: images of a batch and of all times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tendon.errors import MissingDependency

Backbone = Literal["resnet18", "resnet34"]
RESNET_STRIDE, RESNET_CHANNELS = 32, 512
SCAN_CHANNELS, SCAN_KERNELS, SCAN_STRIDES = (32, 64, 64), (8, 4, 2), (4, 2, 1)


@dataclass(frozen=True)
class VisionOptions:
    """How cameras are encoded."""

    backbone: Backbone
    pretrained: bool
    num_keypoints: int  # 0: no spatial softmax, the whole feature map is flattened
    feature_dim: int
    crop_size: int  # 0: no crop


class Crop(nn.Module):
    """A square: anywhere in training, one place per image; the middle otherwise.

    As upstream, the last row and column of places are never drawn.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """``[N, C, size, size]``."""
        N, _, H, W = images_NCHW.shape
        spare_y, spare_x = H - self.size, W - self.size
        if not self.training:
            top, left = spare_y // 2, spare_x // 2
            return images_NCHW[:, :, top : top + self.size, left : left + self.size]
        device = images_NCHW.device
        rows = (torch.rand(N, device=device) * spare_y).long()[:, None] + torch.arange(self.size, device=device)
        columns = (torch.rand(N, device=device) * spare_x).long()[:, None] + torch.arange(self.size, device=device)
        chosen = torch.arange(N, device=device)[:, None, None]
        return images_NCHW.permute(0, 2, 3, 1)[chosen, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class SpatialSoftmax(nn.Module):
    """Each of K filters becomes the expected place ``(x, y)`` of its softmax over the image."""

    temperature: Tensor
    places: Tensor

    def __init__(self, channels: int, height: int, width: int, num_keypoints: int) -> None:
        super().__init__()
        self.filters = nn.Conv2d(channels, num_keypoints, 1)
        self.register_buffer("temperature", torch.ones(1))
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("places", torch.stack([x.flatten(), y.flatten()], -1), persistent=False)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """``[N, K, 2]``."""
        weights_NKP = (self.filters(maps_NCHW).flatten(2) / self.temperature).softmax(-1)
        places_NK2: Tensor = weights_NKP @ self.places
        return places_NK2


class VisualCore(nn.Module):
    """One camera."""

    def __init__(self, shape: tuple[int, ...], options: VisionOptions) -> None:
        super().__init__()
        channels, height, width = shape
        if options.crop_size:
            height = width = options.crop_size
        self.crop = Crop(options.crop_size) if options.crop_size else nn.Identity()
        self.backbone = make_resnet(options.backbone, channels, pretrained=options.pretrained)
        height, width = math.ceil(height / RESNET_STRIDE), math.ceil(width / RESNET_STRIDE)
        self.pool: nn.Module = nn.Identity()
        num_values = RESNET_CHANNELS * height * width
        if options.num_keypoints:
            self.pool = SpatialSoftmax(RESNET_CHANNELS, height, width, options.num_keypoints)
            num_values = 2 * options.num_keypoints
        self.linear = nn.Linear(num_values, options.feature_dim)
        self.output_dim = options.feature_dim

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """``[N, feature_dim]``."""
        features: Tensor = self.linear(self.pool(self.backbone(self.crop(images_NCHW))).flatten(1))
        return features


class ScanCore(nn.Module):
    """One range scan ``[N, C, L]``: three convolutions with ReLU, flattened."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, length = shape
        layers: list[nn.Module] = []
        for out, kernel, stride in zip(SCAN_CHANNELS, SCAN_KERNELS, SCAN_STRIDES, strict=True):
            layers += [nn.Conv1d(channels, out, kernel, stride), nn.ReLU()]
            channels, length = out, (length - kernel) // stride + 1
        self.net = nn.Sequential(*layers)
        self.output_dim = channels * length

    def forward(self, scans_NCL: Tensor) -> Tensor:
        """``[N, output_dim]``."""
        features: Tensor = self.net(scans_NCL).flatten(1)
        return features


def make_resnet(name: Backbone, channels: int, *, pretrained: bool) -> nn.Sequential:
    """Torchvision's network up to the last feature map; another number of channels replaces its first layer."""
    try:
        import torchvision.models as models
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        raise MissingDependency(
            "cameras need torchvision",
            where=f"policy.vision_backbone={name}",
            why=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            fix="pip install 'tendon[vision]', with the torchvision that belongs to your torch",
        ) from error
    net = getattr(models, name)(weights="DEFAULT" if pretrained else None)
    if channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return nn.Sequential(*list(net.children())[:-2])
