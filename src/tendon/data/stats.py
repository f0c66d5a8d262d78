"""Statistics of a dataset, for normalisers and for the report. float64 throughout.

Mean, std, min, max and count come from the index alone and merge exactly over any subset of episodes and over datasets.
Quantiles need the values: one bounded pass over the low-dimensional members of the split, exact up to QUANTILE_STEPS
steps, above that within half a bin of a histogram over the range that the index names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from tendon.data.check import TIMESTAMP, Facts, Finding, Ticks
from tendon.data.index import SUMS, IndexTable, sums_in_batches, sums_of
from tendon.data.manifest import digest_of
from tendon.data.rows import EpisodeRow, Rows
from tendon.data.tario import LOWDIM

if TYPE_CHECKING:
    from tendon.data.dataset import Dataset

QUANTILES = (0.01, 0.99)
STACKED_BYTES = 256 << 20  # sums kept side by side for quick questions; beyond it one feature after the other
QUANTILE_STEPS = 2_000_000  # more steps than this and a histogram stands for the values
QUANTILE_BINS = 1 << 14  # its bins, from the lowest to the highest value of a dimension


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
    """Statistics and findings of one split. ``quantiles``: "exact", or their largest error."""

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
    sums = subset_stats(dataset, rows)
    low_high, accuracy = _quantiles(dataset, rows, sums)
    features = {
        name: FeatureStats(
            each.count, *(_floats(v) for v in (each.mean, each.std, each.min, each.max, *low_high[name]))
        )
        for name, each in sums.items()
        if name not in dataset.manifest.schema.text_keys  # the mean of numbers of texts says nothing
    }
    findings = find_odd(dataset, rows)
    return DatasetStats(
        dataset.manifest.digest, split, len(rows), int(rows.lengths.sum()), accuracy, features, findings
    )


def subset_stats(dataset: Dataset, rows: Rows | Sequence[EpisodeRow]) -> dict[str, Stats]:
    """Sums of every feature over some episodes, from the index alone; all dimensions of all features at once."""
    features = dataset.manifest.schema.columns
    num = sum(feature.dim for feature in features) * len(SUMS) * 8 * dataset.manifest.episodes
    if num > STACKED_BYTES:
        return {feature.key: index_stats(dataset, rows, feature.key) for feature in features}
    if not dataset.stacked_sums:
        for kind in SUMS:
            columns = [sums_of(dataset.table, feature.key, kind) for feature in features]
            dataset.stacked_sums[kind] = np.concatenate(columns, 1)
    at = numbers_of(rows)
    counts = dataset.table.array("length")[at]
    sums, m2s, mins, maxs = (dataset.stacked_sums[kind][at] for kind in SUMS)
    whole = Stats.merged(counts, sums / counts[:, None], m2s, mins, maxs)
    stats, start = {}, 0
    for feature in features:
        part = slice(start, start + feature.dim)
        parts = (each[part] for each in (whole.mean, whole.m2, whole.min, whole.max))
        stats[feature.key] = Stats(whole.count, *parts)
        start += feature.dim
    return stats


def index_stats(dataset: Dataset, rows: Rows | Sequence[EpisodeRow], feature: str) -> Stats:
    """Sums of one feature over some episodes, from the index alone."""
    lengths = dataset.table.array("length")
    parts = [
        Stats.merged(lengths[chosen], sums / lengths[chosen, None], m2s, mins, maxs)
        for chosen, sums, m2s, mins, maxs in sums_in_batches(dataset.table, feature, numbers_of(rows))
    ]
    counts = np.array([each.count for each in parts])
    kinds = ("mean", "m2", "min", "max")
    return Stats.merged(counts, *(np.stack([getattr(each, kind) for each in parts]) for kind in kinds))


def merge_stats(parts: Sequence[DatasetStats]) -> DatasetStats:
    """Of several datasets together, every step counting once. Only features that all of them have.

    Everything but the quantiles is exact. A quantile of a union lies between the least and the greatest of its parts
    (give or take one rank); the mean of these, weighted by steps, is given.
    """
    shared = [name for name in parts[0].features if all(name in each.features for each in parts)]
    features = {}
    for name in shared:
        each = [part.features[name] for part in parts]
        counts = np.array([one.count for one in each])
        means, stds, mins, maxs, q01s, q99s = (
            np.array([getattr(one, key) for one in each]) for key in ("mean", "std", "min", "max", "q01", "q99")
        )
        whole = Stats.merged(counts, means, np.square(stds) * counts[:, None], mins, maxs)
        weights = counts[:, None] / counts.sum()
        values = (whole.mean, whole.std, whole.min, whole.max, (q01s * weights).sum(0), (q99s * weights).sum(0))
        features[name] = FeatureStats(whole.count, *map(_floats, values))
    return DatasetStats(
        dataset_digest=digest_of([each.dataset_digest for each in parts]),
        split="+".join(dict.fromkeys(each.split for each in parts)),
        episodes=sum(each.episodes for each in parts),
        steps=sum(each.steps for each in parts),
        quantiles=parts[0].quantiles if len(parts) == 1 else "between the least and the greatest of the parts",
        features=features,
        findings=tuple(finding for each in parts for finding in each.findings),
    )


def numbers_of(rows: Rows | Sequence[EpisodeRow]) -> np.ndarray:
    """Where rows stand in the index."""
    return rows.numbers if isinstance(rows, Rows) else np.array([row.index for row in rows], np.int64)


def _quantiles(dataset: Dataset, rows: Rows, sums: Mapping[str, Stats]) -> tuple[dict[str, np.ndarray], str]:
    steps = int(rows.lengths.sum())
    features = dataset.manifest.schema.columns
    if steps <= QUANTILE_STEPS:
        arrays = list(dataset.lowdims(rows))
        quantiles = {}
        for feature in features:
            values = np.concatenate([each[feature.key].reshape(len(each), feature.dim) for each in arrays])
            quantiles[feature.key] = np.quantile(values.astype(np.float64), QUANTILES, axis=0)
        return quantiles, "exact"
    histograms = {feature.key: Histogram.between(sums[feature.key]) for feature in features}
    for each in dataset.lowdims(_as_stored(dataset, rows)):
        for feature in features:
            histograms[feature.key].add(each[feature.key].reshape(len(each), feature.dim))
    accuracy = f"within 1/{2 * QUANTILE_BINS} of the range of each dimension"
    return {name: histogram.quantiles(QUANTILES) for name, histogram in histograms.items()}, accuracy


def _as_stored(dataset: Dataset, rows: Rows) -> Rows:
    """The rows in the order in which their bytes lie, so that neighbours are read together."""
    shard, offset = (dataset.table.array(key)[rows.numbers] for key in ("shard", f"{LOWDIM}/offset"))
    return Rows(dataset.table, rows.numbers[np.lexsort((offset, shard))])


@dataclass
class Histogram:
    """Counts of equal bins per dimension between known extremes: quantiles with a hard bound, in fixed memory."""

    low: np.ndarray
    width: np.ndarray  # of a bin; 1 where a dimension is constant
    counts: np.ndarray  # [D, QUANTILE_BINS]

    @classmethod
    def between(cls, sums: Stats) -> Histogram:
        """An empty one over the range of a feature."""
        width = (sums.max - sums.min) / QUANTILE_BINS
        return cls(sums.min, np.where(width > 0, width, 1.0), np.zeros((len(width), QUANTILE_BINS), np.int64))

    def add(self, values: np.ndarray) -> None:
        """Count ``values [N, D]``."""
        bins = np.clip(((values - self.low) / self.width).astype(np.int64), 0, QUANTILE_BINS - 1)
        bins += np.arange(len(self.low)) * QUANTILE_BINS
        self.counts += np.bincount(bins.reshape(-1), minlength=self.counts.size).reshape(self.counts.shape)

    def quantiles(self, levels: Sequence[float]) -> np.ndarray:
        """``[len(levels), D]``, as numpy would interpolate them, each value known to half a bin."""
        total = np.cumsum(self.counts, 1)
        values_at = np.empty((len(levels), len(self.low)))
        for d in range(len(self.low)):
            for k, level in enumerate(levels):
                rank = level * (total[d, -1] - 1)
                around = np.searchsorted(total[d], [np.floor(rank), np.ceil(rank)], "right")
                values = self.low[d] + (np.minimum(around, QUANTILE_BINS - 1) + 0.5) * self.width[d]
                values_at[k, d] = values[0] + (values[1] - values[0]) * (rank - np.floor(rank))
        constant = self.counts[:, 0] == total[:, -1]
        return np.where(constant, self.low, values_at)


def find_odd(dataset: Dataset, rows: Rows) -> tuple[Finding, ...]:
    """Findings of some episodes, from the index; timestamps are read where the index says that they are uneven."""
    at = rows.numbers
    schema, table = dataset.manifest.schema, dataset.table
    spans = {name: list(_spans(table, name, at)) for name in schema.dims}
    outside = np.zeros(len(at), np.int64)
    if "action" in spans:
        outside[np.argsort(at, kind="stable")] = np.concatenate([each[2] for each in spans["action"]])
    facts = Facts(
        tuple(rows.ids()),
        rows.lengths,
        _without_task(rows),
        _prints(dataset, table, at),
        outside,
        {name: np.min([low for low, _, _ in each], 0) for name, each in spans.items()},
        {name: np.max([high for _, high, _ in each], 0) for name, each in spans.items()},
        _ticks(dataset, rows, at) if TIMESTAMP in schema.dims else None,
    )
    splits = {split: dataset.episodes(split).ids() for split in ("train", "valid") if split in dataset.manifest.splits}
    return facts.findings(schema, splits)


def _spans(table: IndexTable, name: str, at: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Extremes of a feature, and per episode how many of its dimensions leave [-1, 1]; a part of the index at a time."""
    for _, low, high in sums_in_batches(table, name, at, ("min", "max")):
        yield low.min(0), high.max(0), ((low < -1) | (high > 1)).sum(1)


def _prints(dataset: Dataset, table: IndexTable, at: np.ndarray) -> np.ndarray:
    """Equal where the low-dimensional bytes are: checksums of the index, and sha256 of those whose checksums are equal."""
    size, crc = (table.column(f"{LOWDIM}/{key}").to_numpy()[at].astype(np.uint64) for key in ("size", "crc32c"))
    prints: np.ndarray = size << np.uint64(32) | crc
    _, which, counts = np.unique(prints, return_inverse=True, return_counts=True)
    for i in np.flatnonzero(counts[which] > 1).tolist():
        values = dataset.lowdim(Rows(dataset.table, at[i : i + 1])[0])
        prints[i] = int.from_bytes(hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()[:8], "little")
    return prints


def _without_task(rows: Rows) -> np.ndarray:
    """Which episodes have no task text."""
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(rows.column("task"))
    return np.asarray(pc.equal(trimmed, "").to_numpy(zero_copy_only=False))


def _ticks(dataset: Dataset, rows: Rows, at: np.ndarray) -> Ticks:
    """Even timestamps are known from their extremes and spread alone; the others are read."""
    low, high, m2 = (sums_of(dataset.table, TIMESTAMP, kind)[at, 0] for kind in ("min", "max", "m2"))
    num = rows.lengths.astype(np.float64)
    step = np.where(num > 1, (high - low) / np.maximum(num - 1, 1), 1 / dataset.manifest.schema.fps)
    even = np.abs(m2 - step**2 * num * (num**2 - 1) / 12) <= np.maximum(m2, 1e-12) * 0.2 / num
    ticks = Ticks(step, step.copy(), step.copy())
    odd = np.flatnonzero(~even | (step <= 0))
    read = Ticks.of(
        [each[TIMESTAMP] for each in dataset.lowdims(Rows(dataset.table, at[odd]))], dataset.manifest.schema.fps
    )
    for estimated, measured in (
        (ticks.mean_s, read.mean_s),
        (ticks.longest_s, read.longest_s),
        (ticks.shortest_s, read.shortest_s),
    ):
        estimated[odd] = measured
    return ticks


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(each) for each in values)
