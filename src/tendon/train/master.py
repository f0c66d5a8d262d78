"""Weights that learn in bfloat16 (``training.master_weights=bf16``): half the memory for them, their gradients and moments.

Matrices only; vectors (norms, biases) are small and stay in float32. Changes below 1/256 of a weight are rounded away.
What is judged or exported acts in float32, with the values that the rounded weights have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


def lower(policy: nn.Module) -> None:
    """Round the matrices that learn; a recurrent layer is taken whole or not at all, and is not."""
    recurrent = {
        id(parameter)
        for module in policy.modules()
        if isinstance(module, nn.RNNBase)
        for parameter in module.parameters()
    }
    for parameter in policy.parameters():
        if (
            parameter.requires_grad
            and parameter.ndim >= 2
            and parameter.dtype == torch.float32
            and id(parameter) not in recurrent
        ):
            parameter.data = parameter.data.bfloat16()


@contextmanager
def raised(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside, the rounded weights are float32; afterwards they are what they were."""
    rounded = [(parameter, parameter.data) for parameter in parameters if parameter.dtype == torch.bfloat16]
    for parameter, data in rounded:
        parameter.data = data.float()
    try:
        yield
    finally:
        for parameter, data in rounded:
            parameter.data = data
