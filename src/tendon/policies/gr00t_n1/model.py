"""GR00T N1: SigLIP 2 and a SmolLM2 cut to 12 layers behind an MLP; the head's sequence is a state and actions."""

from __future__ import annotations

from torch import nn

from tendon.policies.gr00t.backbone import EagleBackbone
from tendon.policies.gr00t.head import ActionHead
from tendon.policies.gr00t.model import Gr00t, Gr00tNetwork, head_sizes
from tendon.policies.gr00t_n1.config import Gr00tN1Config
from tendon.policies.parts.towers import make_llama, make_vision
from tendon.policies.vla.sizes import language_of, vision_of

NUMERICS = 1


class Gr00tN1(Gr00t):
    """The head looks at a projection of the language model."""

    config: Gr00tN1Config

    def build(self) -> Gr00tNetwork:
        """Random."""
        config = self.config
        patches, width = config.vision_width * config.shuffle**2, config.text_width
        connector = nn.Sequential(nn.LayerNorm(patches), nn.Linear(patches, width), nn.GELU(), nn.Linear(width, width))
        backbone = EagleBackbone(
            make_vision(vision_of(config)),
            connector,
            make_llama(language_of(config), config.rope_theta),
            shuffle=config.shuffle,
            image_token_id=config.image_token_id,
        )
        head = ActionHead(head_sizes(config, config.project_to_dim))
        return Gr00tNetwork(backbone, nn.Linear(width, config.project_to_dim), head)
