"""InternManip's dp_clip: Diffusion Policy that is told what to do by a text. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Count, ImageSize
from tendon.policies.diffusion.config import DiffusionConfig
from tendon.policies.language.config import LanguageConfig
from tendon.policies.lerobot.config import DeepBackbone, ImageScaling, Scaling


@dataclass(frozen=True)
class DpClipConfig(LanguageConfig, DiffusionConfig):
    """One observation, three cameras that share a deep ResNet, a text of 32 numbers."""

    model: ClassVar[str] = "tendon.policies.dp_clip.model:DpClip"

    state_normalization: Scaling = "mean_std"
    environment_normalization: Scaling = "mean_std"
    action_normalization: Scaling = "mean_std"
    image_normalization: ImageScaling = "identity"
    n_obs_steps: Count = 1
    vision_backbone: DeepBackbone = "resnet101"  # type: ignore[assignment]
    spatial_softmax_num_keypoints: Count = 64
    resize_shape: ImageSize = (224, 224)
    clip_sample: bool = False
    text_dim: Count = 32

    def without_effect(self) -> dict[str, str]:
        """Diffusion's crops: here ``crop_scale`` comes before the resize."""
        return super().without_effect() | dict.fromkeys(
            ("crop_shape", "crop_ratio", "crop_is_random"), "policy.crop_scale=0.95"
        )
