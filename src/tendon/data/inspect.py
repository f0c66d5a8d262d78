"""Describes a dataset or a source as values: schema, sizes, splits, distributions, findings.

``inspect_uri`` looks at a committed dataset (index, and a bounded number of its steps) or at anything that a source
reads (every low-dimensional value). inspect_text draws it in a terminal, the report draws it as a page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tendon.data.check import Facts, Finding, checked_read
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.episode import Episode, Schema
from tendon.data.features import Feature
from tendon.data.manifest import KEY
from tendon.data.quality import Trajectory, find_faults, trajectory_of
from tendon.data.sources.first_look import described
from tendon.data.sources.source import Source, open_source
from tendon.data.stats import find_odd
from tendon.data.video import decoded_frames
from tendon.errors import Problem
from tendon.storage import open_store
from tendon.storage.uri import local_path, scheme_of

SAMPLED_STEPS = 200_000  # whose values are drawn
COMPARED_VALUES = 100_000_000  # of states and actions that are compared between episodes; more episodes are not
BINS = 24
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class FeatureView:
    """One feature: per dimension ``[D]`` extremes and mean, and ``counts [D, BINS]`` from the lowest to the highest."""

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class TextCount:
    """A text: in how many episodes it is the task, and at how many of the steps looked at a column points at it."""

    text: str
    episodes: int
    steps: int


@dataclass(frozen=True)
class Inspection:
    """Everything that is shown."""

    uri: str
    facts: tuple[tuple[str, str], ...]  # name and value, in the order to be read
    features: tuple[FeatureView, ...]
    cameras: tuple[str, ...]
    masks: tuple[str, ...]
    texts: tuple[TextCount, ...]
    splits: tuple[tuple[str, int, int], ...]  # name, episodes, steps
    lengths: np.ndarray
    findings: tuple[Finding, ...]
    problems: tuple[Problem, ...]


def inspect_uri(
    uri: str, format: str | None = None, progress: Progress | None = None, *, images: bool = False
) -> Inspection:
    """Look at a dataset (a prefix with manifest.json) or a source; of this with ``images`` at its cameras too.

    Raises:
        DataError: nothing readable is there.
    """
    if format is None and _is_dataset(uri):
        return inspect_dataset(open_dataset(uri))
    return inspect_source(open_source(uri, format), progress, images=images)


def inspect_dataset(dataset: Dataset) -> Inspection:
    """From the index, and the values of some of the episodes."""
    manifest, rows = dataset.manifest, dataset.rows
    lengths = rows.lengths
    chosen = rows[:: max(1, -(-int(lengths.sum()) // SAMPLED_STEPS))]
    values = list(dataset.lowdims(chosen))
    size = sum(shard.bytes for shard in manifest.shards)
    facts = (
        ("dataset", manifest.name),
        ("digest", manifest.digest[:16]),
        ("episodes", f"{manifest.episodes:,}"),
        ("steps", f"{manifest.steps:,}"),
        ("size", f"{size / 1e6:,.1f} MB in {len(manifest.shards)} shards"),
        ("rate", f"{manifest.schema.fps:g} steps per second"),
        ("source", ", ".join(f"{each.uri} ({each.format}, {each.sha256[:16]})" for each in manifest.sources)),
        *((f"left out: {name}", why) for name, why in manifest.left_out.items()),
    )
    splits = tuple((name, each.episodes, each.steps) for name, each in manifest.splits.items())
    features = _views(manifest.schema, {name: [each[name] for each in values] for name in manifest.schema.dims})
    frames = _cameras(manifest.schema), _masks(manifest.schema)
    tasks = rows.column("task").to_pylist()
    texts = _texts(manifest.schema, tasks, {key: [each[key] for each in values] for key in manifest.schema.text_keys})
    return Inspection(dataset.uri, facts, features, *frames, texts, splits, lengths, find_odd(dataset, rows), ())


def inspect_source(source: Source, progress: Progress | None = None, *, images: bool = False) -> Inspection:
    """From every low-dimensional value of it; with ``images`` also from every frame of its cameras, decoded."""
    info = described(source)
    parts: list[Facts] = []
    problems: list[Problem] = []
    kept: list[Mapping[str, np.ndarray]] = []
    tasks: list[str] = []
    compared: list[Trajectory] = []
    steps = values = 0
    for done, each in enumerate(info.episodes, 1):
        problems += each.problems
        if not each.problems:
            episode, found = checked_read(source, each.episode_id, info.schema)
            problems += found
        if not each.problems and episode is not None:
            tasks.append(episode.task)
            parts.append(Facts.of([episode], info.schema.fps))
            if not found and values < COMPARED_VALUES:
                compared.append(_trajectory(source, episode, info.schema, images))
                values += compared[-1].state.size + compared[-1].action.size
            if steps < SAMPLED_STEPS:
                kept.append(episode.features)
                steps += episode.length
        if progress is not None:
            progress(done, len(info.episodes), "episodes read")
    length_of = {each.episode_id: each.length for each in info.episodes}
    splits = tuple((name, len(ids), sum(length_of[i] for i in ids)) for name, ids in sorted(info.splits.items()))
    facts = (
        ("source", f"{info.format}, not converted yet"),
        ("digest", info.digest[:16]),
        ("episodes", f"{len(info.episodes):,}"),
        ("steps", f"{sum(length_of.values()):,}"),
        ("size", f"{info.num_bytes / 1e6:,.1f} MB"),
        ("rate", f"{info.schema.fps:g} steps per second"),
        *((f"left out: {name}", why) for name, why in info.left_out.items()),
    )
    findings = Facts.merged(parts).findings(info.schema, info.splits) if parts else ()
    findings += tuple(find_faults(compared))
    features = _views(info.schema, {name: [each[name] for each in kept] for name in info.schema.dims})
    lengths = np.array(list(length_of.values()))
    frames = _cameras(info.schema), _masks(info.schema)
    texts = _texts(info.schema, tasks, {key: [each[key] for each in kept] for key in info.schema.text_keys})
    return Inspection(info.uri, facts, features, *frames, texts, splits, lengths, findings, tuple(problems))


def _trajectory(source: Source, episode: Episode, schema: Schema, images: bool) -> Trajectory:
    frames: dict[str, np.ndarray] = {}
    if images and schema.cameras:
        stored = source.read(episode.episode_id).images
        frames = {each.name: decoded_frames(stored[each.name], each) for each in schema.cameras if each.kind == "image"}
    return trajectory_of(episode.episode_id, episode.task, episode.features, schema, frames)


def _is_dataset(uri: str) -> bool:
    if scheme_of(uri) != "s3" and not local_path(uri).is_dir():
        return False
    return open_store(uri).head(KEY) is not None


def _views(schema: Schema, values: dict[str, Sequence[np.ndarray]]) -> tuple[FeatureView, ...]:
    return tuple(_view(each, values[each.key]) for each in schema.columns if each.kind != "text" and values[each.key])


def _view(feature: Feature, parts: Iterable[np.ndarray]) -> FeatureView:
    whole = np.concatenate([np.asarray(each, np.float64).reshape(len(each), -1) for each in parts])
    whole = np.where(np.isfinite(whole), whole, 0.0)
    low, high = whole.min(0), whole.max(0)
    tops = np.where(high > low, high, low + 1)
    counts = np.stack([np.histogram(whole[:, d], BINS, (low[d], tops[d]))[0] for d in range(whole.shape[1])])
    q01, q99 = np.quantile(whole, (0.01, 0.99), axis=0)
    named = (feature.key, feature.kind, feature.dtype, feature.shape)
    return FeatureView(*named, low, high, whole.mean(0), q01, q99, counts)


def _cameras(schema: Schema) -> tuple[str, ...]:
    return tuple(
        f"{each.name}: {each.height} x {each.width} x {each.channels}, {each.kind}, {each.codec}"
        for each in schema.cameras
    )


def _masks(schema: Schema) -> tuple[str, ...]:
    return tuple(f"{each.name}: {each.height} x {each.width}, {each.codec}" for each in schema.masks)


def _texts(schema: Schema, tasks: Sequence[str], columns: Mapping[str, Sequence[np.ndarray]]) -> tuple[TextCount, ...]:
    """Every text with the episodes whose task it is, and the steps at which a column of texts points at it."""
    episodes = Counter(tasks)
    steps: Counter[str] = Counter()
    for arrays in columns.values():
        for array in arrays:
            numbers, counts = np.unique(array, return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                if 0 <= number < len(schema.texts):
                    steps[schema.texts[number]] += count
    texts = dict.fromkeys([*schema.texts, *episodes])
    return tuple(TextCount(text, episodes[text], steps[text]) for text in texts if text or len(texts) > 1)
