"""Observations of any kind to one vector per time step: numbers as they are, cameras and scans through their cores.

Keys are joined in the sorted order of their bare names, goals behind them, as robomimic joins them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tendon.config.schema import Normalization
from tendon.data.stats import FeatureStats
from tendon.policies.base import Batch, Shape
from tendon.policies.parts.normalize import Normalizer
from tendon.policies.parts.vision import ScanCore, VisionOptions, VisualCore

OBSERVATION, IMAGES, GOAL = "observation.", "observation.images.", "goal."


def bare(key: str) -> str:
    """The name the simulator has for a feature."""
    return key.removeprefix(GOAL).removeprefix(IMAGES).removeprefix(OBSERVATION)


def in_order(keys: Sequence[str]) -> tuple[str, ...]:
    """Observations by bare name, then goals by bare name."""
    return tuple(sorted(keys, key=lambda key: (key.startswith(GOAL), bare(key))))


class ObservationEncoder(nn.Module):
    """A batch of observations to ``[B, T, output_dim]``."""

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        options: VisionOptions,
        normalization: Normalization,
        stats: Mapping[str, FeatureStats] | None,
        *,
        activate: bool = True,
    ) -> None:
        """``activate``: a ReLU behind each camera and scan, which robomimic has in all policies but transformers."""
        super().__init__()
        self.keys = in_order(list(shapes))
        self.activate = activate
        self.dims = {key: shape for key in self.keys if isinstance(shape := shapes[key], int)}
        known = None if stats is None else {key: stats[key.removeprefix(GOAL)] for key in self.dims}
        self.normalize = Normalizer(normalization, self.dims, known)
        self.cores = nn.ModuleDict()
        self.output_dim = sum(self.dims.values())
        for key in self.keys:
            shape = shapes[key]
            if isinstance(shape, tuple):
                core = VisualCore(shape, options) if len(shape) == 3 else ScanCore(shape)
                self.cores[member(key)] = core
                self.output_dim += core.output_dim

    def forward(self, batch: Batch) -> Tensor:
        """Goals may have one time step where observations have more: they are repeated."""
        num_times = max(batch[key].shape[1] for key in self.keys)
        parts = {}
        if self.dims:
            raw_BTD = torch.cat([_repeated(batch[key], num_times) for key in self.dims], dim=-1)
            numbers_BTD: Tensor = self.normalize(raw_BTD)
            if not self.cores:
                return numbers_BTD
            parts = dict(zip(self.dims, torch.split(numbers_BTD, list(self.dims.values()), -1), strict=True))
        for key in self.keys:
            if key not in parts:
                parts[key] = _repeated(self._encoded(key, batch[key]), num_times)
        return torch.cat([parts[key] for key in self.keys], dim=-1)

    def _encoded(self, key: str, values: Tensor) -> Tensor:
        B, T = values.shape[:2]
        features = self.cores[member(key)](as_planes(values.flatten(0, 1)))
        if self.activate:
            features = features.relu()
        result: Tensor = features.view(B, T, -1)
        return result


def member(key: str) -> str:
    """A module's name may have no dots."""
    return key.replace(".", "-")


def as_planes(values: Tensor) -> Tensor:
    """Bytes ``[N, H, W, C]`` become floats ``[N, C, H, W]`` in [0, 1]; floats are that already."""
    return values.permute(0, 3, 1, 2).float() / 255 if values.dtype == torch.uint8 else values


def _repeated(values: Tensor, num_times: int) -> Tensor:
    return values if values.shape[1] == num_times else values.expand(-1, num_times, *values.shape[2:])
