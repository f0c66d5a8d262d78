"""Behaviour cloning: an MLP from the current observation to the current action; robomimic's BC, BC-Gaussian, BC-GMM."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.base import Batch, LossOutput, Memory
from tendon.policies.bc.config import BcConfig
from tendon.policies.behaviour_cloning.model import BehaviourCloning
from tendon.policies.parts.mlp import make_mlp
from tendon.policies.windows import ACTION

NUMERICS = 1


class Bc(BehaviourCloning):
    """One observation in, one action out."""

    def __init__(
        self, config: BcConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features, stats)
        self.encoder = self.make_encoder(stats)
        self.trunk = make_mlp(self.encoder.output_dim, config.hidden_dims)
        self.head = self.make_head(config.hidden_dims[-1])

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """The head's loss on the current action."""
        return self.head_loss(self.trunk(self.encoder(batch)), batch[ACTION])

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """The action, or one drawn with the episode's noise (no memory: a fresh episode of seed 0)."""
        action_BA, memory = self.choose(self.trunk(self.encoder(observation))[:, -1], memory)
        return {ACTION: action_BA.unsqueeze(1)}, memory
