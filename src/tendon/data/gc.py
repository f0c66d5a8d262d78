"""Finds objects that nothing needs: shards that no manifest names, receipts, dead uploads, temporaries of killed writes.

Only a committed dataset is cleaned, because its manifest says what belongs to it; the shards of a conversion that has
not finished are work that the next run continues. Called by ``tendon gc``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tendon.data.dataset import open_dataset
from tendon.storage import ObjectInfo, Store, open_store
from tendon.storage.s3 import S3Store
from tendon.storage.s3_parts import abort_old_uploads
from tendon.storage.store import HIDDEN

OWNED = ("shards/", "index/", "_work/")  # nothing else is ever touched: stats, timings, notes


@dataclass(frozen=True)
class Garbage:
    """Objects that may be deleted."""

    uri: str
    objects: tuple[ObjectInfo, ...]

    @property
    def bytes(self) -> int:
        """How much space that frees."""
        return sum(each.size for each in self.objects)


def find_garbage(uri: str) -> Garbage:
    """The objects that the dataset at ``uri`` does not need.

    Raises:
        DataError: there is no committed dataset.
    """
    dataset = open_dataset(uri)
    needed = {shard.key for shard in dataset.manifest.shards} | {dataset.manifest.index.key}
    unneeded = [info for prefix in OWNED for info in dataset.store.list(prefix) if info.key not in needed]
    return Garbage(uri, (*unneeded, *dataset.store.leftovers()))


def find_leftovers(uri: str) -> Garbage:
    """Temporaries of killed writes, anywhere below an address: of runs, checkpoints and datasets."""
    return Garbage(uri, tuple(open_store(uri).leftovers()))


def collect_garbage(uri: str) -> Garbage:
    """Delete the garbage, and unfinished uploads older than a day. Returns what was deleted."""
    garbage = find_garbage(uri)
    store = open_dataset(uri).store
    _delete(store, garbage)
    if isinstance(store, S3Store):
        abort_old_uploads(store)
    return garbage


def sweep_leftovers(uri: str) -> Garbage:
    """Delete them. Returns what was deleted."""
    garbage = find_leftovers(uri)
    _delete(open_store(uri), garbage)
    return garbage


def _delete(store: Store, garbage: Garbage) -> None:
    for each in garbage.objects:
        if each.key.rpartition("/")[2].startswith(HIDDEN):
            store.sweep(each.key)
        else:
            store.delete(each.key)
