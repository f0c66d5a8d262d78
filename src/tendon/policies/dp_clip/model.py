"""Diffusion Policy whose condition holds a text too: [state, images, environment, text], the U-Net knows no language besides.

Legend: B batch, K numbers of the condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.base import Batch
from tendon.policies.diffusion.model import Diffusion
from tendon.policies.dp_clip.config import DpClipConfig
from tendon.policies.language.model import LanguagePolicy

NUMERICS = 1


class DpClip(LanguagePolicy, Diffusion):
    """Chance as in Diffusion."""

    config: DpClipConfig
    modules_of_group: ClassVar[Mapping[str, Sequence[str]]] = {
        "llm": ("text_encoder",),
        "visual": ("rgb_encoder",),
        "projector": ("text_projection",),
        "diffusion_model": ("unet",),
    }

    def __init__(
        self, config: DpClipConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features, stats)
        self.add_language(config.text_dim)

    @property
    def num_other_conditions(self) -> int:
        """The text's."""
        return self.config.text_dim

    def other_conditions(self, seen: Batch) -> Sequence[Tensor]:
        """The text."""
        return (self.told(seen),)
