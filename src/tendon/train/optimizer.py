"""The optimiser that a configuration names, in its fastest form on the device. Called by the loop."""

from __future__ import annotations

import torch
from torch import nn

from tendon.config.schema import TrainingConfig

OPTIMIZERS: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def make_optimizer(training: TrainingConfig, policy: nn.Module) -> torch.optim.Optimizer:
    """Adam (weight decay added to the gradient) or AdamW (decoupled) over every learnable parameter, as robomimic."""
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return OPTIMIZERS[training.optimizer](parameters, lr=training.lr, weight_decay=training.weight_decay, fused=fused)
