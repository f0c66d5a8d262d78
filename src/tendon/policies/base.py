"""What a policy is: a module with a loss, an action, and a declared window.

Legend of shapes: B batch, T time (the window), D features of a key.
The loop and the rollout know nothing else of a policy. Memory is passed, not kept: one module serves many episodes
at once, and a checkpoint of the loop can hold the carry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tendon.policies.windows import GOAL, Shape, Window

__all__ = ["AUGMENT_NOISE", "GOAL", "Batch", "LossOutput", "Memory", "Policy", "Shape", "Window"]

Batch = dict[str, Tensor]
Memory = Any  # a tree of tensors with a leading batch axis, or None

AUGMENT_NOISE = "draws"  # key in a batch: numbers in [0, 1) for random augmentation, [B, num_draws]


@dataclass(frozen=True)
class LossOutput:
    """What ``loss`` returns: the scalar to minimise, scalars for the log, and the carry of a recurrent policy.

    Metrics are detached tensors, not floats: reading a float waits for the device; the loop does so at log steps only.
    A policy with several objectives also returns them by name: training weighs them and minimises their sum instead.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    memory: Memory = None
    objectives: dict[str, Tensor] = field(default_factory=dict)


class Policy(nn.Module):
    """Base of every policy. Normalisers are sub-modules with buffers, so they travel with the weights."""

    window: Window
    num_draws = (
        0  # how many numbers of chance loss takes for each window; a batch without them is not changed at random
    )

    def frozen(self) -> tuple[str, ...]:
        """Names of modules that never learn, beside those of ``training.freeze``: no gradient, and evaluation mode always.

        So the statistics of a batch norm in them stay, and dropout in them does nothing.
        """
        return ()

    def loss(self, batch: Batch, memory: Memory = None) -> LossOutput:
        """Loss of a batch of raw (not normalised) windows: ``{key: [B, T, D]}`` and ``{key}_is_pad: [B, T]``.

        Where the window carries, ``first: [B]`` tells which rows begin an episode and forget; ``episode_index`` and
        ``frame_index`` say where they are.
        """
        raise NotImplementedError

    def start(self, *seeds: int) -> Memory:
        """The memory of ``len(seeds)`` fresh episodes; all chance in their actions comes from these seeds."""
        return None

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Tensor, Memory]:
        """Raw actions ``[B, num_actions, D]`` for raw observations ``{key: [B, T, D]}``, and the next memory."""
        raise NotImplementedError
