"""Statistics of a dataset: what normalisers need and what the report shows. float64 throughout.

Mean, std, min, max and count come from the index alone and merge exactly over any subset of episodes. Quantiles need
the values: one pass over the low-dimensional members of the split, exact up to QUANTILE_STEPS steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from tendon.data.check import TIMESTAMP, Facts, Finding, Ticks
from tendon.data.index import sums_of
from tendon.data.tario import LOWDIM

if TYPE_CHECKING:
    from tendon.data.dataset import Dataset, EpisodeRow

QUANTILES = (0.01, 0.99)
QUANTILE_STEPS = 2_000_000  # more steps than this and every k-th episode stands for the rest


@dataclass(frozen=True)
class FeatureStats:
    """Numbers of one feature, one per dimension; ``std`` is the population's."""

    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]


@dataclass(frozen=True)
class DatasetStats:
    """Statistics of one split, and what is odd about it. ``quantiles``: "exact", or of how many of the episodes."""

    dataset_digest: str
    split: str
    episodes: int
    steps: int
    quantiles: str
    features: Mapping[str, FeatureStats]
    findings: tuple[Finding, ...]

    def to_json(self) -> str:
        """The text of stats.json."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> DatasetStats:
        """The statistics in the text of stats.json."""
        values = json.loads(text)
        features = {
            name: FeatureStats(one["count"], *(tuple(one[key]) for key in ("mean", "std", "min", "max", "q01", "q99")))
            for name, one in values["features"].items()
        }
        return cls(**values | {"features": features, "findings": tuple(Finding(**each) for each in values["findings"])})


@dataclass(frozen=True)
class Stats:
    """Sums of one feature over some steps: ``count``, and per dimension mean, squared deviations, extremes."""

    count: int
    mean: np.ndarray
    m2: np.ndarray
    min: np.ndarray
    max: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Stats:
        """The sums of ``values [N, D]``."""
        values = np.asarray(values, np.float64)
        mean = values.mean(0)
        return cls(len(values), mean, np.square(values - mean).sum(0), values.min(0), values.max(0))

    @classmethod
    def merged(
        cls, counts: np.ndarray, means: np.ndarray, m2s: np.ndarray, mins: np.ndarray, maxs: np.ndarray
    ) -> Stats:
        """Of many parts at once: ``counts [P]``, the others ``[P, D]``."""
        total = int(counts.sum())
        weights = counts[:, None] / total
        mean = (means * weights).sum(0)
        m2 = (m2s + counts[:, None] * np.square(means - mean)).sum(0)
        return cls(total, mean, m2, mins.min(0), maxs.max(0))

    def merge(self, other: Stats) -> Stats:
        """Of both together."""
        pairs = [(getattr(self, key), getattr(other, key)) for key in ("mean", "m2", "min", "max")]
        return Stats.merged(np.array([self.count, other.count]), *(np.stack(pair) for pair in pairs))

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation."""
        return np.asarray(np.sqrt(self.m2 / self.count))


def compute_stats(dataset: Dataset, split: str = "train", skip_episodes: Sequence[str] = ()) -> DatasetStats:
    """Statistics and findings of a split.

    Raises:
        ConfigError: there is no such split.
        DataError: the index or a shard is damaged.
    """
    rows = dataset.episodes(split, skip_episodes)
    sums = {feature.name: index_stats(dataset, rows, feature.name) for feature in dataset.manifest.schema.features}
    low_high, told = _quantiles(dataset, rows)
    features = {
        name: FeatureStats(
            each.count, *(_floats(v) for v in (each.mean, each.std, each.min, each.max, *low_high[name]))
        )
        for name, each in sums.items()
    }
    steps = sum(row.length for row in rows)
    findings = find_odd(dataset, rows)
    return DatasetStats(dataset.manifest.digest, split, len(rows), steps, told, features, findings)


def index_stats(dataset: Dataset, rows: Sequence[EpisodeRow], feature: str) -> Stats:
    """Sums of one feature over some episodes, from the index alone."""
    at = np.array([row.index for row in rows])
    counts = dataset.table.column(f"{feature}/count").to_numpy()[at]
    sums, m2s, mins, maxs = (sums_of(dataset.table, feature, kind)[at] for kind in ("sum", "m2", "min", "max"))
    return Stats.merged(counts, sums / counts[:, None], m2s, mins, maxs)


def _quantiles(dataset: Dataset, rows: Sequence[EpisodeRow]) -> tuple[dict[str, np.ndarray], str]:
    steps = sum(row.length for row in rows)
    stride = -(-steps // QUANTILE_STEPS)
    chosen = rows[::stride]
    arrays = list(dataset.lowdims(chosen))
    found = {}
    for feature in dataset.manifest.schema.features:
        values = np.concatenate([each[feature.name].reshape(len(each), feature.dim) for each in arrays])
        found[feature.name] = np.quantile(values.astype(np.float64), QUANTILES, axis=0)
    return found, "exact" if stride == 1 else f"of {len(chosen)} of {len(rows)} episodes"


def find_odd(dataset: Dataset, rows: Sequence[EpisodeRow]) -> tuple[Finding, ...]:
    """Findings of some episodes, from the index; timestamps are read where the index says that they are uneven."""
    at = np.array([row.index for row in rows])
    schema, table = dataset.manifest.schema, dataset.table
    lows, highs = ({name: sums_of(table, name, kind)[at] for name in schema.dims} for kind in ("min", "max"))
    size, crc = (table.column(f"{LOWDIM}/{key}").to_numpy()[at].astype(np.uint64) for key in ("size", "crc32c"))
    outside = np.zeros(len(at), np.int64)
    if "action" in lows:
        outside = ((lows["action"] < -1) | (highs["action"] > 1)).sum(1)
    facts = Facts(
        tuple(row.episode_id for row in rows),
        np.array([row.length for row in rows]),
        np.array([not row.task.strip() for row in rows]),
        size << np.uint64(32) | crc,
        outside,
        {name: each.min(0) for name, each in lows.items()},
        {name: each.max(0) for name, each in highs.items()},
        _ticks(dataset, rows, at) if TIMESTAMP in schema.dims else None,
    )
    splits = {
        split: [row.episode_id for row in dataset.rows if split in row.splits] for split in dataset.manifest.splits
    }
    return facts.findings(schema.fps, splits)


def _ticks(dataset: Dataset, rows: Sequence[EpisodeRow], at: np.ndarray) -> Ticks:
    """Even timestamps are known from their extremes and spread alone; the others are read."""
    low, high, m2 = (sums_of(dataset.table, TIMESTAMP, kind)[at, 0] for kind in ("min", "max", "m2"))
    num = np.array([row.length for row in rows], np.float64)
    step = np.where(num > 1, (high - low) / np.maximum(num - 1, 1), 1 / dataset.manifest.schema.fps)
    even = np.abs(m2 - step**2 * num * (num**2 - 1) / 12) <= np.maximum(m2, 1e-12) * 0.2 / num
    ticks = Ticks(step, step.copy(), step.copy())
    odd = np.flatnonzero(~even | (step <= 0))
    read = Ticks.of(
        [each[TIMESTAMP] for each in dataset.lowdims([rows[i] for i in odd])], dataset.manifest.schema.fps
    )
    for own, real in ((ticks.mean_s, read.mean_s), (ticks.longest_s, read.longest_s), (ticks.shortest_s, read.shortest_s)):
        own[odd] = real
    return ticks


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(each) for each in values)
