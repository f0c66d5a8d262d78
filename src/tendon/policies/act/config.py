"""Action Chunking with Transformers: its keys and its window. No torch. Names and defaults are LeRobot's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tendon.config.schema import Conflict, Count, NotNegative, Share
from tendon.data.features import Feature
from tendon.policies.lerobot.config import Backbone, LeRobotConfig
from tendon.policies.windows import Windows, seen_now


@dataclass(frozen=True)
class ActConfig(LeRobotConfig):
    """Action Chunking with Transformers."""

    model: ClassVar[str] = "tendon.policies.act.model:Act"
    decides: ClassVar[tuple[str, ...]] = ("use_vae",)

    chunk_size: Count = 100
    n_action_steps: Count = 100
    temporal_ensemble_coeff: float | None = None
    vision_backbone: Backbone = "resnet18"
    pretrained_backbone_weights: str | None = None
    dim_model: Count = 512
    n_heads: Count = 8
    dim_feedforward: Count = 3200
    feedforward_activation: Literal["relu", "gelu"] = "relu"
    pre_norm: bool = False
    n_encoder_layers: Count = 4
    n_decoder_layers: Count = 1
    use_vae: bool = True
    n_vae_encoder_layers: Count = 4
    latent_dim: Count = 32
    kl_weight: NotNegative = 10.0
    dropout: Share = 0.1
    mean_over_valid: bool = False

    def conflicts(self) -> Iterator[Conflict]:
        """What is executed is predicted; an ensemble predicts at every step."""
        if self.temporal_ensemble_coeff is not None and self.n_action_steps != 1:
            what = f"policy.n_action_steps is {self.n_action_steps} with policy.temporal_ensemble_coeff"
            why = "temporal ensembling averages the predictions of all steps, so it predicts at every one"
            yield Conflict("n_action_steps", what, why, "policy.n_action_steps=1")
        if self.n_action_steps > self.chunk_size:
            what = f"policy.n_action_steps is {self.n_action_steps}, policy.chunk_size {self.chunk_size}"
            why, fix = "no more actions can be executed than are predicted", f"policy.n_action_steps={self.chunk_size}"
            yield Conflict("n_action_steps", what, why, fix)
        if self.dim_model % self.n_heads:
            what = f"policy.n_heads is {self.n_heads}, policy.dim_model {self.dim_model}"
            fix = f"policy.dim_model={self.n_heads * max(1, self.dim_model // self.n_heads)}"
            yield Conflict("n_heads", what, "each head takes an equal part of the model's width", fix)
        if self.dim_model % 4:
            what, why = f"policy.dim_model is {self.dim_model}", "places are sines and cosines of rows and columns"
            yield Conflict("dim_model", what, why, f"policy.dim_model={self.dim_model // 4 * 4 + 4}")

    def without_effect(self) -> dict[str, str]:
        """Keys of the latent's encoder, where there is none."""
        return {} if self.use_vae else dict.fromkeys(("n_vae_encoder_layers", "kl_weight"), "policy.use_vae=true")

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """What is seen now; a chunk of actions from now on."""
        return seen_now(self.reads(features), self.writes(features), self.chunk_size, self.n_action_steps)
