"""Low-rank adapters by peft: a few small matrices that learn beside layers that do not. Called in a policy's ``__init__``.

What weights with adapters become when they are merged stands in ``tendon.weights.lora``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import nn

from tendon.errors import ConfigError, MissingDependency

NUMERICS = 1

NAME = "lora"
BASE_LAYER = ".base_layer"  # what peft puts into the name of a layer that it wraps
_ADDED: ContextVar[bool] = ContextVar("adapters are added", default=True)


@dataclass(frozen=True)
class Lora:
    """What peft is told; ``targets``: names, or ends of names, of linear layers."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: Sequence[str] = ("q_proj", "v_proj")


def add_lora(module: nn.Module, lora: Lora) -> None:
    """Wrap the target layers of ``module`` in place: from now on their adapters learn, and nothing else of it does.

    The module may be on the meta device; its adapters are made on the CPU, from torch's global generator.

    Raises:
        MissingDependency: peft is not installed.
        ConfigError: no layer has such a name.

    Example: ``add_lora(self.base, Lora(rank=16, targets=("q_proj", "v_proj")))``.
    """
    if not _ADDED.get():
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingDependency(
            "LoRA needs peft",
            where="the policy",
            why=f"the package is not installed ({error})",
            fix="pip install 'tendon-robotics[lora]'",
        ) from None
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets)
    )
    try:
        inject_adapter_in_model(config, module, adapter_name=NAME)
    except ValueError as error:
        linear = [name.rpartition(".")[2] for name, part in module.named_modules() if isinstance(part, nn.Linear)]
        raise ConfigError(
            f"no layer is called {', '.join(lora.targets)}",
            where="the policy's LoRA targets",
            why=str(error).splitlines()[0],
            fix=f"there are {', '.join(sorted(set(linear)))}",
        ) from None
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("lora_" in name)
    _materialise(module)


def _materialise(module: nn.Module) -> None:
    """Adapters of layers that are on the meta device got no values there: those that peft gives, A random and B zero."""
    for owner_name, owner in module.named_modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if not (parameter.is_meta and parameter.requires_grad):
                continue
            values = torch.zeros(parameter.shape)
            if "lora_A" in owner_name:
                nn.init.kaiming_uniform_(values, a=math.sqrt(5))
            setattr(owner, name, nn.Parameter(values))


def wrapped_layers(module: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers that would get an adapter."""
    return [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and any(f".{name}".endswith(f".{target}") for target in targets)
    ]


@contextmanager
def without_adapters() -> Iterator[None]:
    """Inside, policies are built with plain layers: for weights into which the adapters are merged. Needs no peft."""
    token = _ADDED.set(False)
    try:
        yield
    finally:
        _ADDED.reset(token)
