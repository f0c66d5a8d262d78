"""EfficientNet-B0 as a feature extractor, with timm's parameter names: its weights load by name. Legend: N pictures, C channels."""

from __future__ import annotations

from torch import Tensor, nn

# kind of block, repeats, kernel, stride, expansion, channels
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM = 32


class SqueezeExcite(nn.Module):
    """Scales channels by what the whole picture has of them."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.act1 = nn.SiLU()
        self.conv_expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The scaled channels."""
        pooled = x_NCHW.mean((2, 3), keepdim=True)
        gate: Tensor = self.conv_expand(self.act1(self.conv_reduce(pooled))).sigmoid()
        return x_NCHW * gate


class DepthwiseBlock(nn.Module):
    """The block of the first stage: nothing is expanded."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, kernel, stride, kernel // 2, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.se = SqueezeExcite(inputs, inputs // 4)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU()
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The next features."""
        inside = self.se(self.act(self.bn1(self.conv_dw(x_NCHW))))
        out: Tensor = self.bn2(self.conv_pw(inside))
        return out + x_NCHW if self.has_skip else out


class InvertedBlock(nn.Module):
    """Expands channels, filters each one alone, narrows them again."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        self.conv_pw = nn.Conv2d(inputs, inside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv_dw = nn.Conv2d(inside, inside, kernel, stride, kernel // 2, groups=inside, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.se = SqueezeExcite(inside, inputs // 4)
        self.conv_pwl = nn.Conv2d(inside, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU()
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The next features."""
        inside = self.act(self.bn1(self.conv_pw(x_NCHW)))
        inside = self.se(self.act(self.bn2(self.conv_dw(inside))))
        out: Tensor = self.bn3(self.conv_pwl(inside))
        return out + x_NCHW if self.has_skip else out


class EfficientNetB0(nn.Module):
    """``[N, in_chans, H, W]`` to ``[N, 320, H / 32, W / 32]``: the last of timm's feature maps."""

    num_channels = STAGES[-1][-1]

    def __init__(self, in_chans: int = 4) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(in_chans, STEM, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.act = nn.SiLU()
        stages, inputs = [], STEM
        for repeats, kernel, stride, expansion, outputs in STAGES:
            blocks: list[nn.Module] = []
            for i in range(repeats):
                step = stride if i == 0 else 1
                one = (
                    DepthwiseBlock(inputs, outputs, kernel, step)
                    if expansion == 1
                    else InvertedBlock(inputs, outputs, kernel, step, expansion)
                )
                blocks.append(one)
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0.0, (2.0 / fan_out) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The last feature map."""
        features: Tensor = self.blocks(self.act(self.bn1(self.conv_stem(x_NCHW))))
        return features
