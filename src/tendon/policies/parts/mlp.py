"""The trunk of low-dimensional policies: Linear and ReLU for each width, the last one included (robomimic's MLP)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

NUMERICS = 1


def make_mlp(input_dim: int, hidden_dims: Sequence[int]) -> nn.Sequential:
    """``[B, input_dim]`` to ``[B, hidden_dims[-1]]``; weights start as torch's own Linear does."""
    layers: list[nn.Module] = []
    for width in hidden_dims:
        layers += [nn.Linear(input_dim, width), nn.ReLU()]
        input_dim = width
    return nn.Sequential(*layers)
