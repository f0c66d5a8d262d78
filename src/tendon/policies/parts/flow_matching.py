"""Flow matching: a straight line between noise and actions, its times, and Euler steps along a predicted velocity.

Projects differ in direction: with pi0 time 1 is noise and time 0 the action, with GR00T the other way round. Both are the
same line; what is drawn and fed to a network is not. Legend: B batch, T chunk, A numbers of an action, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

NUMERICS = 1

Velocity = Callable[[Tensor, Tensor], Tensor]  # sample [B, T, A] and time [B] to velocity


def beta_times(num: int, alpha: float, beta: float, device: torch.device) -> Tensor:
    """``[B]`` from a Beta distribution, by torch's global generator."""
    numbers = torch.tensor(alpha, device=device), torch.tensor(beta, device=device)
    made: Tensor = torch.distributions.Beta(*numbers, validate_args=False).sample((num,))
    return made


def between(first_BTA: Tensor, second_BTA: Tensor, share_B: Tensor) -> Tensor:
    """The point of the line from ``first`` (share 0) to ``second`` (share 1)."""
    share = share_B[:, None, None]
    return (1 - share) * first_BTA + share * second_BTA


def euler(velocity: Velocity, sample_BTA: Tensor, times: list[float], step: float) -> Tensor:
    """The sample at the end of steps of one size, each with the velocity at its beginning."""
    for time in times:
        time_B = torch.full((len(sample_BTA),), time, dtype=torch.float32, device=sample_BTA.device)
        sample_BTA = sample_BTA + step * velocity(sample_BTA, time_B)
    return sample_BTA


def wave_embedding(time_B: Tensor, width: int, min_period: float, max_period: float) -> Tensor:
    """Sines, then cosines ``[B, D]`` of periods between the two, in float64 as openpi; returned as float32."""
    share = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64, device=time_B.device)
    period = min_period * (max_period / min_period) ** share
    angle_BD = (2 * math.pi / period)[None, :] * time_B[:, None].double()
    return torch.cat([angle_BD.sin(), angle_BD.cos()], 1).float()


def step_embedding(step_BT: Tensor, width: int) -> Tensor:
    """Sines, then cosines ``[..., D]`` of a whole number, frequencies from 1 down to 1/10000 (GR00T's action encoder)."""
    half = width // 2
    exponent = -torch.arange(half, dtype=torch.float, device=step_BT.device) * (math.log(10000.0) / half)
    angles = step_BT.float().unsqueeze(-1) * exponent.exp()
    return torch.cat([angles.sin(), angles.cos()], -1)
