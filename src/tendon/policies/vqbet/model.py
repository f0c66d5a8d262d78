"""VQ-BeT: chunks of actions as codes, and a GPT that predicts the codes and an offset to them; LeRobot's numbers.

Phase 1 (the first ``n_vqvae_training_steps`` updates) learns the residual quantisation of action chunks; phase 2 keeps it
and learns everything else. Which phase it is follows from the step of the training, and from ``discretized``, which is
saved with the weights: weights that have their codes begin in phase 2. All chance of the codes and the crop is numbers of
the batch (``AUGMENT_NOISE``) or of the episode (``start``).
Axes: B windows, S steps seen, Q queries, W actions of a chunk, A numbers of an action, G code books, C codes, N = B * Q.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tendon.config.schema import TrainingConfig
from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, Problem
from tendon.policies.base import AUGMENT_NOISE, Batch, LossOutput, Memory, ParameterGroup, Policy
from tendon.policies.parts.gpt import Gpt
from tendon.policies.parts.noise import draw_uniform, start_noise
from tendon.policies.parts.residual_vq import ResidualVq
from tendon.policies.parts.rgb_encoder import RgbEncoder
from tendon.policies.processing.processing import Processing
from tendon.policies.vqbet.config import NUM_BOOKS, VqbetConfig
from tendon.policies.windows import ACTION, bare

NUMERICS = 1

COMMITMENT_WEIGHT = 5.0
FOCUS = 2.0  # of the focal loss


@dataclass(frozen=True)
class Prediction:
    """What the head says of N tokens."""

    logits: Tensor  # [N, G, C]
    codes: Tensor  # drawn from them, [N, G]
    decoded: Tensor  # the chunk of the codes, [N, W, A]
    action: Tensor  # and with the offset, [N, W, A]


class ChunkCodes(nn.Module):
    """Chunks of actions to codes and back."""

    discretized: Tensor

    def __init__(self, chunk_dim: int, config: VqbetConfig) -> None:
        super().__init__()
        hidden, dim, self.num_codes = config.vqvae_enc_hidden_dim, config.vqvae_embedding_dim, config.vqvae_n_embed
        self.encoder = _three_layers(chunk_dim, hidden, dim)
        self.decoder = _three_layers(dim, hidden, chunk_dim)
        self.quantizer = ResidualVq(NUM_BOOKS, config.vqvae_n_embed, dim)
        self.register_buffer("discretized", torch.tensor(False))

    def codes(self, chunks_NWA: Tensor) -> Tensor:
        """``[N, G]``."""
        return self.quantizer.quantize(self.encoder(chunks_NWA.flatten(1))).codes

    def chunks(self, codes_NG: Tensor, chunk_size: int) -> Tensor:
        """``[N, W, A]``."""
        decoded_NF: Tensor = self.decoder(self.quantizer.vectors(codes_NG))
        return decoded_NF.view(len(decoded_NF), chunk_size, -1)

    def loss(self, chunks_NWA: Tensor) -> LossOutput:
        """Reconstruction and commitment; in training the code books will follow (``after_update``)."""
        flat_NF = chunks_NWA.flatten(1)
        quantized = self.quantizer.quantize(self.encoder(flat_NF), gather=self.training)
        reconstruction = (flat_NF - self.decoder(quantized.vectors)).abs().mean()
        num_codes = self.num_codes
        used_GC = functional.one_hot(quantized.codes, num_codes).any(0)
        pairs_N = quantized.codes[:, 0] * num_codes + quantized.codes[:, 1]
        metrics = {
            "n_different_codes": used_GC.sum(),
            "n_different_combinations": (torch.bincount(pairs_N, minlength=num_codes**2) > 0).sum(),
            "recon_l1_error": reconstruction.detach(),
        }
        commitment = quantized.commitment if self.training else torch.zeros_like(quantized.commitment)
        return LossOutput(reconstruction + COMMITMENT_WEIGHT * commitment, metrics)


class Vqbet(Policy):
    """The memory is the noise of each episode."""

    config: VqbetConfig
    processing: Processing

    def __init__(
        self, config: VqbetConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features)
        problems = [*_problems(config, features)]
        if problems:
            raise ConfigError.of(problems)
        self.processing = Processing(config.processing(features), features, stats)
        self.cameras = tuple(key for key in self.reads if features[key].kind == "image")
        self.states = tuple(key for key in self.reads if features[key].kind == "state")
        action_dim, width = features[ACTION].dim, config.gpt_input_dim
        self.camera: RgbEncoder | None = None
        for key in self.cameras:
            height, breadth, channels = self.processing.after[key].shape
            self.camera = RgbEncoder(
                (channels, height, breadth),
                config.vision_backbone,
                config.spatial_softmax_num_keypoints,
                pretrained=config.pretrained_backbone_weights is not None
                and stats is not None,  # without, all are loaded next
                groups=config.use_group_norm,
            )
            self.embed_image = nn.Linear(self.camera.output_dim, width)
        if self.states:
            self.embed_state = nn.Linear(sum(features[key].dim for key in self.states), width)
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.gpt = Gpt(
            width,
            config.gpt_hidden_dim,
            config.gpt_output_dim,
            context=config.gpt_block_size,
            num_layers=config.gpt_n_layer,
            num_heads=config.gpt_n_head,
            dropout=config.dropout,
        )
        num_codes, chunk_dim = config.vqvae_n_embed, config.action_chunk_size * action_dim
        self.rvq = ChunkCodes(chunk_dim, config)
        if config.sequentially_select:
            self.first_code = nn.Linear(config.gpt_output_dim, num_codes)
            self.second_code = nn.Linear(config.gpt_output_dim + num_codes, num_codes)
        else:
            self.both_codes = nn.Linear(config.gpt_output_dim, NUM_BOOKS * num_codes)
        self.offset = nn.Linear(config.gpt_output_dim, NUM_BOOKS * num_codes * chunk_dim)
        self.num_draws = self.processing.num_draws + NUM_BOOKS * config.num_queries

    # ----------------------------------------------------------------------------------------------------------- phases

    def _discretizes(self, step: int) -> bool:
        """Whether update ``step`` belongs to phase 1."""
        return step < self.config.n_vqvae_training_steps and not bool(self.rvq.discretized)

    def phase(self, step: int) -> tuple[str, ...]:
        """The residual quantisation, then everything else."""
        if self._discretizes(step):
            return ("rvq",)
        return tuple({name.partition(".")[0] for name, _ in self.named_parameters()} - {"rvq"})

    def schedule_step(self, step: int) -> int | None:
        """The full rate in phase 1; the schedule begins with phase 2."""
        first = self.config.n_vqvae_training_steps
        return None if step < first else step - first

    def after_update(self, step: int) -> None:
        """The code books follow; behind the last update of phase 1 they are fixed."""
        if self._discretizes(step):
            self.rvq.quantizer.follow()
            if step + 1 >= self.config.n_vqvae_training_steps:
                self.rvq.discretized.fill_(True)
                self.rvq.quantizer.freeze_codebook.fill_(True)

    def parameter_groups(self, training: TrainingConfig) -> tuple[ParameterGroup, ...]:
        """The quantisation at its own rate and decay; biases, norms and positions of the GPT do not decay."""
        config = self.config
        rate = config.optimizer_vqvae_lr / training.lr
        idle = tuple(f"gpt.{name}" for name in self.gpt.names_without_decay())
        return (ParameterGroup(("rvq",), rate, config.optimizer_vqvae_weight_decay), ParameterGroup(idle, 1.0, 0.0))

    # ----------------------------------------------------------------------------------------------------------- losses

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """Phase 1: reconstruction of all chunks. Phase 2: focal losses of the codes and the distance to the actions.

        Without numbers of chance (validation) the likeliest codes are taken and the crop is the middle.
        """
        seen = self.processing(batch)
        chunks_NWA = seen[ACTION].unfold(1, self.config.action_chunk_size, 1).transpose(2, 3).flatten(0, 1)
        if self._discretizes(step):
            return self.rvq.loss(chunks_NWA)
        draws_BN = batch.get(AUGMENT_NOISE)
        uniform_NG = None
        if draws_BN is not None:  # those of the processing come first
            uniform_NG = draws_BN[:, -NUM_BOOKS * self.config.num_queries :].reshape(-1, NUM_BOOKS)
        made = self.predict(self.features_of(seen).flatten(0, 1), uniform_NG)
        with torch.no_grad():
            codes_NG = self.rvq.codes(chunks_NWA)
        first, second = (focal_loss(made.logits[:, i], codes_NG[:, i]) for i in range(NUM_BOOKS))
        classification = first * self.config.primary_code_loss_weight + second * self.config.secondary_code_loss_weight
        offset = functional.l1_loss(made.action, chunks_NWA)
        metrics = {"classification_loss": classification.detach(), "offset_loss": offset.detach()}
        with torch.no_grad():
            right_G = (codes_NG == made.codes).float().mean(0)
            error_NWA = made.action - chunks_NWA
            metrics |= {
                "equal_primary_code_rate": right_G[0],
                "equal_secondary_code_rate": right_G[1],
                "vq_action_error": functional.l1_loss(made.decoded, chunks_NWA),
                "offset_action_error": metrics["offset_loss"],
                "action_error_max": error_NWA.abs().max(),
                "action_mse_error": error_NWA.square().mean(),
            }
        return LossOutput(classification + self.config.offset_loss_weight * offset, metrics)

    def start(self, *seeds: int) -> Memory:
        """The noise that codes are drawn with."""
        return start_noise(*seeds)

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """The chunk of the newest query, with codes drawn by the episode's noise."""
        seen = self.processing(observation, "acting")
        features_BO = self.features_of(seen, newest_only=True)[:, -1]
        memory = start_noise(*[0] * len(features_BO)) if memory is None else memory
        uniform_BG, memory = draw_uniform(memory, NUM_BOOKS)
        action_BWA = self.predict(features_BO, uniform_BG.to(features_BO.device)).action
        return {ACTION: self.processing.inverse({ACTION: action_BWA}, seen)[ACTION]}, memory

    # ---------------------------------------------------------------------------------------------------------- network

    def features_of(self, seen: Mapping[str, Tensor], *, newest_only: bool = False) -> Tensor:
        """What the GPT says at each query ``[B, Q, O]``; of the newest observation alone, queries of the future are left out."""
        tokens = []
        if self.camera is not None:
            pictures = seen[self.cameras[0]]
            tokens.append(self.embed_image(self.camera(pictures.flatten(0, 1))).view(*pictures.shape[:2], -1))
        if self.states:
            tokens.append(self.embed_state(torch.cat([seen[key] for key in self.states], -1)))
        B, S = tokens[0].shape[:2]
        tokens.append(self.query.expand(B, S, -1))
        num_inputs = len(tokens)
        stacked_BTE = torch.stack(tokens, 2).flatten(1, 2)
        num_future = 0 if newest_only else self.config.n_action_pred_token - 1
        if num_future:
            stacked_BTE = torch.cat([stacked_BTE, self.query.expand(B, num_future, -1)], 1)
        out_BTO = self.gpt(stacked_BTE)
        of_steps_BSO = out_BTO[:, num_inputs - 1 : S * num_inputs : num_inputs]
        result_BQO: Tensor = torch.cat([of_steps_BSO, out_BTO[:, S * num_inputs :]], 1)
        return result_BQO

    def predict(self, features_NO: Tensor, uniform_NG: Tensor | None) -> Prediction:
        """Codes by numbers in [0, 1), the likeliest ones without; only offsets learn from the actions, codes do not."""
        config = self.config
        num_codes = config.vqvae_n_embed
        uniforms = (None,) * NUM_BOOKS if uniform_NG is None else uniform_NG.unbind(-1)
        if config.sequentially_select:
            first_NC = self.first_code(features_NO)
            first_N = self._drawn(first_NC, uniforms[0])
            known_NC = functional.one_hot(first_N, num_codes).to(features_NO.dtype)
            second_NC = self.second_code(torch.cat([features_NO, known_NC], -1))
            logits_NGC = torch.stack([first_NC, second_NC], 1)
            codes_NG = torch.stack([first_N, self._drawn(second_NC, uniforms[1])], -1)
        else:
            logits_NGC = self.both_codes(features_NO).view(-1, NUM_BOOKS, num_codes)
            codes_NG = torch.stack([self._drawn(logits_NGC[:, i], uniforms[i]) for i in range(NUM_BOOKS)], -1)
        offsets_NGCF = self.offset(features_NO).view(len(features_NO), NUM_BOOKS, num_codes, -1)
        index = codes_NG[:, :, None, None].expand(-1, -1, 1, offsets_NGCF.shape[-1])
        offset_NF = offsets_NGCF.gather(2, index).squeeze(2).sum(1)
        with torch.no_grad():
            decoded_NWA = self.rvq.chunks(codes_NG, config.action_chunk_size)
        return Prediction(logits_NGC, codes_NG, decoded_NWA, decoded_NWA + offset_NF.view_as(decoded_NWA))

    def _drawn(self, logits_NC: Tensor, uniform_N: Tensor | None) -> Tensor:
        if uniform_N is None:
            return logits_NC.argmax(-1)
        probabilities_NC = (logits_NC / self.config.bet_softmax_temperature).softmax(-1)
        below_NC = probabilities_NC.cumsum(-1) <= uniform_N.unsqueeze(-1)
        return below_NC.sum(-1).clamp(max=logits_NC.shape[-1] - 1)


def focal_loss(logits_NC: Tensor, codes_N: Tensor) -> Tensor:
    """The log-likelihood of the right codes, those that are likely already weighing less."""
    log_likelihood_N = logits_NC.log_softmax(-1).gather(-1, codes_N.unsqueeze(-1)).squeeze(-1)
    return (-((1 - log_likelihood_N.exp()) ** FOCUS) * log_likelihood_N).mean()


def _three_layers(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    first, second = nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(hidden_dim, output_dim))


def _problems(config: VqbetConfig, features: Mapping[str, Feature]) -> Iterator[Problem]:
    reads = config.reads(features)
    pictures = [key for key in reads if features[key].kind == "image"]
    yield from config.feature_problems(features)
    num_tokens = (len(pictures) + (len(reads) > len(pictures)) + 1) * config.n_obs_steps
    num_tokens += config.n_action_pred_token - 1
    if num_tokens > config.gpt_block_size:
        why = f"a window has {num_tokens} tokens, and each has a learned position"
        fix = f"policy.gpt_block_size={num_tokens}"
        yield Problem("vqbet has too few positions", "policy.gpt_block_size", why, fix)
    for key in pictures if config.crop_shape else ():
        height, width = features[key].shape[:2]
        if config.crop_shape[0] > height or config.crop_shape[1] > width:
            why = f"{bare(key)} is {height} x {width}, the crop {config.crop_shape[0]} x {config.crop_shape[1]}"
            fix = f"policy.crop_shape=[{height},{width}]"
            yield Problem("the crop is larger than the picture", "policy.crop_shape", why, fix)
