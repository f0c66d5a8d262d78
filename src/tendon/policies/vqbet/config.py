"""VQ-BeT: its keys, its windows and what stands between the dataset and its net. No torch.

The names and the defaults are LeRobot's. Where its configuration says ``null``, a list here is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tendon.config.schema import (
    Conflict,
    Count,
    ImageSize,
    Normalization,
    NotNegative,
    PolicyConfig,
    Positive,
    Share,
)
from tendon.data.features import Feature
from tendon.policies.processing.images import ToFloat
from tendon.policies.processing.normalize import Mode, Normalize
from tendon.policies.processing.transform import Transform
from tendon.policies.windows import Windows, in_order, windows_of

NUM_BOOKS = 2  # layers of the residual quantisation; fixed upstream


@dataclass(frozen=True)
class VqbetConfig(PolicyConfig):
    """First codes for chunks of actions, then a GPT that predicts the codes and an offset."""

    model: ClassVar[str] = "tendon.policies.vqbet.model:Vqbet"
    decides: ClassVar[tuple[str, ...]] = ("crop_shape",)

    n_obs_steps: Count
    n_action_pred_token: Count
    action_chunk_size: Count
    vision_backbone: Literal["resnet18", "resnet34"]
    crop_shape: ImageSize
    crop_is_random: bool
    pretrained: bool
    use_group_norm: bool
    spatial_softmax_num_keypoints: Count
    n_vqvae_training_steps: Count
    vqvae_n_embed: Count
    vqvae_embedding_dim: Count
    vqvae_enc_hidden_dim: Count
    optimizer_vqvae_lr: Positive
    optimizer_vqvae_weight_decay: NotNegative
    gpt_block_size: Count
    gpt_input_dim: Count
    gpt_output_dim: Count
    gpt_n_layer: Count
    gpt_n_head: Count
    gpt_hidden_dim: Count
    dropout: Share
    offset_loss_weight: NotNegative
    primary_code_loss_weight: NotNegative
    secondary_code_loss_weight: NotNegative
    bet_softmax_temperature: Positive
    sequentially_select: bool
    image_normalization: Literal["identity", "half", "imagenet"]
    state_normalization: Normalization
    action_normalization: Normalization

    @property
    def num_queries(self) -> int:
        """Action tokens: one for each step that is seen, and those for the future."""
        return self.n_obs_steps + self.n_action_pred_token - 1

    def camera_size(self, feature: Feature) -> tuple[int, int]:
        """Height and width of what the camera's encoder sees."""
        height, width = self.crop_shape or feature.shape[:2]
        return height, width

    def conflicts(self) -> Iterator[Conflict]:
        """The heads share the width; pretrained weights know batch norms only; all tokens need a position."""
        if self.gpt_hidden_dim % self.gpt_n_head:
            yield Conflict(
                "gpt_n_head",
                f"policy.gpt_n_head is {self.gpt_n_head}, policy.gpt_hidden_dim {self.gpt_hidden_dim}",
                "the heads of the attention share the width equally",
                f"policy.gpt_hidden_dim={-(-self.gpt_hidden_dim // self.gpt_n_head) * self.gpt_n_head}",
            )
        if self.pretrained and self.use_group_norm:
            yield Conflict(
                "pretrained",
                "policy.pretrained and policy.use_group_norm are both true",
                "pretrained weights belong to a network with batch norms",
                "policy.use_group_norm=false, or policy.pretrained=false",
            )
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

    def processing(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """Pictures as floats; every number by its kind, with LeRobot's rules."""
        cameras = tuple(key for key, feature in features.items() if feature.kind == "image")
        of_kind = {"state": self.state_normalization, "action": self.action_normalization}
        modes: dict[str, Mode] = {key: of_kind[f.kind] for key, f in features.items() if f.kind in of_kind}
        if self.image_normalization == "imagenet":
            modes |= dict.fromkeys(cameras, "imagenet")
        signed = self.image_normalization == "half"  # mean and deviation 0.5, as LeRobot's Hydra configuration has it
        pictures = ToFloat(keys=cameras, range="signed" if signed else "unit")
        return (pictures, Normalize(modes=modes, rules="lerobot"))
