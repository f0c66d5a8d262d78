"""Low-rank adapters by peft: a few small matrices that learn beside layers that do not. Called in a policy's ``__init__``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from tendon.errors import ConfigError, MissingDependency

NAME = "lora"


@dataclass(frozen=True)
class Lora:
    """What peft is told; ``targets``: names, or ends of names, of linear layers."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: Sequence[str] = ("q_proj", "v_proj")


def add_lora(module: nn.Module, lora: Lora) -> None:
    """Wrap the target layers of ``module`` in place: from now on their adapters learn, and nothing else of it does.

    Raises:
        MissingDependency: peft is not installed.
        ConfigError: no layer has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingDependency(
            "LoRA needs peft",
            where="the policy",
            why="the package is not installed",
            fix="pip install 'tendon[lora]'",
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
