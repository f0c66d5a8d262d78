"""Action heads: features of the trunk in, an action or a distribution over actions out; robomimic's numbers.

Legend of shapes: B batch, H width of the trunk, K modes, A action dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

LOW_NOISE_STD = 1e-4


class DeterministicHead(nn.Module):
    """One action; tanh keeps it in [-1, 1] when the normalised actions are bounded."""

    def __init__(self, input_dim: int, action_dim: int, *, bounded: bool) -> None:
        super().__init__()
        self.action = nn.Linear(input_dim, action_dim)
        self.bounded = bounded

    def forward(self, features_BH: Tensor) -> Tensor:
        """Actions ``[B, A]``."""
        action_BA: Tensor = self.action(features_BH)
        return torch.tanh(action_BA) if self.bounded else action_BA


@dataclass(frozen=True)
class Mixture:
    """A mixture of diagonal Gaussians."""

    mean: Tensor  # [B, K, A]
    std: Tensor  # [B, K, A]
    logits: Tensor  # [B, K]

    def log_prob(self, action_BA: Tensor) -> Tensor:
        """Log-likelihood of each action ``[B]``."""
        error_BKA = (action_BA.unsqueeze(-2) - self.mean) / self.std
        log_norm_BK = self.std.log().sum(-1) + 0.5 * math.log(2 * math.pi) * self.mean.shape[-1]
        log_mode_BK = -0.5 * error_BKA.square().sum(-1) - log_norm_BK
        return torch.logsumexp(torch.log_softmax(self.logits, -1) + log_mode_BK, -1)

    def sample(self, uniform_B: Tensor, normal_BA: Tensor, std: float | None = None) -> Tensor:
        """Actions ``[B, A]`` from given noise; ``std`` replaces the predicted one (low-noise evaluation)."""
        edges_BK = torch.softmax(self.logits, -1).cumsum(-1)
        mode_B = (uniform_B.unsqueeze(-1) >= edges_BK).sum(-1).clamp(max=edges_BK.shape[-1] - 1)
        rows_B = torch.arange(len(mode_B), device=mode_B.device)
        spread_BA = self.std[rows_B, mode_B] if std is None else std
        return self.mean[rows_B, mode_B] + spread_BA * normal_BA


class MixtureHead(nn.Module):
    """Mean, scale and weight of K modes; softplus of the scale plus ``min_std`` is the std."""

    def __init__(self, input_dim: int, action_dim: int, *, num_modes: int, min_std: float, bounded: bool) -> None:
        super().__init__()
        self.mean = nn.Linear(input_dim, num_modes * action_dim)
        self.scale = nn.Linear(input_dim, num_modes * action_dim)
        self.logits = nn.Linear(input_dim, num_modes)
        self.num_modes, self.action_dim = num_modes, action_dim
        self.min_std, self.bounded = min_std, bounded

    def forward(self, features_BH: Tensor) -> Mixture:
        """The mixture; index k * A + a of a linear output is dimension a of mode k."""
        shape = (-1, self.num_modes, self.action_dim)
        mean_BKA = self.mean(features_BH).view(shape)
        std_BKA = functional.softplus(self.scale(features_BH).view(shape)) + self.min_std
        return Mixture(torch.tanh(mean_BKA) if self.bounded else mean_BKA, std_BKA, self.logits(features_BH))
