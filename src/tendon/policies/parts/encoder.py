"""Observations of any kind to one vector per time step: numbers as they are, cameras and scans through their cores.

Keys are joined in the sorted order of their bare names, goals behind them, as robomimic joins them. Cameras change at
random when the batch has ``AUGMENT_NOISE``: so many numbers per window as ``num_draws`` says, which training draws.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tendon.config.schema import Normalization
from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.policies.base import AUGMENT_NOISE, GOAL, Batch
from tendon.policies.parts.augment import Augmentation, augmented
from tendon.policies.parts.normalize import Normalizer
from tendon.policies.parts.vision import ScanCore, VisionOptions, VisualCore
from tendon.policies.windows import bare, in_order

NUMERICS = 1

PLAIN = Augmentation()


class ObservationEncoder(nn.Module):
    """A batch of observations to ``[B, T, output_dim]``."""

    def __init__(
        self,
        features: Mapping[str, Feature],
        options: VisionOptions,
        normalization: Normalization,
        stats: Mapping[str, FeatureStats] | None,
        *,
        augmentation: Augmentation = PLAIN,
        num_times: int = 1,
        activate: bool = True,
    ) -> None:
        """``num_times``: of a training window; ``activate``: ReLU behind cameras and scans, as robomimic but in transformers."""
        super().__init__()
        self.augmentation = augmentation
        self.features = dict(features)
        self.draws: dict[str, slice] = {}  # each camera's, among the numbers of a window
        self.num_draws = 0
        self.keys = in_order(list(features))
        self.activate = activate
        self.dims = {key: features[key].dim for key in self.keys if features[key].kind not in ("image", "depth")}
        known = None if stats is None else {key: stats[key.removeprefix(GOAL)] for key in self.dims}
        self.normalize = Normalizer(normalization, self.dims, known)
        self.cores = nn.ModuleDict()
        self.output_dim = sum(self.dims.values())
        for key in self.keys:
            if key not in self.dims:
                is_camera = features[key].kind == "image"
                core = self._camera(key, options, num_times) if is_camera else ScanCore(features[key].shape)
                self.cores[member(key)] = core
                self.output_dim += core.output_dim

    def _camera(self, key: str, options: VisionOptions, num_times: int) -> VisualCore:
        height, width, channels = self.features[key].shape
        count = self.augmentation.num_draws(1 if key.startswith(GOAL) else num_times)
        self.draws[key] = slice(self.num_draws, self.num_draws + count)
        self.num_draws += count
        return VisualCore((channels, *self.augmentation.size(height, width)), options)

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
                parts[key] = _repeated(self._encoded(key, batch[key], batch.get(AUGMENT_NOISE)), num_times)
        return torch.cat([parts[key] for key in self.keys], dim=-1)

    def _encoded(self, key: str, values: Tensor, draws_BN: Tensor | None) -> Tensor:
        B, T = values.shape[:2]
        if key in self.draws:
            self._check_size(key, values)
            values = augmented(values, self.augmentation, None if draws_BN is None else draws_BN[:, self.draws[key]])
        features = self.cores[member(key)](values.flatten(0, 1))
        if self.activate:
            features = features.relu()
        result: Tensor = features.view(B, T, -1)
        return result

    def _check_size(self, key: str, images: Tensor) -> None:
        """Another size would fit no layer, or crop another part."""
        expected = self.features[key].shape[:2]
        height, width = images.shape[2:4] if images.dtype == torch.uint8 else images.shape[3:5]
        if not self.augmentation.resize and (height, width) != expected:
            raise ConfigError(
                f"{bare(key)} is {height} x {width}, the policy was made for {expected[0]} x {expected[1]}",
                where=f"policy input {key}",
                why="the camera gives images of another size than the demonstrations",
                fix=f"env.options.image_size={expected[0]}, or train with policy.resize=[{expected[0]},{expected[1]}]",
            )


def member(key: str) -> str:
    """A module's name may have no dots."""
    return key.replace(".", "-")


def _repeated(values: Tensor, num_times: int) -> Tensor:
    return values if values.shape[1] == num_times else values.expand(-1, num_times, *values.shape[2:])
