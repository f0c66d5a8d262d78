"""Action heads: features of the trunk in, an action or a distribution over actions out; robomimic's numbers.

Legend of shapes: B batch (and any axes after it, such as time), H width of the trunk, K modes, A action dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

NUMERICS = 1

LOW_NOISE_STD = 1e-4
MEAN_LIMIT = 9.0  # of the Gaussian head, before tanh
MAX_STD = 7.5  # of the Gaussian head
LOG_2PI = math.log(2 * math.pi)


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
class Gaussian:
    """A diagonal Gaussian."""

    mean: Tensor  # [B, A]
    std: Tensor  # [B, A]

    def log_prob(self, action_BA: Tensor) -> Tensor:
        """Log-likelihood of each action ``[B]``."""
        error_BA = (action_BA - self.mean) / self.std
        return (-0.5 * error_BA.square() - self.std.log() - 0.5 * LOG_2PI).sum(-1)

    def sample(self, normal_BA: Tensor) -> Tensor:
        """Actions ``[B, A]`` from given noise."""
        return self.mean + self.std * normal_BA


class GaussianHead(nn.Module):
    """Mean and scale of one Gaussian; the std of an untrained net is about ``init_std``."""

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        *,
        fixed_std: bool,
        init_std: float,
        min_std: float,
        std_activation: str,
        bounded: bool,
    ) -> None:
        super().__init__()
        self.mean = nn.Linear(input_dim, action_dim)
        self.scale = nn.Linear(input_dim, action_dim)  # without effect when the std is fixed; upstream's files have it
        self.fixed_std, self.init_std, self.min_std = fixed_std, init_std, min_std
        self.std_activation, self.bounded = std_activation, bounded

    def forward(self, features_BH: Tensor) -> Gaussian:
        """The distribution."""
        mean_BA: Tensor = self.mean(features_BH)
        if self.bounded:
            mean_BA = torch.tanh(mean_BA.clamp(-MEAN_LIMIT, MEAN_LIMIT))
        if self.fixed_std:
            std_BA = torch.full_like(mean_BA, self.init_std)
        elif self.std_activation == "exp":
            std_BA = self.scale(features_BH).exp()
        else:
            std_BA = functional.softplus(self.scale(features_BH)) * (self.init_std / math.log(2))
        return Gaussian(mean_BA, std_BA.clamp(self.min_std, MAX_STD))


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of diagonal Gaussians."""

    mean: Tensor  # [B, K, A]
    std: Tensor  # [B, K, A]
    logits: Tensor  # [B, K]

    def log_prob(self, action_BA: Tensor) -> Tensor:
        """Log-likelihood of each action ``[B]``."""
        error_BKA = (action_BA.unsqueeze(-2) - self.mean) / self.std
        log_norm_BK = self.std.log().sum(-1) + 0.5 * LOG_2PI * self.mean.shape[-1]
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
    """Mean, scale and weight of K modes; softplus (or exp) of the scale plus ``min_std`` is the std."""

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        *,
        num_modes: int,
        min_std: float,
        bounded: bool,
        std_activation: str = "softplus",
    ) -> None:
        super().__init__()
        self.mean = nn.Linear(input_dim, num_modes * action_dim)
        self.scale = nn.Linear(input_dim, num_modes * action_dim)
        self.logits = nn.Linear(input_dim, num_modes)
        self.num_modes, self.action_dim = num_modes, action_dim
        self.min_std, self.bounded, self.std_activation = min_std, bounded, std_activation

    def forward(self, features_BH: Tensor) -> GaussianMixture:
        """The mixture; index k * A + a of a linear output is dimension a of mode k."""
        shape = (*features_BH.shape[:-1], self.num_modes, self.action_dim)
        mean_BKA = self.mean(features_BH).view(shape)
        scale_BKA = self.scale(features_BH).view(shape)
        std_BKA = scale_BKA.exp() if self.std_activation == "exp" else functional.softplus(scale_BKA)
        return GaussianMixture(
            torch.tanh(mean_BKA) if self.bounded else mean_BKA, std_BKA + self.min_std, self.logits(features_BH)
        )
