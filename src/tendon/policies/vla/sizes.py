"""Sizes of the towers that a configuration asks for."""

from __future__ import annotations

from tendon.policies.parts.towers import LanguageSizes, VisionSizes
from tendon.policies.vla.config import VlaConfig

NUMERICS = 1


def vision_of(config: VlaConfig) -> VisionSizes:
    """The vision tower."""
    return VisionSizes(
        config.vision_width,
        config.vision_layers,
        config.vision_heads,
        config.vision_feedforward,
        config.image_size,
        config.patch_size,
    )


def language_of(config: VlaConfig) -> LanguageSizes:
    """The language model."""
    return LanguageSizes(
        config.text_width,
        config.text_layers,
        config.text_heads,
        config.text_kv_heads,
        config.text_head_dim,
        config.text_feedforward,
        config.vocab_size,
    )
