"""What a policy is: a module with a loss, an action, and a declared window.

Legend of shapes: B batch, T time (the window), D features of a key.
The loop and the rollout know nothing else of a policy. Memory is passed, not kept: one module serves many episodes
at once, and a checkpoint of the loop can hold the carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tendon.config.schema import PolicyConfig, TrainingConfig
from tendon.data.features import Feature
from tendon.policies.processing.processing import AUGMENT_NOISE, Processing
from tendon.policies.windows import GOAL, Windows

__all__ = [
    "AUGMENT_NOISE",
    "GOAL",
    "Batch",
    "Feature",
    "LossOutput",
    "Memory",
    "ParameterGroup",
    "Policy",
    "Windows",
    "under",
]

Batch = dict[str, Tensor]
Memory = Any  # a tree of tensors with a leading batch axis, or None


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


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that learn at a rate or a decay of their own: those whose names are, or begin with, one of ``names``."""

    names: tuple[str, ...]
    lr_scale: float = 1.0  # what the schedule's rate is multiplied with
    weight_decay: float | None = None  # None: as training.weight_decay


class Policy(nn.Module):
    """Base of every policy. What it reads, writes and looks at is what its configuration declares of the features.

    Normalisers and the processing are sub-modules with buffers, so they travel with the weights. Below ``loss``, ``start``
    and ``act`` stand the hooks; each does nothing, or what is usual, until it is written anew.
    """

    traceable = False  # whether the loss asks for no value of a tensor, so that its memory can be known without any
    num_draws = (
        0  # how many numbers of chance loss takes for each window; a batch without them is not changed at random
    )

    def __init__(self, config: PolicyConfig, features: Mapping[str, Feature]) -> None:
        """``features``: of the dataset, those that the configuration names; with the kinds and sizes that it has."""
        super().__init__()
        self.config = config
        self.features = dict(features)
        self.reads = config.reads(features)
        self.writes = config.writes(features)
        self.windows: Windows = config.windows(features)
        self.processing: Processing | None = None
        self.measured = True  # whether somebody reads the metrics of this loss; costly ones may be left out where not

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """Loss of a batch of raw (not normalised) windows: ``{key: [B, T, D]}`` and ``{key}_is_pad: [B, T]``.

        Where the windows are stateful, ``first: [B]`` tells which rows begin an episode and forget; ``episode_index`` and
        ``frame_index`` say where they are. ``step``: the number of updates before this one.
        """
        raise NotImplementedError

    def start(self, *seeds: int) -> Memory:
        """The memory of ``len(seeds)`` fresh episodes; all chance in their actions comes from these seeds."""
        return None

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """Raw actions ``{key: [B, chunk, D]}`` of all ``writes`` for raw observations ``{key: [B, T, ...]}``, and the next memory."""
        raise NotImplementedError

    def set_texts(self, texts: Sequence[str]) -> None:
        """The table that indices of texts in a batch point into; called before training and when a policy is loaded."""
        if self.processing is not None:
            self.processing.set_texts(texts)

    # ------------------------------------------------------------------------------------------------------------ hooks

    def frozen(self) -> tuple[str, ...]:
        """Names of modules that never learn, beside those of ``training.freeze``: no gradient, and evaluation mode always.

        So the statistics of a batch norm in them stay, and dropout in them does nothing.
        """
        return ()

    def phase(self, step: int) -> tuple[str, ...] | None:
        """Names, or beginnings of names, of the parameters that learn in update ``step``; None: all that are not frozen.

        The others keep their values and the optimiser's moments. A function of ``step`` alone, so that resuming is exact.
        """
        return None

    def schedule_step(self, step: int) -> int | None:
        """The step of the learning rate's schedule that update ``step`` takes; None: the full rate, ``training.lr``."""
        return step

    def after_update(self, step: int) -> None:
        """Behind the optimiser in update ``step``, without gradients: target networks, code books."""

    def parameter_groups(self, training: TrainingConfig) -> tuple[ParameterGroup, ...]:
        """Parts that learn at a rate or decay of their own; of two groups with one parameter the first counts."""
        return ()

    def shard_units(self) -> Sequence[nn.Module]:
        """Modules that several processes share out one by one (``training.sharding=fsdp``): each block of a list of blocks."""
        return [block for module in self.modules() if isinstance(module, nn.ModuleList) for block in module]

    def checkpointed_units(self) -> Sequence[nn.Module]:
        """Modules whose activations are computed again in the backward pass instead of being kept: less memory, more time."""
        return ()

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint holds: all of ``state_dict``, but for what ``base_weights`` of the configuration name and does not learn."""
        prefixes = tuple(self.base_prefixes)
        state: dict[str, Tensor] = self.state_dict()
        if not prefixes:
            return state
        still = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        for name, module in self.named_modules():  # buffers move with the parameters beside them
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                still |= {f"{name}.{inner}" for inner, _ in module.named_buffers()}
        return {name: value for name, value in state.items() if not (name in still and under(name, prefixes))}

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Before the first update of a run that begins: what is fitted to data, from batches without end; into buffers."""

    def base_tensor(self, name: str) -> str:
        """Our name, inside its module, of a tensor of base weights as they are published; empty: nothing needs it."""
        return name

    def describe(self) -> str:
        """What a run should say of its parts before it begins; empty: nothing."""
        return ""

    base_prefixes: tuple[str, ...] = ()  # modules filled from base weights; set by make_policy


def under(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a name is, or lies below, one of the others."""
    return any(name == prefix or name.startswith(f"{prefix.rstrip('.')}.") for prefix in prefixes)
