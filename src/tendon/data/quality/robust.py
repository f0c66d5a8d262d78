"""What is usual among episodes, by medians: a tenth of them may be faulty without moving it."""

from __future__ import annotations

import numpy as np

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 32
TINY = 1e-9


def center_and_spread(values: np.ndarray, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Median, and the deviation that a normal distribution of that median deviation would have."""
    center = np.median(values, axis, keepdims=True)
    spread = 1.4826 * np.median(np.abs(values - center), axis, keepdims=True)
    return center, spread


def far_above(values: np.ndarray, least: float, spreads: float) -> np.ndarray:
    """Which values lie above the usual one by ``least`` and by so many usual deviations."""
    center, spread = center_and_spread(values)
    return np.asarray(values > center + np.maximum(least, spreads * spread))


def sparkline(values: np.ndarray) -> str:
    """A series as one line of text; of many steps the largest of neighbours is shown."""
    values = np.nan_to_num(np.asarray(values, np.float64))
    parts = np.array_split(values, min(COLUMNS, len(values)))
    heights = np.array([part.max() for part in parts])
    low, high = heights.min(), heights.max()
    scaled = (heights - low) / (high - low) if high > low else np.zeros(len(heights))
    return "".join(BARS[round(7 * each)] for each in scaled.tolist())


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """``[begin, end)`` of every stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def longest_run(flags: np.ndarray) -> tuple[int, int]:
    """The longest of ``runs``; (0, 0) where there is none."""
    return max(runs(flags), key=lambda run: run[1] - run[0], default=(0, 0))


def best_stretch(values: np.ndarray) -> tuple[int, int]:
    """``[begin, end)`` of the stretch whose sum is greatest; (0, 0) where no sum is above zero."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    end = int((sums - np.minimum.accumulate(sums)).argmax())
    return int(sums[: end + 1].argmin()) if end else 0, end
