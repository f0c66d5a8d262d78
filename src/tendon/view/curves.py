"""Arrays over the steps of an episode as the lines of a plot: few enough points, few enough digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 1200  # of a line: more than a screen has columns
MOST_DIMS = 64  # of a feature
DIGITS = 5


def stride_of(length: int) -> int:
    """Every so many steps a point."""
    return max(1, math.ceil(length / MOST_POINTS))


def lines(key: str, values: NDArray[Any], names: Sequence[str] = ()) -> dict[str, Any]:
    """One feature ``[T, ...]`` for the page: a line per dimension, None where a value is no number."""
    rows = np.asarray(values, np.float64).reshape(len(values), -1)[:: stride_of(len(values)), :MOST_DIMS]
    return {"key": key, "names": list(names), "values": [[_short(value) for value in column] for column in rows.T]}


def _short(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
