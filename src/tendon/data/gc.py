"""Finds objects in a dataset's folder that nothing needs: shards that no manifest names, receipts, dead uploads.

Only a committed dataset is cleaned, because its manifest says what belongs to it; the shards of a conversion that has
not finished are work that the next run continues. Called by ``tendon gc``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tendon.data.dataset import open_dataset
from tendon.storage import ObjectInfo
from tendon.storage.s3 import S3Store
from tendon.storage.s3_parts import abort_old_uploads

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
    return Garbage(uri, tuple(unneeded))


def collect_garbage(uri: str) -> Garbage:
    """Delete the garbage, and unfinished uploads older than a day. Returns what was deleted."""
    garbage = find_garbage(uri)
    store = open_dataset(uri).store
    for each in garbage.objects:
        store.delete(each.key)
    if isinstance(store, S3Store):
        abort_old_uploads(store)
    return garbage
