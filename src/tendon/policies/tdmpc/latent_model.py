"""The nets of TD-MPC: an encoder of observations, and what there is to know of a latent state and an action.

Axes: L numbers of a latent state, A of an action, E critics of the ensemble; everything in front of them is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tendon.data.features import Feature
from tendon.policies.lerobot.config import ENVIRONMENT as ENVIRONMENT_STATE
from tendon.policies.tdmpc.config import TdmpcConfig

NUMERICS = 1

KERNELS, STRIDE = (7, 5, 3, 3), 2


class ObservationEncoder(nn.Module):
    """The mean of one latent state for the camera, one for the state of the environment and one for all other vectors."""

    def __init__(self, config: TdmpcConfig, observations: Mapping[str, Feature]) -> None:
        super().__init__()
        self.camera = next((key for key, feature in observations.items() if feature.kind == "image"), "")
        self.states = tuple(key for key in observations if key not in (self.camera, ENVIRONMENT_STATE))
        width = config.latent_dim
        if self.camera:
            self.image = _image_layers(observations[self.camera], config.image_encoder_hidden_dim, width)
        if ENVIRONMENT_STATE in observations:
            self.environment = _state_layers(
                observations[ENVIRONMENT_STATE].dim, config.state_encoder_hidden_dim, width
            )
        if self.states:
            num_values = sum(observations[key].dim for key in self.states)
            self.state = _state_layers(num_values, config.state_encoder_hidden_dim, width)

    def forward(self, seen: Mapping[str, Tensor]) -> Tensor:
        """``[..., L]`` of vectors ``[..., D]`` and pictures ``[..., C, H, W]``."""
        parts = []
        if self.camera:
            pictures = seen[self.camera]
            flat: Tensor = self.image(pictures.flatten(0, -4))
            parts.append(flat.view(*pictures.shape[:-3], -1))
        if ENVIRONMENT_STATE in seen and hasattr(self, "environment"):
            parts.append(self.environment(seen[ENVIRONMENT_STATE]))
        if self.states:
            parts.append(self.state(torch.cat([seen[key] for key in self.states], -1)))
        return torch.stack(parts).mean(0)


class LatentModel(nn.Module):
    """Task-oriented latent dynamics: dynamics, reward, policy, critics and the value of a latent state."""

    def __init__(self, config: TdmpcConfig, observations: Mapping[str, Feature], action_dim: int) -> None:
        super().__init__()
        latent, width = config.latent_dim, config.mlp_dim
        self.encode = ObservationEncoder(config, observations)
        self.dynamics = nn.Sequential(*_trunk(latent + action_dim, width, latent), nn.LayerNorm(latent), nn.Sigmoid())
        self.reward = nn.Sequential(*_trunk(latent + action_dim, width, 1))
        self.policy = nn.Sequential(*_trunk(latent, width, action_dim))
        self.critics = nn.ModuleList(_critic(latent + action_dim, width) for _ in range(config.q_ensemble_size))
        self.value = _critic(latent, width)
        self._initialize()

    def _initialize(self) -> None:
        """Orthogonal weights, zero biases; the last layers of reward and critics begin at zero."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                gain = nn.init.calculate_gain("relu") if isinstance(module, nn.Conv2d) else 1.0
                nn.init.orthogonal_(module.weight, gain)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for net in (self.reward, *self.critics):
            assert isinstance(net, nn.Sequential)
            last = net[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)

    def next_latent(self, latent: Tensor, action: Tensor) -> Tensor:
        """The latent state one step later."""
        following: Tensor = self.dynamics(torch.cat([latent, action], -1))
        return following

    def rewards(self, latent: Tensor, action: Tensor) -> Tensor:
        """The reward of an action ``[...]``."""
        expected: Tensor = self.reward(torch.cat([latent, action], -1)).squeeze(-1)
        return expected

    def actions(self, latent: Tensor) -> Tensor:
        """What the policy would do, in [-1, 1]."""
        chosen: Tensor = self.policy(latent).tanh()
        return chosen

    def values(self, latent: Tensor) -> Tensor:
        """The value of a latent state ``[...]``."""
        value: Tensor = self.value(latent).squeeze(-1)
        return value

    def critic_values(self, latent: Tensor, action: Tensor) -> Tensor:
        """What each critic says of an action ``[E, ...]``."""
        pair = torch.cat([latent, action], -1)
        return torch.stack([critic(pair).squeeze(-1) for critic in self.critics])


def least_of_two(values_E: Tensor, critics_2: Tensor) -> Tensor:
    """Of two critics ``[2, B]`` the lower value ``[..., B]`` of ``[E, ..., B]``; of all of them where there are no more than two."""
    if len(values_E) <= 2:
        return values_E.min(0).values
    index = critics_2.view(2, *[1] * (values_E.dim() - 2), -1).expand(2, *values_E.shape[1:])
    return values_E.gather(0, index).min(0).values


def _trunk(input_dim: int, width: int, output_dim: int) -> Sequence[nn.Module]:
    first, second = nn.Linear(input_dim, width), nn.Linear(width, width)
    hidden = (first, nn.LayerNorm(width), nn.Mish(), second, nn.LayerNorm(width), nn.Mish())
    return (*hidden, nn.Linear(width, output_dim))


def _critic(input_dim: int, width: int) -> nn.Sequential:
    first, second = nn.Linear(input_dim, width), nn.Linear(width, width)
    return nn.Sequential(first, nn.LayerNorm(width), nn.Tanh(), second, nn.ELU(), nn.Linear(width, 1))


def _state_layers(input_dim: int, hidden_dim: int, latent: int) -> nn.Sequential:
    first, second = nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, latent)
    return nn.Sequential(first, nn.ELU(), second, nn.LayerNorm(latent), nn.Sigmoid())


def _image_layers(feature: Feature, width: int, latent: int) -> nn.Sequential:
    side, _, channels = feature.shape
    layers: list[nn.Module] = []
    for kernel in KERNELS:
        layers += [nn.Conv2d(channels, width, kernel, STRIDE), nn.ReLU()]
        channels, side = width, (side - kernel) // STRIDE + 1
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(width * side * side, latent), nn.LayerNorm(latent), nn.Sigmoid()
    )


def smallest_picture() -> int:
    """The side of the smallest square that the convolutions take."""
    side = 1
    for kernel in reversed(KERNELS):
        side = (side - 1) * STRIDE + kernel
    return side
