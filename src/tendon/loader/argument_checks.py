"""Checks of a loader's arguments. Each mistake raises a ConfigError with its fix. Called by loader.py."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from tendon.data.dataset import Dataset, EpisodeRow
from tendon.errors import ConfigError
from tendon.loader.choice import BatchRequest, SamplingOrder

MEANING = {
    "v": "loader version",
    "manifest": "dataset",
    "seed": "seed",
    "plan": "split, windows, order or list of skipped episodes",
}


def check(dataset: Dataset, request: BatchRequest) -> None:
    """Raise a ConfigError for arguments that cannot work."""
    spans, stride = request.windows.training, request.windows.stride
    batch_size, rank, world = request.batch_size, request.rank, request.world
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
    if request.on_bad_sample not in ("fail", "substitute"):
        raise _wrong(
            "unknown rule for bad samples",
            "on_bad_sample",
            f"it is {request.on_bad_sample!r}",
            "use fail or substitute",
        )
    known = [each.key for each in dataset.schema.features]
    if not spans:
        raise _wrong("no feature is asked for", "windows", "there are no deltas", "name at least one feature")
    for name, span in spans.items():
        if not span.deltas:
            raise _wrong(f"{name} has no deltas", "windows", "an empty window holds nothing", "give at least (0,)")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.4)
            raise _wrong(
                f"the dataset has no feature named {name}",
                dataset.uri,
                f"it has {', '.join(known)}",
                f"write {near[0]}" if near else "choose one of the features of the dataset",
            )


def check_sampling_order(ordering: SamplingOrder, chosen: Mapping[str, int], dataset: Dataset, split: str) -> None:
    """Raise a ConfigError for weights that cannot work; ``chosen``: the episodes of the loader."""
    all_ids = set(dataset.rows.ids())
    for name in (*ordering.weights, *ordering.repeated):
        if name not in all_ids:
            near = difflib.get_close_matches(name, list(all_ids), 1, 0.4)
            raise _wrong(
                f"there is no episode named {name}",
                f"{dataset.uri}, split {split}",
                f"it is given a weight or repeated frames; {len(chosen)} other episodes are there",
                f"write {near[0]}" if near else "leave it out",
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
