"""ACT with a text: its vector, projected, is one more token of the encoder. Legend: B batch, D width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.act.model import Act
from tendon.policies.act_clip.config import ActClipConfig
from tendon.policies.base import Batch
from tendon.policies.language.model import LanguagePolicy

NUMERICS = 1


class ActClip(LanguagePolicy, Act):
    """Chance as in ACT."""

    config: ActClipConfig
    num_other_tokens = 1
    modules_of_group: ClassVar[Mapping[str, Sequence[str]]] = {
        "llm": ("text_encoder",),
        "visual": ("backbone",),
        "projector": (
            "text_projection",
            "encoder_img_feat_input_proj",
            "encoder_robot_state_input_proj",
            "encoder_env_state_input_proj",
            "encoder_latent_input_proj",
            "encoder_1d_feature_pos_embed",
        ),
        "diffusion_model": (
            "encoder",
            "decoder",
            "decoder_pos_embed",
            "action_head",
            "vae_encoder",
            "vae_encoder_cls_embed",
            "vae_encoder_robot_state_input_proj",
            "vae_encoder_action_input_proj",
            "vae_encoder_latent_output_proj",
        ),
    }

    def __init__(
        self, config: ActClipConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features, stats)
        self.add_language(config.dim_model)

    def other_tokens(self, seen: Batch) -> Sequence[Tensor]:
        """The text's."""
        return (self.told(seen),)
