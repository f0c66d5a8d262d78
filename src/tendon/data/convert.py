"""Demonstrations in, committed dataset out: shards, receipts, index, manifest, in this order.

Killed anywhere, a rerun keeps every shard that has a receipt and makes the rest; nothing is a dataset before
manifest.json is there. The bytes depend on the source and the options alone, not on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context

import tendon
from tendon.data import index as index_table
from tendon.data.check import episode_problems
from tendon.data.manifest import (
    FORMAT_VERSION,
    KEY,
    IndexFile,
    Manifest,
    Shard,
    SourceFile,
    SplitTotals,
    dataset_digest,
    load_manifest,
)
from tendon.data.plan import (
    MAX_PROBLEMS,
    ConversionOptions,
    ConversionPlan,
    dataset_uri,
    plan_conversion,
    plan_digest,
)
from tendon.data.sources.source import Source
from tendon.data.tario import ShardWriter, write_episode
from tendon.errors import DataError, Interrupted, Problem, TendonError
from tendon.storage import Store, open_store

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]  # done, total, unit

__all__ = [
    "ConversionOptions",
    "ConversionPlan",
    "convert",
    "dataset_uri",
    "find_dataset",
    "plan_conversion",
    "plan_digest",
]


@dataclass(frozen=True)
class Receipt:
    """Proof that a shard is in the store; its index rows lie beside it."""

    shard: Shard
    rows_sha256: str


def convert(
    source: Source,
    store_uri: str,
    name: str,
    options: ConversionOptions | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    source_digest: str | None = None,
) -> Manifest:
    """Convert ``source`` to ``<store_uri>/datasets/<name>/<plan>/``; what is there already is not made again.

    ``source_digest`` is what the source is known by when that is not its bytes: demonstrations named by how they were made.

    Raises:
        DataError: a demonstration has NaN or another shape (all of them at once); nothing has been written then.
        StorageError: the store cannot be written.
    """
    if options is not None and options.exact:
        source = source.exactly() if hasattr(source, "exactly") else source
    info = source.describe()
    info = replace(info, digest=source_digest or info.digest)
    store = open_store(dataset_uri(store_uri, name, plan_digest(info.digest, options)))
    committed = load_manifest(store)
    if committed is not None:
        log.info("convert: %s is there already: %d episodes, %d steps", store.uri, committed.episodes, committed.steps)
        return committed
    plan = plan_conversion(info, options)
    report = progress or (lambda done, total, unit: None)
    receipts = _receipts(store, plan)
    if receipts:
        log.info("convert: continuing %s: %d of %d shards are there", store.uri, len(receipts), len(plan.shards))
    else:
        _check(source, plan, report)
    missing = [n for n in range(len(plan.shards)) if n not in receipts]
    done = sum(receipt.shard.steps for receipt in receipts.values())
    if workers > 1 and len(missing) > 1:
        for n, receipt in _in_processes(source, plan, store.uri, missing, workers):
            receipts[n] = receipt
            done += receipt.shard.steps
            report(done, plan.steps, "steps converted")
    else:
        for n in missing:
            receipts[n] = make_shard(source, plan, store, n, partial(_report_steps, report, done, plan.steps))
            done += receipts[n].shard.steps
    return _commit(store, name, plan, [receipts[n] for n in range(len(plan.shards))])


def find_dataset(
    store_uri: str, name: str, source_digest: str, options: ConversionOptions | None = None
) -> Manifest | None:
    """The dataset that ``convert`` would return at once, without opening the source; None when it must be made."""
    return load_manifest(open_store(dataset_uri(store_uri, name, plan_digest(source_digest, options))))


def make_shard(
    source: Source, plan: ConversionPlan, store: Store, n: int, progress: Callable[[int], None] | None = None
) -> Receipt:
    """Write shard ``n`` of the plan, then its receipt. Two makers of one shard write the same bytes."""
    writer = ShardWriter()
    steps = 0
    for i in plan.shards[n]:
        info = plan.episodes[i]
        episode = source.read(info.episode_id)
        write_episode(writer, i, episode, info.splits, plan.info.schema, plan.options.jpeg_quality)
        steps += episode.length
        if progress is not None:
            progress(steps)
    content = writer.finish()
    sha256 = hashlib.sha256(content).hexdigest()
    shard = Shard(f"shards/{n:06d}-{sha256[:16]}.tar", len(content), sha256, len(plan.shards[n]), steps)
    rows = index_table.to_parquet(index_table.shard_table(content, n, plan.info.schema, f"{store.uri}/{shard.key}"))
    if not store.create(shard.key, content):
        there = store.head(shard.key)
        if there is None or there.size != shard.bytes:
            store.write(shard.key, content)  # cut by a store without atomic writes
    receipt = Receipt(shard, hashlib.sha256(rows).hexdigest())
    store.write(_rows_key(n), rows)
    store.write(_receipt_key(n), json.dumps(asdict(receipt), sort_keys=True).encode())
    return receipt


def rebuild_index(store: Store, manifest: Manifest) -> bytes:
    """The index parquet again, from the shards alone."""
    tables = [
        index_table.shard_table(store.read(shard.key), n, manifest.schema, f"{store.uri}/{shard.key}")
        for n, shard in enumerate(manifest.shards)
    ]
    return index_table.to_parquet(index_table.merged(tables, manifest.schema))


def _commit(store: Store, name: str, plan: ConversionPlan, receipts: list[Receipt]) -> Manifest:
    tables = [index_table.from_parquet(store.read(_rows_key(n))) for n in range(len(receipts))]
    rows = index_table.to_parquet(index_table.merged(tables, plan.info.schema))
    index = IndexFile(
        f"index/episodes-{index_table.object_name(rows)}.parquet", len(rows), hashlib.sha256(rows).hexdigest()
    )
    store.write(index.key, rows)
    info, shards = plan.info, tuple(receipt.shard for receipt in receipts)
    options = asdict(plan.options)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        digest=dataset_digest(info.schema, shards),
        plan=plan.digest,
        schema=info.schema,
        episodes=len(plan.episodes),
        steps=plan.steps,
        splits=_split_totals(plan),
        index=index,
        shards=shards,
        sources=(SourceFile(info.uri, info.format, info.digest, info.num_bytes),),
        created_by={
            "tendon": tendon.__version__,
            "options": options | {"skip_episodes": list(options["skip_episodes"])},
        },
        metadata=info.metadata,
        left_out=info.left_out,
    )
    if not store.create(KEY, manifest.to_json().encode()):
        log.info("convert: another converter of the same plan was faster; its result is used")
    committed = load_manifest(store)
    assert committed is not None, "a manifest that was created is there"
    return committed


def _report_steps(report: Progress, before: int, total: int, steps: int) -> None:
    report(before + steps, total, "steps converted")


def _check(source: Source, plan: ConversionPlan, report: Progress) -> None:
    """Read every low-dimensional value once before anything is written."""
    problems: list[Problem] = []
    for done, info in enumerate(plan.episodes, 1):
        problems += episode_problems(source.read(info.episode_id, images=False), source.uri)
        report(done, len(plan.episodes), "episodes checked")
    if problems:
        raise DataError.of(problems[:MAX_PROBLEMS])


def _receipts(store: Store, plan: ConversionPlan) -> dict[int, Receipt]:
    """Receipts of shards that are whole in the store."""
    sizes = {info.key: info.size for info in store.list("shards/")}
    listed = {info.key for info in store.list("_work/")}
    found = {}
    for n in range(len(plan.shards)):
        if not {_receipt_key(n), _rows_key(n)} <= listed:
            continue
        try:
            values = json.loads(store.read(_receipt_key(n)))
            receipt = Receipt(Shard(**values["shard"]), values["rows_sha256"])
        except (ValueError, KeyError, TypeError):
            continue
        rows_hold = hashlib.sha256(store.read(_rows_key(n))).hexdigest() == receipt.rows_sha256
        if rows_hold and sizes.get(receipt.shard.key) == receipt.shard.bytes:
            found[n] = receipt
    return found


def _in_processes(
    source: Source, plan: ConversionPlan, uri: str, missing: list[int], workers: int
) -> Iterator[tuple[int, Receipt]]:
    # spawn: a fork would copy open HDF5 files and the locks of other threads
    pool = ProcessPoolExecutor(min(workers, len(missing)), get_context("spawn"), _start_worker, (source, plan, uri))
    try:
        futures = {pool.submit(_work, n): n for n in missing}
        for future in as_completed(futures):
            try:
                result = future.result()
            except BrokenProcessPool as error:
                raise Interrupted(
                    "a converter process was killed",
                    where=f"{uri}, about shard {futures[future]}",
                    why="something ended it from outside, most often because memory ran out",
                    fix="run the same command again, with fewer workers if it happens twice: finished shards are kept",
                ) from error
            if isinstance(result, _Failure):
                raise result.kind.of(result.problems)
            yield futures[future], result
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Failure:
    """A TendonError on its way out of a worker process."""

    kind: type[TendonError]
    problems: tuple[Problem, ...]


_worker: list[tuple[Source, ConversionPlan, Store]] = []  # set once in a worker process, never in the parent


def _start_worker(source: Source, plan: ConversionPlan, uri: str) -> None:
    _worker[:] = [(source, plan, open_store(uri))]


def _work(n: int) -> Receipt | _Failure:
    source, plan, store = _worker[0]
    try:
        return make_shard(source, plan, store, n)
    except TendonError as error:
        return _Failure(type(error), error.problems)


def _split_totals(plan: ConversionPlan) -> dict[str, SplitTotals]:
    lengths: dict[str, list[int]] = {}
    for episode in plan.episodes:
        for split in episode.splits:
            lengths.setdefault(split, []).append(episode.length)
    return {split: SplitTotals(len(each), sum(each)) for split, each in sorted(lengths.items())}


def _receipt_key(n: int) -> str:
    return f"_work/{n:06d}.json"


def _rows_key(n: int) -> str:
    return f"_work/{n:06d}.parquet"
