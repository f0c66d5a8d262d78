"""Normalisers: affine maps from raw feature values to what a net likes, and back.

Their numbers are buffers and travel with the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tendon.config.schema import Normalization
from tendon.data.normalize import affine
from tendon.data.stats import FeatureStats

NUMERICS = 1


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
            parts = [affine(stats[key], mode) for key in dims]
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
