"""Adapters in weights: are there any, and what the layers are with them added. Called by build, export and the formats."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tendon.policies.parts.lora import BASE_LAYER, NAME, Lora, add_lora, without_adapters

__all__ = [
    "BASE_LAYER",
    "NAME",
    "Lora",
    "add_lora",
    "has_adapters",
    "merge_tolerance",
    "merged_state",
    "without_adapters",
]


def has_adapters(module: nn.Module) -> bool:
    """Whether any layer is wrapped."""
    return any("lora_" in name for name, _ in module.named_parameters())


def merge_tolerance(module: nn.Module) -> float:
    """How far actions may be apart once ``merged_state`` has added adapters to layers: it rounds, more so in low precision."""
    if not has_adapters(module):
        return 0.0
    low = any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in module.parameters())
    return 5e-2 if low else 1e-4


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """``state_dict`` with the adapters added to the layers beside which they learnt, under those layers' plain names."""
    state: dict[str, Tensor] = module.state_dict()
    for name, part in module.named_modules():
        if hasattr(part, "get_delta_weight") and hasattr(part, "get_base_layer"):
            weight = part.get_base_layer().weight
            with torch.no_grad():
                delta = part.get_delta_weight(NAME)
            state[f"{name}{BASE_LAYER}.weight"] = (weight.detach().float() + delta.float()).to(weight.dtype)
    return {name.replace(BASE_LAYER, ""): value for name, value in state.items() if "lora_" not in name}
