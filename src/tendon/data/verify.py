"""Verifies every byte of a committed dataset; names shard, member, offset and episode of each damage.

A shard whose sha256 holds is whole. Of any other, every member's crc32c says where the damage lies. ``tendon inspect
--verify`` calls this; readers check the members that they read by themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from tendon.data.dataset import Dataset
from tendon.data.index import PLACE
from tendon.data.manifest import Shard
from tendon.data.tario import LOWDIM, META, MP4, chunk_member, crc32c
from tendon.errors import DataError, Problem, TendonError
from tendon.storage import join

AT_ONCE = 2  # shards in memory
FIX = "delete the shard and the dataset's manifest.json, then convert again: only what is missing is made"


@dataclass(frozen=True)
class _MemberLocation:
    episode_id: str
    name: str
    offset: int
    size: int
    crc32c: int


def find_damage(dataset: Dataset, progress: Callable[[int, int, str], None] | None = None) -> Iterator[Problem]:
    """Find damaged or missing shards and members. The index comes first, because it names all others.

    Raises:
        StorageError: the store cannot be read.
    """
    try:
        table = dataset.table
    except DataError as error:
        yield from error.problems
        return
    shards = dataset.manifest.shards
    if table.num_rows != dataset.manifest.episodes:
        why = f"it has {table.num_rows} rows, the manifest counts {dataset.manifest.episodes} episodes"
        yield Problem("the index does not fit its manifest", join(dataset.uri, dataset.manifest.index.key), why, FIX)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(0, len(shards), AT_ONCE):  # in turns, so that no more than these are in memory
            numbers = range(first, min(first + AT_ONCE, len(shards)))
            for n, problems in zip(numbers, pool.map(partial(_damage, dataset), numbers), strict=True):
                yield from problems
                if progress is not None:
                    progress(n + 1, len(shards), "shards verified")


def _damage(dataset: Dataset, n: int) -> list[Problem]:
    shard = dataset.manifest.shards[n]
    try:
        content = dataset.store.read(shard.key)
    except DataError as error:
        what = f"a shard with {shard.episodes} episodes is missing"
        first = min(_members(dataset, n), key=lambda each: each.offset, default=None)
        return [Problem(what, _where(dataset, shard, first), error.problems[0].why, FIX)]
    except TendonError as error:
        if "damaged" not in error.problems[0].what:
            raise
        return [Problem("a shard is damaged", _where(dataset, shard, None), error.problems[0].why, FIX)]
    if len(content) == shard.bytes and hashlib.sha256(content).hexdigest() == shard.sha256:
        return []
    problems = []
    for each in sorted(_members(dataset, n), key=lambda each: each.offset):
        if each.offset + each.size > len(content):
            why = f"the shard ends at byte {len(content)} of {shard.bytes}"
            problems.append(Problem("a shard is cut off", _where(dataset, shard, each), why, FIX))
            break
        if crc32c(content[each.offset : each.offset + each.size]) != each.crc32c:
            why = "its bytes do not have the crc32c that the index names"
            problems.append(Problem("a shard is damaged", _where(dataset, shard, each), why, FIX))
    if problems:
        return problems
    why = f"{len(content)} of {shard.bytes} bytes, not the sha256 that the manifest names, and every member whole"
    return [Problem("a shard is damaged between its members", _where(dataset, shard, None), why, FIX)]


def _members(dataset: Dataset, n: int) -> Iterator[_MemberLocation]:
    """Everything that the index places in shard ``n``."""
    rows = dataset.rows.chosen(dataset.table.array("shard") == n)
    cameras = dataset.manifest.schema.cameras
    single = [META, LOWDIM, *(f"{each.member}.{each.codec}" for each in cameras if each.codec != MP4)]
    single += [f"{each.member}.{each.codec}" for each in dataset.manifest.schema.masks]
    names = [f"{member}/{key}" for member in single for key in PLACE]
    names += [f"{camera.member}.{MP4}/{key}" for camera in cameras if camera.codec == MP4 for key in PLACE]
    table = {name: rows.column(name).to_pylist() for name in ("sample", "episode_id", *names)}
    for i, (sample, episode_id) in enumerate(zip(table["sample"], table["episode_id"], strict=True)):
        for member in single:
            yield _MemberLocation(episode_id, f"{sample}.{member}", *(table[f"{member}/{key}"][i] for key in PLACE))
        for camera in cameras:
            if camera.codec == MP4:
                places = zip(*(table[f"{camera.member}.{MP4}/{key}"][i] for key in PLACE), strict=True)
                for k, place in enumerate(places):
                    yield _MemberLocation(episode_id, f"{sample}.{chunk_member(camera, k)}", *place)


def _where(dataset: Dataset, shard: Shard, at: _MemberLocation | None) -> str:
    place = join(dataset.uri, shard.key)
    if at is None:
        return place
    source = dataset.manifest.sources[0].uri
    return f"{place}, member {at.name}, offset {at.offset}, episode {at.episode_id} of {source}"
