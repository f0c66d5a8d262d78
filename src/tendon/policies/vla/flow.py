"""Policies that turn noise into actions along a learnt velocity: what pi0 and GR00T share of a batch.

Legend: B batch, T chunk, A width of the joined action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tendon.policies.base import Batch, LossOutput, Memory
from tendon.policies.parts.noise import draw_normal, start_noise
from tendon.policies.processing.actions import WIDTH_MASK
from tendon.policies.vla.config import ACTIONS, FlowConfig
from tendon.policies.vla.model import Seen, VlaPolicy

NUMERICS = 1


class FlowPolicy(VlaPolicy):
    """Chance in training comes from torch's global generator, in acting from the episode's seed."""

    config: FlowConfig
    traceable = True

    def errors(self, seen: Seen, actions_BTA: Tensor) -> Tensor:
        """Of each number ``[B, T, A]``, at a time and with noise that are drawn here."""
        raise NotImplementedError

    def sample(self, seen: Seen, noise_BTA: Tensor) -> Tensor:
        """A chunk ``[B, T, A]`` from noise."""
        raise NotImplementedError

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """Mean error of real numbers; steps behind the end of an episode count unless they are masked."""
        seen = self.processing(batch)
        with self.precision():
            errors_BTA = self.errors(self.seen(seen), seen[ACTIONS])
        mask_BTA = seen[ACTIONS + WIDTH_MASK].to(errors_BTA.dtype)
        if self.config.mask_padded_steps:
            mask_BTA = mask_BTA * ~batch[f"{self.writes[0]}_is_pad"][..., None]
        return LossOutput((errors_BTA * mask_BTA).sum() / mask_BTA.sum().clamp(min=1))

    def start(self, *seeds: int) -> Memory:
        """The noise of each episode."""
        return start_noise(*seeds)

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """A chunk from now on."""
        seen = self.processing(observation, "acting")
        B, device = len(seen[self.reads[0]]), self.processing.numbers_device()
        shape = (self.config.chunk_size, self.config.max_action_dim)
        drawn, memory = draw_normal(start_noise(*[0] * B) if memory is None else memory, shape[0] * shape[1])
        with self.precision():
            actions_BTA = self.sample(self.seen(seen), drawn.view(B, *shape).to(device))
        return self.processing.inverse({ACTIONS: actions_BTA.float()}, seen), memory
