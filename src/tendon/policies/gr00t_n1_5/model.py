"""GR00T N1.5: SigLIP 2 and a Qwen3 cut to 12 layers, joined by one layer; numbers are those of the public code."""

from __future__ import annotations

from torch import nn

from tendon.policies.gr00t.backbone import EagleBackbone
from tendon.policies.gr00t.head import ActionHead
from tendon.policies.gr00t.model import Gr00t, Gr00tNetwork, head_sizes
from tendon.policies.gr00t_n1_5.config import Gr00tN15Config
from tendon.policies.parts.towers import make_qwen3, make_vision
from tendon.policies.vla.sizes import language_of, vision_of

NUMERICS = 1


class Gr00tN15(Gr00t):
    """The head looks at the language model's width."""

    config: Gr00tN15Config

    def build(self) -> Gr00tNetwork:
        """Random."""
        config = self.config
        connector = nn.Sequential(nn.Linear(config.vision_width, config.text_width))
        backbone = EagleBackbone(
            make_vision(vision_of(config)),
            connector,
            make_qwen3(language_of(config), config.rope_theta),
            shuffle=config.shuffle,
            image_token_id=config.image_token_id,
        )
        sizes = head_sizes(
            config,
            config.text_width,
            num_future_tokens=config.num_target_vision_tokens,
            adapter_heads=config.vl_heads,
            adapter_layers=config.vl_layers,
        )
        return Gr00tNetwork(backbone, nn.Identity(), ActionHead(sizes))
