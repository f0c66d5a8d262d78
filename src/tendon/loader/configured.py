"""A loader as the ``data:`` section of a configuration describes it: mixtures, edges, order, weights, resources.

``configured_loader`` is the one way from a configuration to batches; training and validation both take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tendon.config.schema import DataConfig
from tendon.data.dataset import Dataset, open_dataset
from tendon.errors import ConfigError, nearest
from tendon.loader.choice import LoaderResources, SamplingOrder
from tendon.loader.loader import Loader
from tendon.loader.mixed import MixedLoader
from tendon.loader.mixture import tempered
from tendon.loader.sample_weights import changing_frames
from tendon.loader.windows import Edge, Span, Windows

GIB = 1 << 30
MIB = 1 << 20


def configured_loader(
    dataset_uri: str,
    split: str,
    windows: Windows,
    batch_size: int,
    seed: int,
    data: DataConfig,
    *,
    rank: int = 0,
    world: int = 1,
    resources: LoaderResources | None = None,
) -> Loader | MixedLoader:
    """The loader of a split.

    Args:
        dataset_uri: the converted dataset; ``data.mixture`` names those that are mixed with it.
        split: of all of them; where it is not ``data.split``, a mixed dataset that has no such split takes no part.
        windows: as the policy declares them; ``data.edges`` and ``data.drop_last`` change them.
        batch_size: windows per batch, of all ranks together.
        seed: of the order.
        data: the section of the configuration.
        rank: which share of every batch this process gets.
        world: how many shares there are.
        resources: instead of those that ``data`` describes, for several loaders that share them.

    Raises:
        ConfigError: a feature, split, episode or dataset does not exist, or keys do not fit together.

    Example:
        ``configured_loader(uri, "train", policy.windows, config.training.batch_size, config.seed, config.data)``
    """
    resources = resources or resources_of(data)
    windows = changed_windows(windows, data)
    datasets = [open_dataset(uri) for uri in (dataset_uri, *data.mixture)]
    ordering = ordering_of(data, windows, datasets, split)
    if len(datasets) == 1:
        return _loader(datasets[0], split, windows, batch_size, seed, data, ordering, rank, world, resources)
    if ordering.kind != "shuffled":
        raise ConfigError(
            "datasets are mixed window by window",
            where="data.mixture",
            why=f"rows of a batch walk through the episodes of one dataset (order {ordering.kind})",
            fix="data.mixture=[] for this policy, or data.order=shuffled for one that keeps no memory",
        )
    _check_episodes(data, datasets)
    needed = split == data.split  # of a validation split, those are taken that have it
    taking_part = [i for i, dataset in enumerate(datasets) if needed or split in dataset.splits or i == 0]
    each = replace(resources, memory_budget=resources.memory_budget // len(taking_part), processes=0, ahead=0)
    loaders = [
        _loader(datasets[i], split, windows, batch_size, seed, data, _of_dataset(ordering, datasets[i]), 0, 1, each)
        for i in taking_part
    ]
    weights = [data.mixture_weights[i] for i in taking_part] if data.mixture_weights else []
    weights = weights or tempered([loader.num_windows for loader in loaders], data.mixture_temperature)
    ahead = 2 if resources.ahead is None else resources.ahead
    stratified = data.mixture_stratified
    return MixedLoader(loaders, weights, batch_size, seed, stratified=stratified, rank=rank, world=world, ahead=ahead)


def resources_of(data: DataConfig, share: float = 1.0) -> LoaderResources:
    """Memory, threads, processes and caches; ``share`` of the memory."""
    return LoaderResources(
        memory_budget=int(data.memory_gib * share * GIB),
        threads=data.threads,
        processes=data.processes,
        fetches=data.fetches,
        ahead=data.ahead,
        tier=data.tier,
        cache=Path(data.cache) if data.cache else None,
        cache_bytes=int(data.cache_gib * GIB),
    )


def validation_data(data: DataConfig) -> DataConfig:
    """The section for a validation split: its windows come in any order, each as often as the others."""
    return replace(data, order="shuffled", episode_weights={}, repeat_changes="", repeat_times=1)


def changed_windows(windows: Windows, data: DataConfig) -> Windows:
    """The windows of a policy with the edges and the ``drop_last`` of the configuration.

    Raises:
        ConfigError: an edge is given to a feature that the windows do not have.
    """
    spans = dict(windows.training)
    for key, rule in data.edges.items():
        if key not in spans:
            near = nearest(key, spans, 0.4)
            raise ConfigError(
                f"data.edges names {key}, which no window has",
                where="data.edges",
                why=f"the windows have {', '.join(spans)}",
                fix=f"data.edges={{{near or next(iter(spans))}: {rule}}}",
            )
        before, _, after = str(rule).partition("/")
        spans[key] = Span(spans[key].deltas, cast("Edge", before), cast("Edge", after or before))
    drop_last = windows.drop_last if data.drop_last is None else data.drop_last
    return replace(windows, training=spans, drop_last=drop_last)


def ordering_of(data: DataConfig, windows: Windows, datasets: Sequence[Dataset], split: str) -> SamplingOrder:
    """The order of the windows and what comes more often.

    Raises:
        ConfigError: a policy that keeps a memory cannot be trained in this order.
    """
    kind = data.order
    if kind == "auto":
        kind = "slots" if windows.stateful else "shuffled"
    if windows.stateful and kind == "shuffled":
        raise ConfigError(
            "the order does not fit the policy",
            where="data.order",
            why="the policy keeps a memory from batch to batch, so that each row must walk through an episode",
            fix="data.order=auto, or data.order=slots",
        )
    order = SamplingOrder(
        kind,
        lanes=data.order_lanes,
        block=data.order_block,
        unit_bytes=data.order_unit_mib * MIB,
        weights=_recipe_weights(datasets, split, data)
        | {name: float(weight) for name, weight in data.episode_weights.items()},
        times=data.repeat_times,
    )
    if not data.repeat_changes:
        return order
    repeated: dict[str, Sequence[int]] = {}
    for dataset in datasets:
        repeated |= _changes(dataset, split, data)
    return replace(order, repeated=repeated)


def _recipe_weights(datasets: Sequence[Dataset], split: str, data: DataConfig) -> dict[str, float]:
    """What the recipes of the datasets say of the episodes that are drawn."""
    weights: dict[str, float] = {}
    for dataset in datasets:
        of_recipe = dataset.manifest.metadata.get("recipe", {}).get("weights", {})
        drawn = {row.episode_id for row in dataset.episodes(split)} if of_recipe else set()
        weights |= {i: float(w) for i, w in of_recipe.items() if i in drawn and i not in data.skip_episodes}
    return weights


def _changes(dataset: Dataset, split: str, data: DataConfig) -> dict[str, Sequence[int]]:
    """Per episode the steps around which a feature of ``data.repeat_changes`` changes."""
    if split not in dataset.splits:
        return {}
    watched = [_watched(one.strip(), dataset) for one in data.repeat_changes.split("+")]
    rows = dataset.episodes(split, _known(data.skip_episodes, dataset))
    repeated: dict[str, Sequence[int]] = {}
    for row, steps in zip(rows, dataset.lowdims(rows), strict=True):
        values = [steps[key].reshape(len(steps), -1)[:, dims].sum(1) for key, dims in watched]
        repeated[row.episode_id] = sorted({int(at) for one in values for at in changing_frames(one)})
    return repeated


def _watched(text: str, dataset: Dataset) -> tuple[str, slice]:
    """``action.gripper``, or some numbers of a feature: ``action[6:7]``."""
    key, bracket, range_text = text.partition("[")
    first, _, end = range_text.removesuffix("]").partition(":")
    dim = dataset.schema.dims.get(key)
    whole = not bracket or (range_text.endswith("]") and first.isdigit() and end.isdigit())
    dims = slice(int(first), int(end)) if bracket and whole else slice(0, dim)
    if dim is None or not whole or not 0 <= dims.start < (dims.stop or 0) <= dim:
        near = key if dim is not None else nearest(key, dataset.schema.dims, 0.4)
        raise ConfigError(
            f"the dataset has no numbers named {text}",
            where=f"data.repeat_changes, {dataset.uri}",
            why=f"it has {', '.join(f'{name} ({size})' for name, size in dataset.schema.dims.items())}",
            fix=f"data.repeat_changes={near}" if near else "data.repeat_changes=''",
        )
    return key, dims


def _loader(
    dataset: Dataset,
    split: str,
    windows: Windows,
    batch_size: int,
    seed: int,
    data: DataConfig,
    ordering: SamplingOrder,
    rank: int,
    world: int,
    resources: LoaderResources,
) -> Loader:
    skipped = _known(data.skip_episodes, dataset) if data.mixture else data.skip_episodes
    asked: dict[str, Any] = {"on_bad_sample": data.on_bad_sample, "ordering": ordering, "rank": rank, "world": world}
    return Loader(dataset, split, windows, batch_size, seed, skip_episodes=skipped, resources=resources, **asked)


def _check_episodes(data: DataConfig, datasets: Sequence[Dataset]) -> None:
    """Every episode that a key names is in one of the datasets, or was left out when one was converted."""
    known = {name for dataset in datasets for name in dataset.rows.ids()}
    for dataset in datasets:
        known |= set(dataset.manifest.created_by.get("options", {}).get("skip_episodes", ()))
    for key, names in (("skip_episodes", data.skip_episodes), ("episode_weights", data.episode_weights)):
        for name in names:
            if name not in known:
                near = nearest(name, known, 0.4)
                raise ConfigError(
                    f"data.{key} names {name}, which is no episode",
                    where=", ".join(dataset.uri for dataset in datasets),
                    why=f"{len(known)} episodes are there, such as {min(known)}",
                    fix=f"write {near}" if near else f"leave it out of data.{key}",
                )


def _of_dataset(ordering: SamplingOrder, dataset: Dataset) -> SamplingOrder:
    """The weights of the episodes that a dataset of a mixture has."""
    ids = set(dataset.rows.ids())
    weights = {name: weight for name, weight in ordering.weights.items() if name in ids}
    return replace(
        ordering, weights=weights, repeated={name: steps for name, steps in ordering.repeated.items() if name in ids}
    )


def _known(names: Sequence[str], dataset: Dataset) -> tuple[str, ...]:
    """Of a list of episodes for several datasets, those that this one has."""
    ids = set(dataset.rows.ids())
    return tuple(name for name in names if name in ids)
