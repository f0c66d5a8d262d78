"""Normalisation per feature: mean_std, min_max, q99, scale, binary, identity, and imagenet for cameras.

Every mode but ``binary`` is affine: ``(raw - shift) / scale + bias``, and back ``(value - bias) * back_scale + back_shift``.
The numbers come from statistics in float64 and are kept as float32. Projects differ where a dimension hardly moves:

========  =============================  ===================================  =========
rules     a spread (std, max - min, ..)  that is nothing                      q99
========  =============================  ===================================  =========
tendon    at least 1e-3, spans 1e-4      is centred, not stretched            as it is
lerobot   std + 1e-8                     spans become 1e-8                    as it is
openpi    std + 1e-6, spans + 1e-6       as the others                        as it is
groot     as it is                       min_max, scale: 0; others: unchanged  clipped
========  =============================  ===================================  =========
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from tendon.data.features import Feature
from tendon.data.normalize import MIN_SPAN, MIN_STD
from tendon.data.stats import FeatureStats
from tendon.policies.processing.transform import Features, Numbers, Phase, Stats, Transform, misfit, needed

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = 1

Mode = Literal["mean_std", "min_max", "q99", "scale", "binary", "identity", "imagenet"]
Rules = Literal["tendon", "lerobot", "groot", "openpi"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
STATISTICS: Mapping[str, tuple[str, ...]] = {
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "q99": ("q01", "q99"),
    "scale": ("min", "max"),
}
ROWS = ("shift", "scale", "bias", "back_shift", "back_scale")
BINARY_EDGE = 0.5
LEROBOT_EPS, OPENPI_EPS = 1e-8, 1e-6
CAMERA_AXES = 5


@dataclass(frozen=True, kw_only=True)
class Normalize(Transform):
    """A mode for each feature.

    Example:
        ``Normalize(modes={"observation.state": "mean_std", "action": "q99"}, rules="groot")``
    """

    kind: ClassVar[str] = "normalize"

    modes: Mapping[str, Mode]
    rules: Rules = "tendon"
    statistics: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)  # instead of the dataset's

    def after(self, features: Features) -> Features:
        """The same; a camera must be floats for ``imagenet``, an index cannot be scaled."""
        for key, mode in self.modes.items():
            feature = needed(features, key, self.kind)
            if mode not in get_args(Mode):
                raise misfit(self.kind, key, f"there is no mode {mode}", f"choose of {', '.join(get_args(Mode))}")
            if feature.kind == "image" and mode != "identity" and feature.dtype == "uint8":
                raise misfit(self.kind, key, "its images are bytes", "put to_float in front of it")
            if mode == "imagenet" and (feature.kind != "image" or feature.shape[-1] != len(IMAGENET[0])):
                raise misfit(self.kind, key, "imagenet is for cameras of three channels", "choose another mode")
            if feature.is_integer and mode not in ("binary", "identity"):
                raise misfit(self.kind, key, f"a {feature.kind} is a number of a list, not a quantity", "mode identity")
        return features

    def numbers(self, features: Features, stats: Stats | None) -> Numbers:
        """``[5, D]`` for each feature that is scaled: the rows ``ROWS``."""
        made = {}
        for key, mode in self.modes.items():
            if mode in ("binary", "identity"):
                continue
            width = _width(features[key])
            own = mode == "imagenet" or set(STATISTICS[mode]) <= set(self.statistics.get(key, {}))
            if stats is None and not own:
                made[key] = np.zeros((len(ROWS), width), np.float32)
                continue
            made[key] = affine(mode, self.rules, self._statistics(key, mode, width, stats or {})).astype(np.float32)
        return made

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """Raw to normalised."""
        return {key: self._forward(batch[key], key, numbers) for key in self.modes if key in batch}

    def inverse(
        self, actions: Mapping[str, Tensor], numbers: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Normalised to raw."""
        return {key: self._inverse(actions[key], key, numbers) for key in self.modes if key in actions}

    def _forward(self, raw: Tensor, key: str, numbers: Mapping[str, Tensor]) -> Tensor:
        mode = self.modes[key]
        if mode == "identity":
            return raw
        if mode == "binary":
            return (raw > BINARY_EDGE).to(raw.dtype)
        shift, scale, bias, _, _ = _rows(numbers[key], raw)
        value = (raw - shift) / scale + bias
        return value.clamp(-1, 1) if mode == "q99" and self.rules == "groot" else value

    def _inverse(self, value: Tensor, key: str, numbers: Mapping[str, Tensor]) -> Tensor:
        mode = self.modes[key]
        if mode == "identity":
            return value
        if mode == "binary":
            return (value > BINARY_EDGE).to(value.dtype)
        _, _, bias, back_shift, back_scale = _rows(numbers[key], value)
        return (value - bias) * back_scale + back_shift

    def _statistics(self, key: str, mode: Mode, width: int, stats: Stats) -> tuple[np.ndarray, np.ndarray]:
        """The two statistics of a mode; those of ``statistics`` first."""
        if mode == "imagenet":
            return np.array(IMAGENET[0]), np.array(IMAGENET[1])
        found = []
        for name in STATISTICS[mode]:
            values = self.statistics.get(key, {}).get(name)
            if values is None and key in stats:
                values = getattr(stats[key], name)
            if values is None or not np.isfinite(values).all():
                why = (
                    f"{mode} needs {name}, which {'these statistics do not have' if values is None else 'is not known'}"
                )
                raise misfit(
                    self.kind, key, why, f"give it in statistics={{{key}: {{{name}: [...]}}}}, or another mode"
                )
            if len(values) != width:
                why = f"it has {width} numbers, {name} of the statistics {len(values)}"
                raise misfit(self.kind, key, why, "use the statistics of this dataset")
            found.append(np.array(values, np.float64))
        return found[0], found[1]


def affine(mode: Mode, rules: Rules, statistics: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """``[5, D]`` in float64: the rows ``ROWS`` of a mode, from mean and std or from the two ends of a span."""
    first, second = statistics
    zeros = np.zeros_like(first)
    if mode in ("mean_std", "imagenet"):
        return _spread(first, second, "groot" if mode == "imagenet" else rules)  # as they are
    if mode == "scale":
        reach = np.maximum(np.abs(first), np.abs(second))
        idle = reach == 0 if rules != "tendon" else reach < MIN_SPAN
        scale = np.where(idle, 1.0 if rules == "tendon" else np.inf, reach)
        return np.stack([zeros, scale, zeros, zeros, np.where(np.isinf(scale), 0.0, scale)])
    low, span, minus = first, second - first, zeros - 1
    if rules == "tendon":
        half = np.where(span < MIN_SPAN, 1.0, span / 2)
        middle = (first + second) / 2
        return np.stack([middle, half, zeros, middle, half])
    if rules == "groot":
        return _span_of_groot(mode, low, span)
    half = (span + OPENPI_EPS if rules == "openpi" else np.where(span == 0, LEROBOT_EPS, span)) / 2
    return np.stack([low, half, minus, low, half])


def _spread(mean: np.ndarray, std: np.ndarray, rules: Rules) -> np.ndarray:
    zeros = np.zeros_like(mean)
    if rules == "groot":
        idle = std == 0
        return np.stack([np.where(idle, 0.0, mean), np.where(idle, 1.0, std), zeros, mean, std])
    if rules == "lerobot":
        return np.stack([mean, std + LEROBOT_EPS, zeros, mean, std])
    scale = std + OPENPI_EPS if rules == "openpi" else np.maximum(std, MIN_STD)
    return np.stack([mean, scale, zeros, mean, scale])


def _span_of_groot(mode: Mode, low: np.ndarray, span: np.ndarray) -> np.ndarray:
    """A dimension that does not move: 0 with min_max, unchanged with q99; back, its one value with both."""
    idle = span == 0
    half, bias = np.where(idle, 1.0, span / 2), np.where(idle, 0.0, -1.0)
    scale = np.where(idle, np.inf, half) if mode == "min_max" else half
    shift = low if mode == "min_max" else np.where(idle, 0.0, low)
    return np.stack([shift, scale, bias, low, span / 2])


def _rows(numbers: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    """One number for each channel of a camera ``[B, T, C, H, W]``, for each dimension of all else."""
    rows = numbers[:, :, None, None] if values.dim() == CAMERA_AXES else numbers
    return tuple(rows.unbind(0))


def _width(feature: Feature) -> int:
    return feature.shape[-1] if feature.kind == "image" else feature.dim


def bounds(feature: Feature, low: float, high: float) -> FeatureStats:
    """Statistics of values of which only their ends are known: what is not known is no number."""
    lows, highs, unknown = ((value,) * feature.dim for value in (low, high, float("nan")))
    return FeatureStats(0, unknown, unknown, lows, highs, lows, highs)
