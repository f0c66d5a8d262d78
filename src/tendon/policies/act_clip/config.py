"""InternManip's act_clip: ACT that is told what to do by a text. Upstream documents it and has no code: this is ours. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Count
from tendon.policies.act.config import ActConfig
from tendon.policies.language.config import LanguageConfig
from tendon.policies.lerobot.config import DeepBackbone


@dataclass(frozen=True)
class ActClipConfig(LanguageConfig, ActConfig):
    """Sizes of the example in InternManip's documentation."""

    model: ClassVar[str] = "tendon.policies.act_clip.model:ActClip"

    chunk_size: Count = 16
    n_action_steps: Count = 16
    vision_backbone: DeepBackbone = "resnet18"  # type: ignore[assignment]
    dim_model: Count = 256
    dim_feedforward: Count = 1024
    pre_norm: bool = True
    n_decoder_layers: Count = 4
    use_vae: bool = False
    latent_dim: Count = 64
    mean_over_valid: bool = True
