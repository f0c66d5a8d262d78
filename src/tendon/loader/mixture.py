"""Several datasets in one stream: the dataset at each position, and the position within that dataset's own stream.

A fixed pattern of 4096 positions repeats, so any 4096 positions in a row hold exactly the counts nearest to the weights,
wherever they begin. Weights are therefore rounded to 1/4096. Pure; O(1) from any position.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tendon.errors import ConfigError
from tendon.loader.order import keyed_order

PERIOD = 4096


class DatasetMixture:
    """The pattern of a list of weights."""

    def __init__(self, weights: Sequence[float], seed: int, *, stratified: bool = False) -> None:
        """Make the pattern.

        Args:
            weights: one per dataset, in any unit.
            seed: of the order inside the pattern.
            stratified: spread every dataset evenly, so that each batch has nearly the same counts.

        Raises:
            ConfigError: a weight is negative, not finite, or too small to be seen in 4096 samples.
        """
        self.counts = counts_of(weights)
        datasets = np.repeat(np.arange(len(self.counts)), self.counts)
        if stratified:
            nth = np.concatenate([np.arange(count) for count in self.counts])
            order = np.argsort((nth + 0.5) / self.counts[datasets], kind="stable")
            self._pattern = datasets[order]
        else:
            self._pattern = datasets[keyed_order(PERIOD, seed, 4096)]  # 4096 is a salt here: never change it
        # how many samples of the same dataset come before each position of the pattern
        self._before = np.zeros(PERIOD, np.int64)
        for dataset in range(len(self.counts)):
            at = np.flatnonzero(self._pattern == dataset)
            self._before[at] = np.arange(len(at))

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The dataset of every position, and the position in that dataset's own stream."""
        periods, inside = np.divmod(positions, PERIOD)
        datasets = self._pattern[inside]
        return datasets, periods * self.counts[datasets] + self._before[inside]


def counts_of(weights: Sequence[float]) -> np.ndarray:
    """How many of 4096 samples come from each dataset, by the method of largest remainders."""
    shares = np.asarray(weights, np.float64)
    if not len(shares) or not np.isfinite(shares).all() or (shares < 0).any() or not shares.sum():
        raise ConfigError(
            "the weights of a mixture are not usable",
            where="mixture weights",
            why=f"they are {list(map(float, shares))}",
            fix="give each dataset a positive number",
        )
    exact = shares / shares.sum() * PERIOD
    counts = np.floor(exact).astype(np.int64)
    missing = PERIOD - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:missing]] += 1
    lost = [i for i, count in enumerate(counts) if shares[i] and not count]
    if lost:
        raise ConfigError(
            f"dataset {lost[0]} of a mixture would never be seen",
            where="mixture weights",
            why=f"its share is {exact[lost[0]] / PERIOD:.2g}, less than 1 in {PERIOD} samples",
            fix="raise its weight, or leave it out",
        )
    return np.asarray(counts)


def tempered(sizes: Sequence[float], temperature: float) -> list[float]:
    """Weights from sizes (episodes, steps or windows): 1 keeps them, larger values even them out."""
    return [float(size) ** (1 / temperature) for size in sizes]
