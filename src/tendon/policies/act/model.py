"""Action Chunking with Transformers, with LeRobot's numbers: a conditional VAE whose decoder reads cameras and states.

Training encodes the demonstrated chunk to a latent (``use_vae``); acting sets the latent to zero. With
``temporal_ensemble_coeff`` every step predicts a chunk, and what is executed is a mean of all predictions for that step.
Legend: B batch, T chunk, A numbers of an action, D width, S tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.act.config import ActConfig
from tendon.policies.act.transformer import Decoder, Encoder, LayerSizes, image_places, sequence_places
from tendon.policies.base import Batch, LossOutput, Memory
from tendon.policies.lerobot.model import LeRobotPolicy
from tendon.policies.parts.vision import RESNET_STRIDE, FrozenBatchNorm, make_resnet, resnet_channels
from tendon.policies.windows import ACTION

NUMERICS = 1


class Latent(NamedTuple):
    """Mean and log of the variance ``[B, L]``."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """One draw of torch's global generator."""
        return self.mean + (self.log_variance / 2).exp() * torch.randn_like(self.mean)

    def divergence(self) -> Tensor:
        """From a standard normal distribution: a sum over the latent, a mean over the batch."""
        each = -0.5 * (1 + self.log_variance - self.mean.square() - self.log_variance.exp())
        return each.sum(-1).mean()


class Ensemble(NamedTuple):
    """Means of the predictions for the steps to come, and how many each is made of."""

    actions: Tensor  # [B, T - 1, A], scaled
    counts: Tensor  # [B, T - 1]


class Act(LeRobotPolicy):
    """Chance in training comes from torch's global generator; there is none in acting."""

    config: ActConfig
    num_other_tokens = 0  # those that a policy built on this one adds

    def __init__(
        self, config: ActConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features, stats)
        width = config.dim_model
        sizes = LayerSizes(
            width,
            config.n_heads,
            config.dim_feedforward,
            config.dropout,
            config.feedforward_activation,
            config.pre_norm,
        )
        self.number_dims = [dim for dim in (self.state_dim, self.environment_dim) if dim]
        if config.use_vae:
            self.vae_encoder = Encoder(sizes, config.n_vae_encoder_layers)
            self.vae_encoder_cls_embed = nn.Embedding(1, width)
            if self.states:
                self.vae_encoder_robot_state_input_proj = nn.Linear(self.state_dim, width)
            self.vae_encoder_action_input_proj = nn.Linear(self.action_dim, width)
            self.vae_encoder_latent_output_proj = nn.Linear(width, 2 * config.latent_dim)
            num_tokens = 1 + bool(self.states) + config.chunk_size
            self.register_buffer("vae_encoder_pos_enc", sequence_places(num_tokens, width).unsqueeze(0))
        if self.cameras:
            channels, _, _ = self.camera_shape(self.cameras[0])
            self.backbone = make_resnet(config.vision_backbone, channels, pretrained=self.fetches, norm=FrozenBatchNorm)
            self.encoder_img_feat_input_proj = nn.Conv2d(resnet_channels(config.vision_backbone), width, 1)
        for index, key in enumerate(self.cameras):
            _, height, breadth = (-(-side // RESNET_STRIDE) for side in self.camera_shape(key))
            self.register_buffer(f"places_{index}", image_places(height, breadth, width), persistent=False)
        self.encoder = Encoder(sizes, config.n_encoder_layers)
        self.decoder = Decoder(sizes, config.n_decoder_layers)
        if self.states:
            self.encoder_robot_state_input_proj = nn.Linear(self.state_dim, width)
        if self.environment:
            self.encoder_env_state_input_proj = nn.Linear(self.environment_dim, width)
        self.encoder_latent_input_proj = nn.Linear(config.latent_dim, width)
        self.encoder_1d_feature_pos_embed = nn.Embedding(1 + len(self.number_dims) + self.num_other_tokens, width)
        self.decoder_pos_embed = nn.Embedding(config.chunk_size, width)
        self.action_head = nn.Linear(width, self.action_dim)
        for part in (self.encoder, self.decoder):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """Mean absolute error of the chunk, and the latent's distance from a normal distribution.

        Steps beyond the episode count as zeros in the mean; ``mean_over_valid`` leaves them out, as LeRobot does since
        April 2026.
        """
        seen = self.processing(batch)
        padding_BT = batch[f"{ACTION}_is_pad"]
        latent = self.encode(seen, padding_BT) if self.config.use_vae else None
        predicted_BTA = self.decode(seen, None if latent is None else latent.sample())
        errors_BTA = functional.l1_loss(predicted_BTA, seen[ACTION], reduction="none") * ~padding_BT.unsqueeze(-1)
        l1 = errors_BTA.mean()
        if self.config.mean_over_valid:
            l1 = errors_BTA.sum() / ((~padding_BT).sum() * self.action_dim).clamp(min=1)
        if latent is None:
            return LossOutput(l1, {"l1_loss": l1.detach()})
        divergence = latent.divergence()
        metrics = {"l1_loss": l1.detach(), "kld_loss": divergence.detach()}
        return LossOutput(l1 + self.config.kl_weight * divergence, metrics)

    def start(self, *seeds: int) -> Memory:
        """No predictions yet, where they are averaged."""
        if self.config.temporal_ensemble_coeff is None:
            return None
        weight = self.action_head.weight
        num_later = self.config.chunk_size - 1
        counts = torch.zeros(len(seeds), num_later, dtype=torch.int64, device=weight.device)
        return Ensemble(weight.new_zeros(len(seeds), num_later, self.action_dim), counts)

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """A chunk from now on."""
        seen = self.processing(observation, "acting")
        actions_BTA = self.decode(seen, None)
        coefficient = self.config.temporal_ensemble_coeff
        if coefficient is not None:
            before = self.start(*[0] * len(actions_BTA)) if memory is None else memory
            actions_BTA, memory = averaged(actions_BTA, before, coefficient)
        return self.processing.inverse({ACTION: actions_BTA}, seen), memory

    def encode(self, seen: Batch, padding_BT: Tensor) -> Latent:
        """The latent of demonstrated chunks, which padded steps have no part in."""
        action_BTA = seen[ACTION]
        B = len(action_BTA)
        tokens = [self.vae_encoder_cls_embed.weight.expand(B, 1, -1)]
        if self.states:
            tokens.append(self.vae_encoder_robot_state_input_proj(self.numbers_of(seen)[0][:, -1:]))
        real_BS = padding_BT.new_zeros(B, len(tokens))
        tokens.append(self.vae_encoder_action_input_proj(action_BTA))
        padding_BS = torch.cat([real_BS, padding_BT], 1)
        places_S1D = self.get_buffer("vae_encoder_pos_enc").transpose(0, 1)
        encoded_SBD = self.vae_encoder(torch.cat(tokens, 1).transpose(0, 1), places_S1D, padding_BS)
        mean_BL, log_variance_BL = self.vae_encoder_latent_output_proj(encoded_SBD[0]).chunk(2, -1)
        return Latent(mean_BL, log_variance_BL)

    def decode(self, seen: Batch, latent_BL: Tensor | None) -> Tensor:
        """Scaled actions ``[B, T, A]``; without a latent it is zero."""
        numbers = [number_BTD[:, -1] for number_BTD in self.numbers_of(seen)]
        B = len(seen[self.reads[0]])
        if latent_BL is None:
            latent_BL = self.action_head.weight.new_zeros(B, self.config.latent_dim)
        projections = [self.encoder_latent_input_proj]
        projections += [self.encoder_robot_state_input_proj] if self.states else []
        projections += [self.encoder_env_state_input_proj] if self.environment else []
        pairs = zip(projections, [latent_BL, *numbers], strict=True)
        tokens = [torch.stack([*(project(values) for project, values in pairs), *self.other_tokens(seen)])]
        places = [self.encoder_1d_feature_pos_embed.weight.unsqueeze(1)]
        for index, key in enumerate(self.cameras):
            maps_BDHW = self.encoder_img_feat_input_proj(self.backbone(seen[key][:, -1]))
            tokens.append(maps_BDHW.flatten(2).permute(2, 0, 1))
            places.append(self.get_buffer(f"places_{index}").unsqueeze(1))
        places_S1D = torch.cat(places)
        encoded_SBD = self.encoder(torch.cat(tokens), places_S1D)
        decoded_TBD = self.decoder(self.decoder_pos_embed.weight.unsqueeze(1), encoded_SBD, places_S1D)
        actions_BTA: Tensor = self.action_head(decoded_TBD.transpose(0, 1))
        return actions_BTA

    def other_tokens(self, seen: Batch) -> Sequence[Tensor]:
        """Tokens ``[B, D]`` that the encoder reads beside latent, states and cameras: ``num_other_tokens`` of them."""
        return ()


def averaged(actions_BTA: Tensor, before: Ensemble, coefficient: float) -> tuple[Tensor, Ensemble]:
    """Means of all predictions for each step, prediction i with the weight ``exp(-coefficient * i)``, i = 0 the oldest.

    Returns the means from now on, and those of the steps after now for the next call.
    """
    T = actions_BTA.shape[1]
    weights_T = torch.exp(-coefficient * torch.arange(T, device=actions_BTA.device))
    sums = torch.cat([weights_T.new_zeros(1), weights_T.cumsum(0)])  # of the first n weights
    counts_BT1 = before.counts.unsqueeze(-1)
    means = before.actions * sums[counts_BT1] + actions_BTA[:, :-1] * weights_T[counts_BT1]
    means_BTA = torch.cat([means / sums[counts_BT1 + 1], actions_BTA[:, -1:]], 1)
    counts_BT = torch.cat([before.counts + 1, before.counts.new_ones(len(means_BTA), 1)], 1)
    return means_BTA, Ensemble(means_BTA[:, 1:], counts_BT[:, 1:])
