"""Behaviour cloning with a transformer over the last ``context`` observations: robomimic's BC-Transformer(-GMM).

``pred_future_acs``: token i predicts the action i steps ahead, and token 0 is executed. Under upstream's causal mask
token 0 sees the oldest observation only; ``future_attention=full`` (default) lets every token see all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.base import Batch, LossOutput, Memory
from tendon.policies.bc_transformer.config import BcTransformerConfig
from tendon.policies.behaviour_cloning.model import BehaviourCloning
from tendon.policies.parts.transformer import Transformer
from tendon.policies.windows import ACTION

NUMERICS = 1


class BcTransformer(BehaviourCloning):
    """One token per observation; before the start of an episode its first observation is repeated."""

    def __init__(
        self, config: BcTransformerConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features, stats)
        self.predicts_future = config.pred_future_acs
        self.last_only = not config.supervise_all_steps
        self.causal = not config.pred_future_acs or config.future_attention == "causal"
        self.encoder = self.make_encoder(stats, num_times=config.context_length, activate=False)
        self.transformer = Transformer(
            self.encoder.output_dim,
            config.embed_dim,
            context=config.context_length,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            embedding_dropout=config.emb_dropout,
            attention_dropout=config.attn_dropout,
            output_dropout=config.block_output_dropout,
            activation=config.activation,
            position=config.position,
        )
        self.head = self.make_head(config.embed_dim)

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """The head's loss on the newest action, or on one action per token."""
        features_BTD = self.transformer(self.encoder(batch), causal=self.causal, last_only=self.last_only)
        return self.head_loss(features_BTD, batch[ACTION], self.step_weights(batch))

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """The action of the token that predicts now."""
        encoded_BTE = self.encoder(observation)
        features_BTD = self.transformer(encoded_BTE, causal=self.causal, last_only=not self.predicts_future)
        action_BA, memory = self.choose(features_BTD[:, 0], memory)
        return {ACTION: action_BA.unsqueeze(1)}, memory
