"""Chance in actions that depends on the episode's seed and step only, whatever else is in the batch.

A noise memory is an int64 tensor [B, 2] of (seed, draws so far): a plain tensor, so that episodes can be stacked,
split and saved. Numbers are drawn on the CPU, hence the same on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUMERICS = 1

MASK = (1 << 64) - 1


def start_noise(*seeds: int) -> Tensor:
    """The noise memory of fresh episodes."""
    return torch.tensor([[seed, 0] for seed in seeds], dtype=torch.int64)


def draw_normal(noise_B2: Tensor, num_values: int) -> tuple[Tensor, Tensor]:
    """Standard normal numbers ``[B, num_values]`` and the next memory."""
    rows = [torch.randn(num_values, generator=_generator(seed, drawn)) for seed, drawn in noise_B2.tolist()]
    return torch.stack(rows), _advanced(noise_B2)


def draw_uniform(noise_B2: Tensor, num_values: int) -> tuple[Tensor, Tensor]:
    """Numbers ``[B, num_values]`` uniform in [0, 1) and the next memory."""
    rows = [torch.rand(num_values, generator=_generator(seed, drawn)) for seed, drawn in noise_B2.tolist()]
    return torch.stack(rows), _advanced(noise_B2)


def _advanced(noise_B2: Tensor) -> Tensor:
    return noise_B2 + torch.tensor([0, 1], dtype=torch.int64)


def _generator(seed: int, drawn: int) -> torch.Generator:
    return torch.Generator().manual_seed(_mix(_mix(seed) + drawn) >> 1)


def _mix(value: int) -> int:
    """Splitmix64's finaliser: neighbouring seeds become unrelated ones (torch keeps 32 bits of a CPU seed)."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
