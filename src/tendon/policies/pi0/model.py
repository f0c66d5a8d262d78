"""pi0 and pi0.5: a velocity from noise to actions, seen by a vision-language model. Numbers are openpi's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tendon.policies.parts.flow_matching import beta_times
from tendon.policies.pi0.config import Pi0Config
from tendon.policies.pi0.network import Pi0Network, Pi0Sizes
from tendon.policies.pi0.weights import our_name
from tendon.policies.vla.flow import FlowPolicy
from tendon.policies.vla.model import PROJECTOR, Seen
from tendon.policies.vla.sizes import language_of, vision_of

NUMERICS = 1

TIME_SCALE, TIME_OFFSET = 0.999, 0.001  # no time is 0


class Pi0(FlowPolicy):
    """One module for both: ``pi05`` changes the suffix and the prompt."""

    config: Pi0Config
    net: Pi0Network

    def build(self) -> Pi0Network:
        """Random."""
        return Pi0Network(sizes_of(self.config))

    def parts(self) -> Mapping[str, Sequence[str]]:
        """The expert is what denoises."""
        names = [name for name, _ in self.net.named_children() if name.endswith(("_proj", "_in", "_out"))]
        return gemma_parts(self.net.gemma.layers, expert=True) | {PROJECTOR: names}

    def never_learn(self) -> Sequence[nn.Module]:
        """What stands behind the keys and values of the prefix's last layer."""
        return self.net.gemma.unused()

    def errors(self, seen: Seen, actions_BTA: Tensor) -> Tensor:
        """At a time of a Beta distribution."""
        noise_BTA = torch.randn_like(actions_BTA)
        beta = beta_times(
            len(actions_BTA), self.config.noise_beta_alpha, self.config.noise_beta_beta, actions_BTA.device
        )
        return self.net.velocity_errors(seen, actions_BTA, noise_BTA, beta * TIME_SCALE + TIME_OFFSET)

    def sample(self, seen: Seen, noise_BTA: Tensor) -> Tensor:
        """The prefix once, then steps from noise."""
        return self.net.sample(seen, noise_BTA, self.config.num_inference_steps)

    def base_tensor(self, name: str) -> str:
        """Names of openpi and LeRobot, and ours."""
        return our_name(name)


def gemma_parts(layers: nn.ModuleList, *, expert: bool) -> dict[str, Sequence[str]]:
    """Of a network with ``vision``, ``connector`` and ``gemma``."""
    numbers = range(len(layers))
    parts: dict[str, Sequence[str]] = {
        "llm": ["gemma.embed_tokens", "gemma.prefix_norm", *(f"gemma.layers.{i}.prefix" for i in numbers)],
        "visual": ["vision", "connector"],
    }
    if expert:
        parts["diffusion_model"] = ["gemma.expert_norm", *(f"gemma.layers.{i}.expert" for i in numbers)]
    return parts


def sizes_of(config: Pi0Config) -> Pi0Sizes:
    """The network of a configuration: the expert is as deep as the language model and has its heads."""
    language = language_of(config)
    expert = replace(language, width=config.expert_width, feedforward=config.expert_feedforward)
    return Pi0Sizes(
        vision_of(config),
        language,
        expert,
        config.max_state_dim,
        config.max_action_dim,
        config.min_period,
        config.max_period,
        config.pi05,
    )
