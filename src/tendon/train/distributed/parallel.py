"""A policy's loss over several processes: DDP (everyone holds the weights) or FSDP2 (everyone holds a part of them).

``Loss`` is the module that is wrapped, since both watch a module's forward. Called by the engine; weights leave and
enter as whole tensors, so a checkpoint does not know how many processes made it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tendon.config.schema import TrainingConfig
from tendon.policies.base import Batch, LossOutput, Memory, Policy
from tendon.train.distributed.ranks import World
from tendon.weights.load import load_learnt


class Loss(nn.Module):
    """The policy's loss as a forward."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: Batch, memory: Memory, step: int) -> LossOutput:
        """``policy.loss``."""
        return self.policy.loss(batch, memory, step)

    def act(self, observation: Batch, memory: Memory) -> tuple[Batch, Memory]:
        """``policy.act``."""
        return self.policy.act(observation, memory)


class Parallel:
    """The loss as all processes compute it together; alone it is the loss itself."""

    def __init__(self, training: TrainingConfig, policy: Policy, device: torch.device, world: World) -> None:
        self.world = world
        self.loss: nn.Module = Loss(policy)  # in this process: validation
        if world.is_many and training.sharding == "fsdp":
            _shard(self.loss, training, world)  # type: ignore[arg-type]
        if training.compile:
            self.loss.compile()
        self.forward: nn.Module = self.loss  # with gradients summed over all: training
        if world.is_many and training.sharding == "ddp":
            ids = [device] if device.type == "cuda" else None
            self.forward = DistributedDataParallel(
                self.loss,
                device_ids=ids,
                gradient_as_bucket_view=True,
                find_unused_parameters=policy.phase(0) is not None,  # a phase's loss may pass over what does not learn
            )

    def gradients_stay_here(self, yes: bool) -> AbstractContextManager[Any]:
        """Inside, gradients of a part of the batch add up in this process only."""
        if yes and isinstance(self.forward, DistributedDataParallel):
            return self.forward.no_sync()
        if self.world.is_many and hasattr(self.loss, "set_requires_gradient_sync"):
            self.loss.set_requires_gradient_sync(not yes)  # type: ignore[operator]
        return nullcontext()


def _shard(loss: Loss, training: TrainingConfig, world: World) -> None:
    """FSDP2: each of the policy's units on its own, then the rest together."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    low = torch.bfloat16 if training.precision == "bf16" else None
    mixed = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for unit in loss.policy.shard_units():
        fully_shard(unit, mp_policy=mixed)
    fully_shard(loss, mp_policy=mixed)
    register_fsdp_forward_method(loss, "act")


def full_tensor(tensor: Tensor) -> Tensor:
    """The tensor whose part is held here; every process must ask."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def as_local(saved: Tensor, held: Tensor) -> Tensor:
    """The part of a saved tensor that belongs where ``held`` is."""
    if _is_sharded(held):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(saved.to(held.device), held.device_mesh, held.placements)  # type: ignore[attr-defined]
    return saved


def _is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor. Their module takes a third of all imports, and whoever shards has loaded it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def load_weights(policy: Policy, saved: Mapping[str, Tensor]) -> None:
    """Whole tensors into a policy that may be sharded."""
    held = policy.state_dict()
    tensors = {name: as_local(tensor, held[name]) if name in held else tensor for name, tensor in saved.items()}
    load_learnt(policy, tensors)
