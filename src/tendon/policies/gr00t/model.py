"""The base of GR00T N1 and N1.5: backbone and head, and which part is which. Names of parts are InternManip's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tendon.policies.gr00t.backbone import EagleBackbone
from tendon.policies.gr00t.config import EMBODIMENTS, Gr00tConfig
from tendon.policies.gr00t.head import ActionHead, HeadInput, HeadSizes
from tendon.policies.gr00t.weights import our_name
from tendon.policies.parts.flow_matching import beta_times
from tendon.policies.vla.flow import FlowPolicy
from tendon.policies.vla.model import PROJECTOR, Seen

NUMERICS = 1


class Gr00tNetwork(nn.Module):
    """Backbone, its way to the head's width (N1), head."""

    def __init__(self, backbone: EagleBackbone, linear: nn.Module, head: ActionHead) -> None:
        super().__init__()
        self.backbone, self.linear, self.head = backbone, linear, head

    def given(self, seen: Seen, *, masks: bool) -> HeadInput:
        """What the head sees of an observation; ``masks``: without the prompt's padding."""
        assert seen.embodiment is not None
        real_BL = seen.real if masks else None
        features_BLW = self.head.adapted(self.linear(self.backbone(seen)), real_BL)
        return HeadInput(features_BLW, real_BL, seen.state, seen.embodiment)


class Gr00t(FlowPolicy):
    """A subclass builds the network."""

    config: Gr00tConfig
    net: Gr00tNetwork

    def parts(self) -> Mapping[str, Sequence[str]]:
        """What connects backbone and head belongs to none, and always learns."""
        encoders = ("state_encoder", "action_encoder", "action_decoder", "position_embedding")
        return {
            "llm": ["backbone.language"],
            "visual": ["backbone.vision", "backbone.connector"],
            "diffusion_model": ["head.model"],
            PROJECTOR: [f"head.{name}" for name in encoders],
            "always": [name for name in ("linear", "head.future_tokens", "head.vlln", "head.vl_self_attention") if _has(self.net, name)],
        }  # fmt: skip

    def seen(self, batch: dict[str, Tensor]) -> Seen:
        """With the number of the embodiment."""
        seen = super().seen(batch)
        embodiment = torch.full_like(seen.tokens[:, 0], EMBODIMENTS[self.config.embodiment_tag])
        return Seen(seen.images, seen.tokens, seen.real, seen.state, embodiment)

    def errors(self, seen: Seen, actions_BTA: Tensor) -> Tensor:
        """At a time of a Beta distribution, more of them near the noise."""
        config = self.config
        given = self.net.given(seen, masks=config.mask_text_padding)
        noise_BTA = torch.randn_like(actions_BTA)
        beta_B = beta_times(len(actions_BTA), config.noise_beta_alpha, config.noise_beta_beta, actions_BTA.device)
        time_B = ((config.noise_s - beta_B) / config.noise_s).clamp(min=0)
        return self.net.head.velocity_errors(given, actions_BTA, noise_BTA, time_B)

    def sample(self, seen: Seen, noise_BTA: Tensor) -> Tensor:
        """The backbone once, then steps from noise."""
        given = self.net.given(seen, masks=self.config.mask_text_padding)
        return self.net.head.sample(given, noise_BTA, self.config.num_inference_steps)

    def base_tensor(self, name: str) -> str:
        """GR00T's names and ours."""
        return our_name(name)


def head_sizes(config: Gr00tConfig, context: int, **more: Any) -> HeadSizes:
    """Of a configuration."""
    return HeadSizes(
        config.max_num_embodiments,
        config.max_state_dim,
        config.max_action_dim,
        config.hidden_size,
        config.input_embedding_dim,
        context,
        config.diffusion_heads,
        config.diffusion_layers,
        config.dropout,
        config.max_seq_len,
        config.num_timestep_buckets,
        **more,
    )


def _has(net: nn.Module, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    module = getattr(net.get_submodule(owner), leaf, None)
    return isinstance(module, nn.Module) and next(module.parameters(), None) is not None
