"""Normalisers: affine maps from raw feature values to what a net likes, and back.

Their numbers are buffers and travel with the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tendon.config.schema import Normalization

MIN_STD = 1e-3  # a smaller std (a constant dimension with float noise) would blow noise up; robomimic adds as much
MIN_SPAN = 1e-4  # a dimension that spans less is only centred


class FeatureStats(Protocol):
    """The numbers of one feature that a normaliser needs, each ``[D]``."""

    @property
    def mean(self) -> Sequence[float] | np.ndarray: ...  # noqa: D102
    @property
    def std(self) -> Sequence[float] | np.ndarray: ...  # noqa: D102
    @property
    def min(self) -> Sequence[float] | np.ndarray: ...  # noqa: D102
    @property
    def max(self) -> Sequence[float] | np.ndarray: ...  # noqa: D102


class Normalizer(nn.Module):
    """Raw to normalised ``[..., D]`` and back; several features in a row make one normaliser."""

    offset: Tensor
    scale: Tensor

    def __init__(self, mode: Normalization, dims: Mapping[str, int], stats: Mapping[str, FeatureStats] | None) -> None:
        """``dims``: the concatenated features, in order; without ``stats`` the numbers must come from a checkpoint."""
        super().__init__()
        self.mode = mode
        if mode == "identity":
            return
        num_dims = sum(dims.values())
        offset, scale = np.zeros(num_dims), np.ones(num_dims)
        if stats is not None:
            parts = [affine(mode, stats[key]) for key in dims]
            offset = np.concatenate([part[0] for part in parts])
            scale = np.concatenate([part[1] for part in parts])
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, raw: Tensor) -> Tensor:
        """Raw to normalised."""
        return raw if self.mode == "identity" else (raw - self.offset) / self.scale

    def inverse(self, normalized: Tensor) -> Tensor:
        """Normalised to raw."""
        return normalized if self.mode == "identity" else normalized * self.scale + self.offset


def affine(mode: Normalization, stats: FeatureStats) -> tuple[np.ndarray, np.ndarray]:
    """Offset and scale ``[D]`` in float64 such that normalised = (raw - offset) / scale.

    ``mean_std``: mean 0, std 1, the std at least MIN_STD. ``min_max``: [-1, 1]; a dimension that spans less than
    MIN_SPAN is centred only.
    """
    if mode == "mean_std":
        return np.asarray(stats.mean, np.float64), np.maximum(np.asarray(stats.std, np.float64), MIN_STD)
    low, high = np.asarray(stats.min, np.float64), np.asarray(stats.max, np.float64)
    if mode == "min_max":
        return (low + high) / 2, np.where(high - low < MIN_SPAN, 1.0, (high - low) / 2)
    return np.zeros_like(low), np.ones_like(low)
