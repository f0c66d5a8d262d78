"""VQ-BeT: its keys, its windows and what stands between the dataset and its net. No torch.

The names and the defaults are LeRobot's. Where its configuration says ``null``, a list here is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Conflict, Count, ImageSize, NotNegative, Positive, Share
from tendon.data.features import Feature
from tendon.errors import Problem
from tendon.policies.lerobot.config import Backbone, ImageScaling, LeRobotConfig, Scaling, one_camera_problems
from tendon.policies.processing.images import Crop, ToFloat
from tendon.policies.processing.transform import Transform
from tendon.policies.windows import Windows, in_order, windows_of

NUM_BOOKS = 2  # layers of the residual quantisation; fixed upstream


@dataclass(frozen=True)
class VqbetConfig(LeRobotConfig):
    """First codes for chunks of actions, then a GPT that predicts the codes and an offset."""

    model: ClassVar[str] = "tendon.policies.vqbet.model:Vqbet"
    decides: ClassVar[tuple[str, ...]] = ("crop_shape",)

    state_normalization: Scaling = "min_max"
    environment_normalization: Scaling = "min_max"
    action_normalization: Scaling = "min_max"
    image_normalization: ImageScaling = "signed"
    n_obs_steps: Count = 5
    n_action_pred_token: Count = 7
    action_chunk_size: Count = 5
    vision_backbone: Backbone = "resnet18"
    crop_shape: ImageSize = ()
    crop_is_random: bool = True
    pretrained_backbone_weights: str | None = None
    use_group_norm: bool = True
    spatial_softmax_num_keypoints: Count = 32
    n_vqvae_training_steps: Count = 20000
    vqvae_n_embed: Count = 16
    vqvae_embedding_dim: Count = 256
    vqvae_enc_hidden_dim: Count = 128
    optimizer_vqvae_lr: Positive = 1e-3
    optimizer_vqvae_weight_decay: NotNegative = 1e-4
    gpt_block_size: Count = 500
    gpt_input_dim: Count = 512
    gpt_output_dim: Count = 512
    gpt_n_layer: Count = 8
    gpt_n_head: Count = 8
    gpt_hidden_dim: Count = 512
    dropout: Share = 0.1
    offset_loss_weight: NotNegative = 10000.0
    primary_code_loss_weight: NotNegative = 5.0
    secondary_code_loss_weight: NotNegative = 0.5
    bet_softmax_temperature: Positive = 0.1
    sequentially_select: bool = False

    @property
    def num_queries(self) -> int:
        """Action tokens: one for each step that is seen, and those for the future."""
        return self.n_obs_steps + self.n_action_pred_token - 1

    def feature_problems(self, features: Mapping[str, Feature]) -> Iterator[Problem]:
        """As every policy."""
        yield from one_camera_problems(self, features, "its tokens hold one picture a step")

    def conflicts(self) -> Iterator[Conflict]:
        """The heads share the width; pretrained weights know batch norms only; all tokens need a position."""
        if self.gpt_hidden_dim % self.gpt_n_head:
            yield Conflict(
                "gpt_n_head",
                f"policy.gpt_n_head is {self.gpt_n_head}, policy.gpt_hidden_dim {self.gpt_hidden_dim}",
                "the heads of the attention share the width equally",
                f"policy.gpt_hidden_dim={-(-self.gpt_hidden_dim // self.gpt_n_head) * self.gpt_n_head}",
            )
        if self.pretrained_backbone_weights is not None and self.use_group_norm:
            what = "policy.use_group_norm is on with policy.pretrained_backbone_weights"
            why = "ImageNet's weights belong to batch norms"
            yield Conflict("use_group_norm", what, why, "policy.use_group_norm=false")
        fewest = 2 * self.n_obs_steps + self.n_action_pred_token - 1
        if self.gpt_block_size < fewest:
            yield Conflict(
                "gpt_block_size",
                f"policy.gpt_block_size is {self.gpt_block_size}, a window has at least {fewest} tokens",
                "each token has a learned position, and there are policy.gpt_block_size of them",
                "policy.gpt_block_size=500",
            )

    def without_effect(self) -> dict[str, str]:
        """A crop that is the whole picture is nowhere at random."""
        return {} if self.crop_shape else {"crop_is_random": "policy.crop_shape=[84,84]"}

    def reads(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """Every observation and goal, sorted by bare name."""
        return in_order([key for key, feature in features.items() if feature.kind != "action"])

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """The last ``n_obs_steps``; actions from the first of them to the end of the last chunk that is predicted."""
        seen = range(1 - self.n_obs_steps, 1)
        targets = range(1 - self.n_obs_steps, self.n_action_pred_token + self.action_chunk_size - 1)
        chunk = self.action_chunk_size
        return windows_of(self.reads(features), self.writes(features), seen, targets, chunk=chunk, execute=chunk)

    def camera_transforms(self, cameras: tuple[str, ...]) -> tuple[Transform, ...]:
        """Cropped, one place for a window in training; then floats."""
        if not cameras:
            return ()
        crops: tuple[Transform, ...] = ()
        if self.crop_shape:
            crops = (Crop(keys=cameras, size=self.crop_shape, random=self.crop_is_random, middle="round"),)
        return (*crops, ToFloat(keys=cameras))
