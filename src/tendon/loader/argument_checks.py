"""Checks of a loader's arguments. Each mistake raises a ConfigError with its fix. Called by loader.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tendon.data.dataset import Dataset, EpisodeRow
from tendon.errors import ConfigError, nearest
from tendon.loader.choice import SamplingOrder
from tendon.loader.windows import Span

MEANING = {
    "v": "loader version",
    "manifest": "dataset",
    "seed": "seed",
    "plan": "split, windows, order or list of skipped episodes",
}


def check(
    dataset: Dataset, spans: Mapping[str, Span], batch_size: int, rank: int, world: int, stride: int, on_bad: str
) -> None:
    """Raise a ConfigError for arguments that cannot work."""
    if batch_size < 1:
        raise _wrong("the batch size is not positive", "training.batch_size", f"it is {batch_size}", "use 1 or more")
    if not 0 <= rank < world:
        raise _wrong("there is no such rank", "loader, rank", f"it is {rank} of {world}", "use 0 to world - 1")
    if batch_size < world:
        raise _wrong(
            "the batch is smaller than the world",
            "training.batch_size",
            f"{batch_size} windows cannot be shared by {world} processes",
            f"use {world} or more; a multiple of it gives equal shares",
        )
    if stride < 1:
        raise _wrong("the stride is not positive", "loader, stride", f"it is {stride}", "use 1 or more")
    if on_bad not in ("fail", "substitute"):
        raise _wrong("unknown rule for bad samples", "on_bad_sample", f"it is {on_bad!r}", "use fail or substitute")
    known, cameras = dataset.manifest.schema.dims, [camera.name for camera in dataset.manifest.schema.cameras]
    if not spans:
        raise _wrong("no feature is asked for", "windows", "there are no deltas", "name at least one feature")
    for name, span in spans.items():
        if not span.deltas:
            raise _wrong(f"{name} has no deltas", "windows", "an empty window holds nothing", "give at least (0,)")
        if name not in known and name not in cameras:
            near = nearest(name, [*known, *cameras], 0.4)
            raise _wrong(
                f"the dataset has no feature named {name}",
                dataset.uri,
                f"it has {', '.join([*known, *cameras])}",
                f"write {near}" if near else "choose one of the features of the dataset",
            )


def check_sampling_order(ordering: SamplingOrder, chosen: Mapping[str, int], dataset: Dataset, split: str) -> None:
    """Raise a ConfigError for weights that cannot work; ``chosen``: the episodes of the loader."""
    all_ids = set(dataset.rows.ids())
    for name in (*ordering.weights, *ordering.repeated):
        if name not in all_ids:
            near = nearest(name, list(all_ids), 0.4)
            raise _wrong(
                f"there is no episode named {name}",
                f"{dataset.uri}, split {split}",
                f"it is given a weight or repeated frames; {len(chosen)} other episodes are there",
                f"write {near}" if near else "leave it out",
            )
    for name, weight in ordering.weights.items():
        if not 0 <= weight < 1e6:
            raise _wrong("a weight is not usable", f"weights, {name}", f"it is {weight}", "use 0 or more, such as 0.5")


def check_state(saved: Mapping[str, object], current: Mapping[str, object]) -> None:
    """Raise a ConfigError when a saved position belongs to another stream."""
    for key, what in MEANING.items():
        if saved.get(key) != current[key]:
            raise _wrong(
                f"the saved position belongs to another {what}",
                f"loader state, {key}",
                f"it says {saved.get(key)!r}, this run has {current[key]!r}",
                "continue with the configuration of the saved run, or start a new one",
            )


def no_window(dataset: Dataset, split: str, rows: Sequence[EpisodeRow]) -> ConfigError:
    """The error when no window is left to load."""
    return _wrong(
        "no window fits into any episode",
        f"{dataset.uri}, split {split}",
        f"the longest of {len(rows)} episodes has {max(row.length for row in rows)} steps, "
        "and the edge none forbids padding, or frames or episodes were left out",
        "use fewer deltas, or the edge repeat",
    )


def too_few_windows(windows: int, batch_size: int) -> ConfigError:
    """The error when MineStudio's order, which drops incomplete batches, drops all of them."""
    return _wrong(
        "no batch is complete",
        "loader, ordering minestudio",
        f"{windows} windows for batches of {batch_size}",
        "use a smaller batch, or the order slots, which drops nothing",
    )


def _wrong(what: str, where: str, why: str, fix: str) -> ConfigError:
    return ConfigError(what, where=where, why=why, fix=fix)
