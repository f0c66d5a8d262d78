"""Diffusion Policy with LeRobot's numbers: a chunk of actions is what is left when noise is taken away step by step.

Legend: B batch, T observations, H horizon, A numbers of an action, K numbers of the condition, S draws of noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.policies.base import Batch, LossOutput, Memory
from tendon.policies.diffusion.config import DiffusionConfig
from tendon.policies.diffusion.noise_schedule import NoiseSchedule, denoise, noisy
from tendon.policies.diffusion.unet import ConditionedBlock, ConditionedUnet, UnetSizes
from tendon.policies.lerobot.model import LeRobotPolicy
from tendon.policies.parts.noise import draw_normal, start_noise
from tendon.policies.parts.rgb_encoder import RgbEncoder
from tendon.policies.windows import ACTION, bare

NUMERICS = 1


class Diffusion(LeRobotPolicy):
    """Chance in training comes from torch's global generator (noise, then time steps); in acting, from the episode's seed."""

    config: DiffusionConfig

    def __init__(
        self, config: DiffusionConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features, stats)
        condition_dim = self.state_dim + self.environment_dim
        if self.cameras:
            num_encoders = len(self.cameras) if config.use_separate_rgb_encoder_per_camera else 1
            encoders = [self._encoder() for _ in range(num_encoders)]
            separate = config.use_separate_rgb_encoder_per_camera
            self.rgb_encoder: nn.Module = nn.ModuleList(encoders) if separate else encoders[0]
            condition_dim += encoders[0].output_dim * len(self.cameras)
        sizes = UnetSizes(
            config.down_dims,
            config.kernel_size,
            config.n_groups,
            config.diffusion_step_embed_dim,
            config.use_film_scale_modulation,
        )
        num_conditions = condition_dim * config.n_obs_steps + self.num_other_conditions
        self.unet = ConditionedUnet(self.action_dim, num_conditions, sizes)
        schedule = NoiseSchedule(config.num_train_timesteps, config.beta_schedule, config.beta_start, config.beta_end)
        self.register_buffer("kept", schedule.kept(), persistent=False)
        num_steps = config.num_inference_steps or config.num_train_timesteps
        self.denoising_steps = schedule.steps(config.noise_scheduler_type, num_steps)

    def shard_units(self) -> Sequence[nn.Module]:
        """Each block of the U-Net; its levels are lists of them."""
        return [module for module in self.modules() if isinstance(module, ConditionedBlock)]

    @property
    def num_noises(self) -> int:
        """Draws of noise for one chunk: the beginning, and one for each step of DDPM but the last."""
        return len(self.denoising_steps) if self.config.noise_scheduler_type == "DDPM" else 1

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """Mean squared error of the noise (or the chunk) that the network finds in noisy demonstrations."""
        seen = self.processing(batch)
        chunk_BHA = seen[ACTION]
        noise_BHA = torch.randn(chunk_BHA.shape, device=chunk_BHA.device)
        steps_B = torch.randint(0, self.config.num_train_timesteps, (len(chunk_BHA),), device=chunk_BHA.device)
        noisy_BHA = noisy(self.get_buffer("kept"), chunk_BHA, noise_BHA, steps_B)
        predicted_BHA = self.unet(noisy_BHA, steps_B, self.condition(seen))
        target_BHA = noise_BHA if self.config.prediction_type == "epsilon" else chunk_BHA
        errors_BHA = functional.mse_loss(predicted_BHA, target_BHA, reduction="none")
        if self.config.do_mask_loss_for_padding:
            errors_BHA = errors_BHA * ~batch[f"{ACTION}_is_pad"].unsqueeze(-1)
        return LossOutput(errors_BHA.mean())

    def start(self, *seeds: int) -> Memory:
        """The noise of each episode."""
        return start_noise(*seeds)

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """The actions from now on that are carried out."""
        seen = self.processing(observation, "acting")
        size = len(seen[self.reads[0]])
        shape = (self.num_noises, self.config.horizon, self.action_dim)
        drawn, memory = draw_normal(
            start_noise(*[0] * size) if memory is None else memory, shape[0] * shape[1] * shape[2]
        )
        weight = self.unet.final_conv[1].weight
        noise_BSHA = drawn.view(size, *shape).to(weight.device, weight.dtype)  # type: ignore[arg-type]
        chunk_BHA = self.sample(seen, noise_BSHA)
        first = self.config.n_obs_steps - 1
        executed = chunk_BHA[:, first : first + self.config.n_action_steps]
        return self.processing.inverse({ACTION: executed}, seen), memory

    def sample(self, seen: Batch, noise_BSHA: Tensor) -> Tensor:
        """A scaled chunk ``[B, H, A]`` for a processed observation; ``noise_BSHA`` is all chance in it."""
        condition_BK = self.condition(seen)
        size = len(condition_BK)

        def predict(sample_BHA: Tensor, timestep: int) -> Tensor:
            steps_B = torch.full((size,), timestep, dtype=torch.int64, device=sample_BHA.device)
            predicted: Tensor = self.unet(sample_BHA, steps_B, condition_BK)
            return predicted

        config = self.config
        clip = config.clip_sample_range if config.clip_sample else None
        predicts_noise = config.prediction_type == "epsilon"
        return denoise(self.denoising_steps, predict, noise_BSHA, predicts_noise=predicts_noise, clip=clip)

    def condition(self, seen: Batch) -> Tensor:
        """State, cameras, environment of each observation, one observation after another ``[B, K]``."""
        numbers = self.numbers_of(seen)
        parts = numbers[: bool(self.states)]
        for index, key in enumerate(self.cameras):
            images_BTCHW = seen[key]
            B, T = images_BTCHW.shape[:2]
            shares = not isinstance(self.rgb_encoder, nn.ModuleList)
            encoder = self.rgb_encoder if shares else self.rgb_encoder[index]  # type: ignore[index]
            parts.append(encoder(images_BTCHW.flatten(0, 1)).view(B, T, -1))
        parts += numbers[bool(self.states) :]
        return torch.cat([torch.cat(parts, -1).flatten(1), *self.other_conditions(seen)], -1)

    @property
    def num_other_conditions(self) -> int:
        """Numbers that a policy built on this one adds to the condition, once for a window."""
        return 0

    def other_conditions(self, seen: Batch) -> Sequence[Tensor]:
        """Those numbers ``[B, K]``."""
        return ()

    def _encoder(self) -> RgbEncoder:
        config, shapes = self.config, {key: self.camera_shape(key) for key in self.cameras}
        if len(set(shapes.values())) > 1:
            raise ConfigError(
                f"{config.name} was given cameras of several sizes",
                where="policy.resize_shape",
                why=", ".join(f"{bare(key)} is {height} x {width}" for key, (_, height, width) in shapes.items()),
                fix="policy.resize_shape=[96,96]",
            )
        return RgbEncoder(
            shapes[self.cameras[0]],
            config.vision_backbone,
            config.spatial_softmax_num_keypoints,
            pretrained=self.fetches,
            groups=config.use_group_norm,
        )
