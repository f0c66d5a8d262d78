"""A U-Net over the time of a chunk, told what is seen at every block: the network of Diffusion Policy.

Legend: B batch, H horizon, A numbers of an action, C channels, K numbers of the condition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

NUMERICS = 1

Level = tuple[nn.Module, nn.Module, nn.Module]  # two blocks and a change of resolution
FINAL_GROUPS = 8
MAX_PERIOD = 10_000


@dataclass(frozen=True)
class UnetSizes:
    """Widths of the levels, and what all blocks share."""

    widths: Sequence[int]
    kernel_size: int
    num_groups: int
    step_dim: int  # of the embedding of the diffusion step
    scales: bool  # the condition scales and shifts; false: it shifts


class StepEmbedding(nn.Module):
    """Sines, then cosines, of a diffusion step ``[B]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        rates = torch.exp(torch.arange(half, device="cpu") * -(math.log(MAX_PERIOD) / (half - 1)))
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, steps_B: Tensor) -> Tensor:
        """``[B, width]``."""
        rates = self.get_buffer("rates")
        angles = steps_B.unsqueeze(-1) * rates
        return torch.cat([angles.sin(), angles.cos()], -1)


class ConditionedBlock(nn.Module):
    """Two convolutions beside a shortcut; the condition scales and shifts the channels between them (FiLM)."""

    def __init__(self, channels: int, width: int, condition_dim: int, sizes: UnetSizes) -> None:
        super().__init__()
        self.scales = sizes.scales
        self.conv1 = convolution(channels, width, sizes.kernel_size, sizes.num_groups)
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(condition_dim, width * (2 if sizes.scales else 1)))
        self.conv2 = convolution(width, width, sizes.kernel_size, sizes.num_groups)
        self.residual_conv = nn.Identity() if channels == width else nn.Conv1d(channels, width, 1)

    def forward(self, values_BCH: Tensor, condition_BK: Tensor) -> Tensor:
        """``[B, width, H]``."""
        inner = self.conv1(values_BCH)
        modulation = self.cond_encoder(condition_BK).unsqueeze(-1)
        if self.scales:
            scale, shift = modulation.chunk(2, 1)
            inner = scale * inner + shift
        else:
            inner = inner + modulation
        result: Tensor = self.conv2(inner) + self.residual_conv(values_BCH)
        return result


class ConditionedUnet(nn.Module):
    """Down to the coarsest level, and up again beside what each level held on the way down."""

    def __init__(self, action_dim: int, condition_dim: int, sizes: UnetSizes) -> None:
        super().__init__()
        step_dim, widths = sizes.step_dim, list(sizes.widths)
        self.diffusion_step_encoder = nn.Sequential(
            StepEmbedding(step_dim), nn.Linear(step_dim, 4 * step_dim), nn.Mish(), nn.Linear(4 * step_dim, step_dim)
        )
        told = step_dim + condition_dim

        def block(channels: int, width: int) -> ConditionedBlock:
            return ConditionedBlock(channels, width, told, sizes)

        self.down_modules = nn.ModuleList()
        for level, (channels, width) in enumerate(zip([action_dim, *widths], widths, strict=False)):
            coarser = nn.Identity() if level == len(widths) - 1 else nn.Conv1d(width, width, 3, 2, 1)
            self.down_modules.append(nn.ModuleList([block(channels, width), block(width, width), coarser]))
        self.mid_modules = nn.ModuleList(block(widths[-1], widths[-1]) for _ in range(2))
        self.up_modules = nn.ModuleList()
        for width, deeper in reversed([*pairwise(widths)]):
            finer = nn.ConvTranspose1d(width, width, 4, 2, 1)
            self.up_modules.append(nn.ModuleList([block(2 * deeper, width), block(width, width), finer]))
        self.final_conv = nn.Sequential(
            convolution(widths[0], widths[0], sizes.kernel_size, FINAL_GROUPS), nn.Conv1d(widths[0], action_dim, 1)
        )

    def forward(self, noisy_BHA: Tensor, steps_B: Tensor, condition_BK: Tensor) -> Tensor:
        """What the network makes of a noisy chunk: ``[B, H, A]``."""
        told_BK = torch.cat([self.diffusion_step_encoder(steps_B), condition_BK], -1)
        values = noisy_BHA.transpose(1, 2)
        held: list[Tensor] = []
        for first, second, coarser in cast("Sequence[Level]", self.down_modules):
            values = second(first(values, told_BK), told_BK)
            held.append(values)
            values = coarser(values)
        for middle in self.mid_modules:
            values = middle(values, told_BK)
        for first, second, finer in cast("Sequence[Level]", self.up_modules):
            values = torch.cat([values, held.pop()], 1)
            values = finer(second(first(values, told_BK), told_BK))
        result: Tensor = self.final_conv(values).transpose(1, 2)
        return result


def convolution(channels: int, width: int, kernel_size: int, num_groups: int) -> nn.Sequential:
    """Over time, then a group norm and Mish."""
    conv = nn.Conv1d(channels, width, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(conv, nn.GroupNorm(num_groups, width), nn.Mish())
