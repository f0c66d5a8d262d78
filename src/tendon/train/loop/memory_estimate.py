"""Memory of one process in training, activations included, before anything is allocated: updates on tensors without values.

The policy is built and trained for two updates on fake tensors, which know their shapes only; what would be alive is added up
as it comes and goes. So gradient checkpointing, adapters, frozen parts and precision all count as they will. Not in it: what a
GPU's own context takes, and gaps between blocks of memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tendon.config.schema import TrainConfig
from tendon.data.features import Feature
from tendon.policies.base import AUGMENT_NOISE, Batch, Policy
from tendon.policies.processing.processing import batch_shape
from tendon.policies.registry import make_policy
from tendon.train.loop.optimizer import freeze, make_optimizer, recompute, training_mode

GIB = 1 << 30
LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
UPDATES = 2  # the optimiser's moments are there from the second on


@dataclass(frozen=True)
class MemoryParts:
    """Bytes of one process at the fullest moment of an update."""

    frozen: int  # weights that do not learn
    learning: int  # weights that do, in full precision
    gradients: int
    moments: int
    passing: int  # activations, copies in low precision, what an operation needs for a moment

    @property
    def total(self) -> int:
        """All of it."""
        return self.frozen + self.learning + self.gradients + self.moments + self.passing

    def describe(self) -> str:
        """A line for each part."""
        rows = {
            "weights that do not learn": self.frozen,
            "weights that learn": self.learning,
            "their gradients": self.gradients,
            "their moments": self.moments,
            "activations and the like": self.passing,
            "together": self.total,
        }
        return "\n".join(f"{what:<26} {value / GIB:>8.2f} GiB" for what, value in rows.items())


def estimate_memory(config: TrainConfig, features: Mapping[str, Feature]) -> MemoryParts:
    """Of a process that trains its share of a batch; sharding is not counted.

    Example: ``estimate_memory(compose(["policy=pi0", "policy.lora_rank=16", ...]), features).total``.
    """
    training = config.training
    size = max(1, training.batch_size // training.num_gpus // training.gradient_accumulation_steps)
    policy = _built(config, features)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.random.fork_rng(devices=[]):
        _without_values(policy)
        optimizer = make_optimizer(training, policy)
        batch = _batch(policy, size)
        held = _bytes_of(policy.parameters()) + _bytes_of(policy.buffers())
        learning = [one for one in policy.parameters() if one.requires_grad]
        low = LOW.get(training.precision)
        with Living() as living:
            for step in range(UPDATES):
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast("cpu", low) if low else nullcontext():
                    loss = policy.loss(batch, None, step).loss
                loss.backward()  # type: ignore[no-untyped-call]
                if training.grad_clip_norm > 0:
                    nn.utils.clip_grad_norm_(learning, training.grad_clip_norm)
                del loss
                optimizer.step()
    size_learning = _bytes_of(learning)
    moments = 2 * size_learning
    passing = held + living.peak - (held + size_learning + moments)
    return MemoryParts(held - size_learning, size_learning, size_learning, moments, max(0, passing))


class Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of tensors that operations make, until nobody holds them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """An operation: what it returns lives from now on."""
        output = func(*args, **(kwargs or {}))
        given = {id(one.untyped_storage()) for one in _tensors((args, kwargs))}
        for tensor in _tensors(output):
            storage = tensor.untyped_storage()
            if id(storage) not in self._known and id(storage) not in given:
                self._begin(storage)
        self.peak = max(self.peak, self.now)
        return output

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._known.clear()

    def _begin(self, storage: Any) -> None:
        number, size = id(storage), storage.nbytes()
        self.now += size

        def end(_: Any) -> None:
            if self._known.pop(number, None) is not None:
                self.now -= size

        self._known[number] = weakref.ref(storage, end)


def _built(config: TrainConfig, features: Mapping[str, Feature]) -> Policy:
    """The policy as training has it, base weights in their precision."""
    section: Any = config.policy
    low = getattr(section, "base_dtype", "") if getattr(section, "base_model_path", "") else ""
    if low or getattr(section, "base_model_path", ""):
        section = replace(section, base_model_path="", base_sha256="", base_revision="", base_dtype="")
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        policy = make_policy(section, features)
    freeze(policy, config.training.freeze)
    freeze(policy, policy.frozen(), where=f"policy={section.name}")
    training_mode(policy)
    recompute(policy.checkpointed_units())
    if low:
        for parameter in policy.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(getattr(torch, low))
    return policy


def _without_values(policy: Policy) -> None:
    """Inside of a fake mode: parameters and buffers of the CPU, of which only the shape is there."""
    for module in policy.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _batch(policy: Policy, size: int) -> Batch:
    """Zeros, as many as a batch has."""
    batch: Batch = {}
    for key, span in policy.windows.training.items():
        feature, steps = policy.features[key], len(span.deltas)
        dtype = torch.uint8 if feature.kind == "image" else torch.int64 if feature.is_integer else torch.float32
        batch[key] = torch.zeros(size, steps, *batch_shape(feature), dtype=dtype)
        batch[f"{key}_is_pad"] = torch.zeros(size, steps, dtype=torch.bool)
    if policy.num_draws:
        batch[AUGMENT_NOISE] = torch.zeros(size, policy.num_draws)
    return batch


def _bytes_of(tensors: Any) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


def _tensors(tree: Any) -> list[Tensor]:
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
