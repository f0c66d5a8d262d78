"""The network, its loss and its actions. Shapes: B batch, T steps, D values."""

import torch
from torch import nn

from tendon.policies.base import LossOutput, Policy
from tendon.policies.parts.normalize import Normalizer

NUMERICS = 1  # raise it when the same weights give other numbers


class ChunkMlp(Policy):
    def __init__(self, config, features, stats):
        super().__init__(config, features)  # self.reads, self.writes: the keys that the environment names
        self.action_dim = features["action"].dim
        self.seen = Normalizer("mean_std", {key: features[key].dim for key in self.reads}, stats)
        self.done = Normalizer("mean_std", {"action": self.action_dim}, stats)
        widths = [config.n_obs_steps * sum(features[key].dim for key in self.reads), *config.hidden_dims]
        layers = [part for a, b in zip(widths, widths[1:]) for part in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], config.chunk_size * self.action_dim))

    def predicted(self, batch):
        seen = self.seen(torch.cat([batch[key] for key in self.reads], -1))  # [B, n_obs_steps, D]
        return self.net(seen.flatten(1)).unflatten(-1, (-1, self.action_dim))  # [B, chunk_size, D]

    def loss(self, batch, memory=None, step=0):
        errors = (self.predicted(batch) - self.done(batch["action"])).square().mean(-1)  # [B, chunk]
        real = ~batch["action_is_pad"]  # steps behind the end of an episode teach nothing
        return LossOutput((errors * real).sum() / real.sum())

    @torch.no_grad()
    def act(self, observation, memory=None):
        return {"action": self.done.inverse(self.predicted(observation))}, memory
