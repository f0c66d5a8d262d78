"""What learns, how fast, and by which optimiser: frozen parts, parameter groups, Adam or AdamW in its fastest form.

Called by the engine once. A name that fits no parameter is an error, never a key without effect.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tendon.config.schema import TrainingConfig
from tendon.errors import ConfigError
from tendon.policies.base import ParameterGroup, Policy, under

LAZY = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
Named = list[tuple[str, nn.Parameter]]


def _without_compiler(of: type[torch.optim.Adam]) -> type[torch.optim.Adam]:
    """The same optimiser whose methods do not load ``torch._dynamo``, which takes as long as torch itself.

    torch wraps these methods so that its compiler leaves them out; nobody compiles an optimiser here.
    """
    bare_step = inspect.unwrap(of.step)

    def step(self: Any, closure: Callable[[], float] | None = None) -> Any:
        with torch.no_grad():
            return bare_step(self, closure)

    methods = {name: inspect.unwrap(getattr(of, name)) for name in LAZY}
    return type(of.__name__, (of,), {"step": step, **methods})


OPTIMIZERS = {"adam": _without_compiler(torch.optim.Adam), "adamw": _without_compiler(torch.optim.AdamW)}


def freeze(policy: nn.Module, prefixes: Sequence[str], where: str = "training.freeze") -> None:
    """Switch learning off for every parameter whose name is, or begins with, one of ``prefixes``."""
    for prefix in prefixes:
        found = [parameter for name, parameter in policy.named_parameters() if under(name, (prefix,))]
        if not found:
            raise _no_such(where, prefix, policy)
        for parameter in found:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in policy.parameters()):
        raise ConfigError(
            "nothing is left to learn",
            where=where,
            why=f"{', '.join(prefixes)} is every parameter of the policy",
            fix="name fewer parts",
        )


def training_mode(policy: nn.Module) -> None:
    """Training mode, but for modules of which nothing learns: those act as they will, and their buffers stay."""
    policy.train()
    for module in policy.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def recompute(units: Sequence[nn.Module]) -> None:
    """Keep no activations of these modules: the backward pass computes them again, with the same random numbers.

    Those that do not learn too: a gradient that passes through them to others needs as many.
    """
    for unit in units:
        unit.forward = partial(_checkpointed, unit, unit.forward)  # type: ignore[method-assign]


def _checkpointed(unit: nn.Module, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)


def make_optimizer(training: TrainingConfig, policy: nn.Module) -> torch.optim.Optimizer:
    """Adam (weight decay added to the gradient) or AdamW (decoupled); with one rate and one decay, one group."""
    named = [(name, parameter) for name, parameter in policy.named_parameters() if parameter.requires_grad]
    fused = all(parameter.device.type in ("cpu", "cuda") for _, parameter in named)
    b1, b2 = training.adam_betas
    return OPTIMIZERS[training.optimizer](
        parameter_groups(training, named, policy),
        lr=training.lr,
        betas=(b1, b2),
        eps=training.adam_eps,
        weight_decay=training.weight_decay,
        fused=fused,
    )


def parameter_groups(training: TrainingConfig, named: Named, policy: nn.Module) -> list[dict[str, object]]:
    """Groups for the optimiser; ``lr_scale`` is what the schedule's rate is multiplied with."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    found_backbone = False
    parts = policy.parameter_groups(training) if isinstance(policy, Policy) else ()
    _check_groups(parts, policy)
    for name, parameter in named:
        scale, part = 1.0, next((part for part in parts if under(name, part.names)), None)
        if part is not None:
            decay = training.weight_decay if part.weight_decay is None else part.weight_decay
            groups.setdefault((part.lr_scale, decay), []).append(parameter)
            continue
        if training.lr_backbone is not None and "backbone" in name.split("."):
            scale, found_backbone = training.lr_backbone / training.lr, True
        decays = training.decay_norms_and_biases or parameter.ndim >= 2
        groups.setdefault((scale, training.weight_decay if decays else 0.0), []).append(parameter)
    if training.lr_backbone is not None and not found_backbone:
        raise _no_such("training.lr_backbone", "backbone", policy)
    return [{"params": params, "lr_scale": s, "weight_decay": decay} for (s, decay), params in groups.items()]


def _check_groups(parts: Sequence[ParameterGroup], policy: nn.Module) -> None:
    names = [name for name, _ in policy.named_parameters()]
    for part in parts:
        for prefix in part.names:
            if not any(under(name, (prefix,)) for name in names):
                raise _no_such("parameter_groups of the policy", prefix, policy)


def _no_such(key: str, name: str, policy: nn.Module) -> ConfigError:
    parts = ", ".join(child for child, module in policy.named_children() if next(module.parameters(), None) is not None)
    return ConfigError(
        f"the policy has no learning parameter under {name}",
        where=key,
        why=f"its parts are {parts}",
        fix=f"name one of them in {key}, or leave {key} out",
    )
