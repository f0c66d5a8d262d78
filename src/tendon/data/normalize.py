"""Normalisation in plain numpy: what the torch modules are tested against, and what tools without torch use.

Every mode is an affine map: normalised = (raw - offset) / scale.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tendon.data.stats import FeatureStats

Mode = Literal["mean_std", "min_max", "identity"]

MIN_STD = 1e-3  # a smaller std is noise around a constant, which must not be blown up
MIN_SPAN = 1e-4  # a dimension that spans less is centred, not stretched


def affine(stats: FeatureStats, mode: Mode) -> tuple[np.ndarray, np.ndarray]:
    """Offset and scale ``[D]`` in float64. ``mean_std``: mean 0, std 1; ``min_max``: onto [-1, 1]."""
    low, high = np.array(stats.min), np.array(stats.max)
    if mode == "mean_std":
        return np.array(stats.mean), np.maximum(np.array(stats.std), MIN_STD)
    if mode == "min_max":
        return (low + high) / 2, np.where(high - low < MIN_SPAN, 1.0, (high - low) / 2)
    return np.zeros_like(low), np.ones_like(low)


def normalize(raw: np.ndarray, stats: FeatureStats, mode: Mode) -> np.ndarray:
    """Raw values ``[..., D]`` to normalised ones, float64."""
    offset, scale = affine(stats, mode)
    return np.asarray((raw - offset) / scale)


def denormalize(normalized: np.ndarray, stats: FeatureStats, mode: Mode) -> np.ndarray:
    """The inverse of ``normalize``."""
    offset, scale = affine(stats, mode)
    return np.asarray(normalized * scale + offset)
