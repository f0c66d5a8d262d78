"""Images and range scans to features: ResNet, keypoints, a linear layer; robomimic's VisualCore and ScanCore.

The backbone is torchvision's network; torchvision itself (extra ``vision``) is needed for its pretrained weights only.
N: images of a batch and of all times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tendon.errors import MissingDependency

NUMERICS = 1

Backbone = Literal["resnet18", "resnet34"]
DeepBackbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
RESNET_STRIDE, RESNET_CHANNELS = 32, 512
RESNET_BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
BOTTLENECKS = ("resnet50", "resnet101")
EXPANSION = 4  # of a bottleneck's channels
SCAN_CHANNELS, SCAN_KERNELS, SCAN_STRIDES = (32, 64, 64), (8, 4, 2), (4, 2, 1)


@dataclass(frozen=True)
class VisionOptions:
    """How cameras are encoded."""

    backbone: Backbone
    pretrained: bool
    num_keypoints: int  # 0: no spatial softmax, the whole feature map is flattened
    feature_dim: int


class SpatialSoftmax(nn.Module):
    """Each of K filters becomes the expected place ``(x, y)`` of its softmax over the image."""

    temperature: Tensor
    places: Tensor

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        num_keypoints: int,
        *,
        saved: Literal["temperature", "places"] = "temperature",
    ) -> None:
        """``saved``: which of its two constants is among the weights; robomimic's temperature or LeRobot's places."""
        super().__init__()
        self.filters = nn.Conv2d(channels, num_keypoints, 1)
        self.register_buffer("temperature", torch.ones(1), persistent=saved == "temperature")
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("places", torch.stack([x.flatten(), y.flatten()], -1), persistent=saved == "places")

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """``[N, K, 2]``."""
        weights_NKP = (self.filters(maps_NCHW).flatten(2) / self.temperature).softmax(-1)
        places_NK2: Tensor = weights_NKP @ self.places
        return places_NK2


class VisualCore(nn.Module):
    """One camera."""

    def __init__(self, shape: tuple[int, ...], options: VisionOptions) -> None:
        """``shape``: of the image that comes in, resized and cropped."""
        super().__init__()
        channels, height, width = shape
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
        features: Tensor = self.linear(self.pool(self.backbone(images_NCHW)).flatten(1))
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


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), norm(width))

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Maps of ``width`` channels, smaller by the stride."""
        inner = self.bn2(self.conv2(self.bn1(self.conv1(maps_NCHW)).relu()))
        result: Tensor = (inner + self.downsample(maps_NCHW)).relu()
        return result


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two of one pixel, beside a shortcut: the block of deep ResNets."""

    def __init__(self, channels: int, width: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, EXPANSION * width, 1, bias=False)
        self.bn3 = norm(EXPANSION * width)
        self.downsample: nn.Module = nn.Identity()
        if channels != EXPANSION * width:
            shortcut = nn.Conv2d(channels, EXPANSION * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(EXPANSION * width))

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Maps of ``EXPANSION * width`` channels, smaller by the stride."""
        inner = self.bn2(self.conv2(self.bn1(self.conv1(maps_NCHW)).relu())).relu()
        result: Tensor = (self.bn3(self.conv3(inner)) + self.downsample(maps_NCHW)).relu()
        return result


class FrozenBatchNorm(nn.Module):
    """A batch norm whose numbers are constants: it neither learns nor looks at its batch; torchvision's FrozenBatchNorm2d."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((width,), value))

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """One factor and one shift for each channel."""
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return maps_NCHW * scale[:, None, None] + shift[:, None, None]


def group_norm(width: int) -> nn.Module:
    """Groups of 16 channels: what Diffusion Policy has in place of a batch norm."""
    return nn.GroupNorm(max(1, width // 16), width)


def resnet_channels(name: DeepBackbone) -> int:
    """Channels of the last feature map."""
    return RESNET_CHANNELS * (EXPANSION if name in BOTTLENECKS else 1)


def make_resnet(
    name: DeepBackbone, channels: int, *, pretrained: bool, norm: Callable[[int], nn.Module] = nn.BatchNorm2d
) -> nn.Sequential:
    """The network up to the last feature map, members named and started as torchvision's."""
    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 7, 2, 3, bias=False), norm(64), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    block, expansion = (Bottleneck, EXPANSION) if name in BOTTLENECKS else (ResidualBlock, 1)
    before = 64
    for stage, count in enumerate(RESNET_BLOCKS[name]):
        width = 64 << stage
        strides = [2 if stage and not i else 1 for i in range(count)]
        blocks = [block(expansion * width if i else before, width, strides[i], norm) for i in range(count)]
        layers.append(nn.Sequential(*blocks))
        before = expansion * width
    net = nn.Sequential(*layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if pretrained:
        _load_pretrained(net, name)
    return net


def _load_pretrained(net: nn.Sequential, name: DeepBackbone) -> None:
    """ImageNet's weights; another number of channels keeps its own first layer."""
    try:
        import torchvision.models as models
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        raise MissingDependency(
            "pretrained weights need torchvision",
            where=f"policy.vision_backbone={name} policy.pretrained=true",
            why=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            fix="pip install 'tendon-robotics[vision]', with the torchvision that belongs to your torch, or policy.pretrained=false",
        ) from error
    trained = nn.Sequential(*list(getattr(models, name)(weights="DEFAULT").children())[:-2]).state_dict()
    own = net.state_dict()  # a frozen batch norm counts no batches
    net.load_state_dict({key: trained[key] if trained[key].shape == own[key].shape else own[key] for key in own})
