"""Behaviour cloning with a recurrent net: robomimic's BC-RNN and BC-RNN-GMM, its state rule included.

Trained on the observations and actions of ``seq_length`` steps from a zero state. When acting, the state starts from
zero at the start of an episode and every ``horizon`` steps; ``open_loop`` sees the first observation of each horizon only.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.base import Batch, LossOutput, Memory
from tendon.policies.bc_rnn.config import BcRnnConfig
from tendon.policies.behaviour_cloning.model import BehaviourCloning, backbone_mlp
from tendon.policies.parts.recurrent import Recurrent
from tendon.policies.windows import ACTION

NUMERICS = 1


class BcRnn(BehaviourCloning):
    """The memory is ``{"state": [B, L, P, H], "step": [B]}``, with ``held`` features [B, E] and ``noise`` where needed."""

    def __init__(
        self, config: BcRnnConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features, stats)
        self.horizon, self.open_loop = config.horizon, config.open_loop
        self.encoder = self.make_encoder(stats, num_times=1 if config.open_loop else config.seq_length)
        self.rnn = Recurrent(self.encoder.output_dim, config.hidden_dim, config.num_layers, config.cell)
        self.trunk, width = backbone_mlp(config.hidden_dim, config.hidden_dims)
        self.head = self.make_head(width)

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """The head's loss over the steps of the window, padded ones too unless ``mask_padding``."""
        if self.open_loop:
            num_times = batch[ACTION].shape[1]
            first = batch | {key: batch[key][:, :1] for key in self.reads}
            features_BTE = self.encoder(first).expand(-1, num_times, -1)
        else:
            features_BTE = self.encoder(batch)
        return self.head_loss(self.trunk(self.rnn(features_BTE)), batch[ACTION], self.step_weights(batch))

    def start(self, *seeds: int) -> Memory:
        """A zero state, step 0, and what the head needs."""
        state_BLPH = self.rnn.zero_state(len(seeds))
        memory = {"state": state_BLPH, "step": torch.zeros(len(seeds), dtype=torch.int64, device=state_BLPH.device)}
        noise = super().start(*seeds)
        if noise is not None:
            memory["noise"] = noise
        if self.open_loop:
            memory["held"] = state_BLPH.new_zeros(len(seeds), self.encoder.output_dim)
        return memory

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """One step; each episode keeps its own count."""
        features_BE = self.encoder(observation)[:, -1]
        before = self.start(*[0] * len(features_BE)) if memory is None else memory
        fresh_B = before["step"] % self.horizon == 0
        state_BLPH = before["state"].masked_fill(fresh_B.view(-1, 1, 1, 1), 0)
        after = {}
        if self.open_loop:
            features_BE = torch.where(fresh_B.unsqueeze(-1), features_BE, before["held"])
            after["held"] = features_BE
        hidden_BTH, after["state"] = self.rnn.step(features_BE.unsqueeze(1), state_BLPH)
        after["step"] = before["step"] + 1
        action_BA, noise = self.choose(self.trunk(hidden_BTH)[:, -1], before.get("noise"))
        return {ACTION: action_BA.unsqueeze(1)}, after if noise is None else after | {"noise": noise}
