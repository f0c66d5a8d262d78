"""Behaviour cloning with a conditional VAE: robomimic's BC-VAE with a fixed or a learned Gaussian prior.

Training encodes action and observation to a latent and decodes it; acting draws the latent from the prior.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.base import Batch, LossOutput, Memory
from tendon.policies.bc_vae.config import BcVaeConfig
from tendon.policies.behaviour_cloning.model import BehaviourCloning
from tendon.policies.parts.heads import DeterministicHead
from tendon.policies.parts.mlp import make_mlp
from tendon.policies.parts.noise import draw_normal, start_noise
from tendon.policies.windows import ACTION

NUMERICS = 1

LOG_STD_LIMITS = (-4.0, 15.0)


class GaussianNet(nn.Module):
    """An MLP to the mean and log-variance of a latent."""

    def __init__(self, input_dim: int, hidden_dims: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        self.mlp = make_mlp(input_dim, hidden_dims)
        self.mean, self.logvar = nn.Linear(hidden_dims[-1], latent_dim), nn.Linear(hidden_dims[-1], latent_dim)

    def forward(self, inputs_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``[B, L]``."""
        hidden_BH = self.mlp(inputs_BD)
        return self.mean(hidden_BH), self.logvar(hidden_BH)


class BcVae(BehaviourCloning):
    """Chance in training comes from torch's global generator; in acting, from the episode's seed."""

    def __init__(
        self, config: BcVaeConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features, stats)
        self.vae = config
        self.encoder = self.make_encoder(stats)
        seen, latent = self.encoder.output_dim, config.latent_dim
        self.posterior = GaussianNet(self.action_dim + seen, config.encoder_dims, latent)
        self.decoder = make_mlp(latent + (seen if config.conditioned_decoder else 0), config.decoder_dims)
        self.head = DeterministicHead(config.decoder_dims[-1], self.action_dim, bounded=self.bounded)
        self.prior_net: GaussianNet | None = None
        self.prior_mean: nn.Parameter | None = None
        self.prior_logvar: nn.Parameter | None = None
        if config.prior == "learned_conditioned":
            self.prior_net = GaussianNet(seen, config.prior_dims, latent)
        elif config.prior == "learned":
            self.prior_mean = nn.Parameter(torch.randn(1, 1, latent) * latent**-0.5)
            self.prior_logvar = nn.Parameter(torch.randn(1, 1, latent) * latent**-0.5)

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """Reconstruction plus ``kl_weight`` times the divergence of posterior and prior."""
        seen_BE = self.encoder(batch)[:, 0]
        target_BA = self.normalize_action(batch[ACTION][:, 0])
        mean_BL, logvar_BL = self.posterior(torch.cat([target_BA, seen_BE], dim=-1))
        latent_BL = spread(mean_BL, logvar_BL, torch.randn_like(mean_BL))
        action_BA = self._decode(latent_BL, seen_BE)
        if self.vae.sum_reconstruction:
            reconstruction = functional.mse_loss(action_BA, target_BA, reduction="none").sum(-1).mean()
        else:
            reconstruction = functional.mse_loss(action_BA, target_BA)
        divergence = kl_divergence(mean_BL, logvar_BL, *self._prior(seen_BE))
        metrics = {
            "kl_loss": divergence,
            "reconstruction_loss": reconstruction,
            "encoder_variance": logvar_BL.exp().mean(),
        }
        detached = {name: value.detach() for name, value in metrics.items()}
        return LossOutput(reconstruction + self.vae.kl_weight * divergence, detached)

    def start(self, *seeds: int) -> Memory:
        """The prior is sampled."""
        return start_noise(*seeds)

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """Decode a latent drawn from the prior."""
        seen_BE = self.encoder(observation)[:, -1]
        noise = start_noise(*[0] * len(seen_BE)) if memory is None else memory
        normal_BL, noise = draw_normal(noise, self.vae.latent_dim)
        normal_BL = normal_BL.to(seen_BE.device)
        mean_BL, logvar_BL = self._prior(seen_BE)
        latent_BL = normal_BL if self.vae.prior == "normal" else spread(mean_BL, logvar_BL, normal_BL)
        if self.vae.latent_clip:
            latent_BL = latent_BL.clamp(-self.vae.latent_clip, self.vae.latent_clip)
        action_BA = self.normalize_action.inverse(self._decode(latent_BL, seen_BE))
        return {ACTION: action_BA.unsqueeze(1)}, noise

    def _decode(self, latent_BL: Tensor, seen_BE: Tensor) -> Tensor:
        inputs_BD = torch.cat([latent_BL, seen_BE], dim=-1) if self.vae.conditioned_decoder else latent_BL
        action_BA: Tensor = self.head(self.decoder(inputs_BD))
        return action_BA

    def _prior(self, seen_BE: Tensor) -> tuple[Tensor, Tensor]:
        if self.prior_net is not None:
            mean_BL, logvar_BL = self.prior_net(seen_BE)
            return mean_BL, logvar_BL
        if self.prior_mean is not None and self.prior_logvar is not None:
            return self.prior_mean[0], self.prior_logvar[0]
        zeros = seen_BE.new_zeros(1, self.vae.latent_dim)
        return zeros, zeros


def spread(mean_BL: Tensor, logvar_BL: Tensor, normal_BL: Tensor) -> Tensor:
    """A sample from given noise, with upstream's limits of the std."""
    return mean_BL + (0.5 * logvar_BL).clamp(*LOG_STD_LIMITS).exp() * normal_BL


def kl_divergence(mean_BL: Tensor, logvar_BL: Tensor, prior_mean_BL: Tensor, prior_logvar_BL: Tensor) -> Tensor:
    """Of two diagonal Gaussians: summed over the latent, mean over the batch."""
    ratio_BL = logvar_BL - prior_logvar_BL
    distance_BL = (prior_mean_BL - mean_BL).square() / prior_logvar_BL.exp()
    return -0.5 * (1 + ratio_BL - distance_BL - ratio_BL.exp()).sum(-1).mean()
