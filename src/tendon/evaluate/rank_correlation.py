"""Spearman's rank correlation with an interval and a permutation test, for a handful of policies. Pure; the same numbers each time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tendon.evaluate.confidence import Interval

FEWEST = 4  # points; of fewer no order is unusual
EXACT = 7  # points up to which all orders are counted
PERMUTATIONS = 10_000
RESAMPLES = 1_000
FEWEST_GROUPS = 5  # of which a bootstrap over groups says anything

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RankCorrelation:
    """``rho`` from -1 to 1; None where there are too few points, or one of the two never changes."""

    rho: float | None
    interval_95: Interval
    p: float  # two-sided: as far from 0 by chance
    points: int
    groups: int

    def __str__(self) -> str:
        if self.rho is None:
            return f"no rank correlation of {self.points} points"
        low, high = self.interval_95
        return f"rank correlation {self.rho:+.2f} (95% {low:+.2f} to {high:+.2f}, p {self.p:.2g}, {self.points} points)"


def rank_correlation(
    first: Sequence[float], second: Sequence[float], groups: Sequence[Hashable] = ()
) -> RankCorrelation:
    """Spearman's rho of two lists; points of one group (checkpoints of a trial) are drawn, and left out, together.

    The interval is a bootstrap over groups where there are five or more, else over points. The test permutes whole groups
    against each other where there are five or more of one size, else points, so within few groups it is optimistic.

    Example:
        >>> rank_correlation([1, 2, 3, 4, 5], [10, 8, 7, 3, 1]).rho
        -1.0
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    labels = list(groups) or list(range(len(x)))
    members = [np.array([k for k, label in enumerate(labels) if label == one]) for one in dict.fromkeys(labels)]
    rho = float(_rhos(x, y)) if len(x) >= FEWEST else math.nan
    if math.isnan(rho):
        return RankCorrelation(None, Interval(-1.0, 1.0), 1.0, len(x), len(members))
    blocks = members if len(members) >= FEWEST_GROUPS else [np.array([k]) for k in range(len(x))]
    return RankCorrelation(rho, _interval(x, y, blocks), _p(x, y, rho, blocks), len(x), len(members))


def ranks(values_RN: Floats) -> Floats:
    """From 1 on, in the last axis; equal values share the mean of their ranks."""
    below = (values_RN[..., :, None] > values_RN[..., None, :]).sum(-1)
    equal = (values_RN[..., :, None] == values_RN[..., None, :]).sum(-1)
    shared: Floats = below + (equal + 1) / 2
    return shared


def _centred(values_RN: Floats) -> Floats:
    found = ranks(values_RN)
    centred: Floats = found - found.mean(-1, keepdims=True)
    return centred


def _rhos(x_RN: Floats, y_RN: Floats) -> Floats:
    """Of each row; NaN where one of the two never changes."""
    a, b = _centred(x_RN), _centred(y_RN)
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    rhos: Floats = np.where(size > 0, (a * b).sum(-1) / np.where(size > 0, size, 1), np.nan)
    return rhos


def _interval(x: Floats, y: Floats, blocks: Sequence[NDArray[np.intp]]) -> Interval:
    rng = np.random.default_rng(len(x))
    found: list[float] = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([blocks[k] for k in rng.integers(0, len(blocks), len(blocks))])
        found.append(float(_rhos(x[drawn], y[drawn])))
    usable = [rho for rho in found if not math.isnan(rho)]
    if len(usable) < RESAMPLES / 2:
        return Interval(-1.0, 1.0)
    low, high = np.quantile(usable, [0.025, 0.975])
    return Interval(float(low), float(high))


def _p(x: Floats, y: Floats, rho: float, blocks: Sequence[NDArray[np.intp]]) -> float:
    if len({len(block) for block in blocks}) > 1:  # groups of several sizes cannot change places
        blocks = [np.array([k]) for k in range(len(x))]
    index, size = np.stack(blocks), len(blocks)
    a, b = _centred(x), _centred(y)
    bar = abs(rho) * math.sqrt(float(a @ a) * float(b @ b)) * (1 - 1e-9)
    if size <= EXACT:
        orders = np.array(list(itertools.permutations(range(size))))
    else:
        orders = np.random.default_rng(size).permuted(np.tile(np.arange(size), (PERMUTATIONS, 1)), axis=1)
    placed = b[index[orders].reshape(len(orders), -1)]
    far = int((np.abs(placed @ a[index.flatten()]) >= bar).sum())
    return far / len(orders) if size <= EXACT else (far + 1) / (PERMUTATIONS + 1)
