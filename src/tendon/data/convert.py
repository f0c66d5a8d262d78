"""Converts demonstrations into a committed dataset: shards, receipts, index, manifest, in this order.

After a kill, the next run keeps every shard that has a receipt and makes the rest. Only manifest.json makes it a dataset.
The bytes depend on the source and the options alone, not on the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import tendon
from tendon.data import index as index_table
from tendon.data.check import Facts, checked_read, finding_problems
from tendon.data.conversion_pool import ConversionPool, WorkerContext
from tendon.data.images import prepared
from tendon.data.manifest import (
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
from tendon.data.sources.first_look import described, is_foreign, run_in_child
from tendon.data.sources.source import Source
from tendon.data.tario import ShardWriter, read_samples, write_episode
from tendon.errors import ConfigError, DataError, Problem
from tendon.storage import Store, open_store

log = logging.getLogger(__name__)

CHECKED_AT_ONCE = 64  # episodes
SHOWN = 10  # findings in the log
READERS = 8  # of receipts

Progress = Callable[[int, int, str], None]  # done, total, unit

__all__ = [
    "ConversionOptions",
    "ConversionPlan",
    "convert",
    "dataset_uri",
    "find_dataset",
    "parse_share",
    "plan_conversion",
    "plan_digest",
]


@dataclass(frozen=True)
class Receipt:
    """Proof that a shard is in the store, and its rows of the index as an Arrow file."""

    shard: Shard
    rows: bytes

    def to_bytes(self) -> bytes:
        """One object, so that it is there as a whole or not at all."""
        head = {"shard": asdict(self.shard), "rows_sha256": hashlib.sha256(self.rows).hexdigest()}
        return json.dumps(head, sort_keys=True).encode() + b"\n" + self.rows

    @classmethod
    def from_bytes(cls, content: bytes) -> Receipt | None:
        """The receipt in ``content``; None where it is damaged."""
        head, _, rows = content.partition(b"\n")
        try:
            values = json.loads(head)
            shard, sha256 = Shard(**values["shard"]), values["rows_sha256"]
        except (ValueError, KeyError, TypeError):
            return None
        return cls(shard, rows) if hashlib.sha256(rows).hexdigest() == sha256 else None


def convert(
    source: Source,
    store_uri: str,
    name: str,
    options: ConversionOptions | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    source_digest: str | None = None,
    *,
    strict: bool = False,
    worker: int = 0,
    of: int = 1,
) -> Manifest:
    """Convert ``source`` to ``<store_uri>/datasets/<name>/<plan>/``. Shards that exist are not made again.

    Args:
        source: demonstrations, as ``open_source`` gives them.
        store_uri: the store.
        name: of the dataset.
        options: image size, codec, episodes to skip and so on; part of the dataset's address.
        workers: processes on this machine.
        progress: called with steps done, steps in all, and their unit.
        source_digest: identifies the source instead of its bytes: for demonstrations named by how they were made.
        strict: findings are errors.
        worker: this machine's number when ``of`` machines share one plan. It makes its own shards first, then those that
            others have not finished. Whoever sees all of them commits; one commit counts.
        of: how many machines share the plan.

    Raises:
        DataError: a demonstration has NaN or another shape (all of them at once). Nothing has been written then.
        StorageError: the store cannot be written.

    Example:
        ``manifest = convert(open_source("lift.hdf5"), "s3://bucket/store", "lift", workers=4)``
    """
    if not 0 <= worker < of:
        why = f"worker {worker} of {of} was asked for; they count from 0"
        raise ConfigError("there is no such worker", where="convert", why=why, fix=f"worker=0 to worker={of - 1}")
    if options is not None and options.exact:
        source = source.exactly() if hasattr(source, "exactly") else source
    info = described(source)
    info = replace(info, digest=source_digest or info.digest)
    store = open_store(dataset_uri(store_uri, name, plan_digest(info.digest, options)))
    committed = load_manifest(store)
    if committed is not None and not strict:
        log.info("convert: %s is there already: %d episodes, %d steps", store.uri, committed.episodes, committed.steps)
        return committed
    plan = plan_conversion(info, options)
    report = progress or (lambda done, total, unit: None)
    with ConversionPool(source, plan, store.uri, workers) as pool:
        receipts = _receipts(store, plan) if committed is None else {}
        if receipts:
            log.info("convert: continuing %s: %d of %d shards are there", store.uri, len(receipts), len(plan.shards))
        if strict or not receipts:
            _check(pool, plan, report, strict)
        if committed is not None:
            return committed
        while missing := [n for n in _own_first(len(plan.shards), worker, of) if n not in receipts]:
            _make(pool, store, missing, receipts, report)
            receipts = _receipts(store, plan)
    _prove_unchanged(source)
    return _commit(store, name, plan, [receipts[n] for n in range(len(plan.shards))])


def _make(
    pool: ConversionPool, store: Store, missing: list[int], receipts: dict[int, Receipt], report: Progress
) -> None:
    """Make the missing shards, except those that another machine finishes before a process is free for them."""
    plan, done = pool.plan, sum(receipt.shard.steps for receipt in receipts.values())
    unit = "steps converted"
    report(done, plan.steps, unit)

    def count(steps: int) -> None:
        nonlocal done
        done += steps
        report(min(done, plan.steps), plan.steps, unit)

    listed = {info.key for info in store.list("_work/")}
    broken = {n for n in missing if _receipt_key(n) in listed}  # it exists, but is damaged or its shard is not whole
    unfinished = (n for n in missing if n in broken or store.head(_receipt_key(n)) is None)
    for _ in pool.run(_make_one, unfinished, count):
        pass


def _make_one(context: WorkerContext, n: int) -> None:
    make_shard(context.source, context.plan, context.store, n, context.writer, context.count)


def _own_first(num: int, worker: int, of: int) -> list[int]:
    """The order in which a worker looks at the shards: its own, then those of the others from the back."""
    return [*range(worker, num, of), *(n for n in reversed(range(num)) if n % of != worker)]


def parse_share(text: str) -> tuple[int, int]:
    """``"2/8"`` as (2, 8): worker 2 of 8, counted from 0."""
    number, slash, of = text.partition("/")
    if not (slash and number.isdigit() and of.isdigit() and int(number) < int(of)):
        raise ConfigError(
            "a share of a conversion is not understood",
            where=f"worker={text}",
            why="it is K/N with K below N",
            fix="0/1",
        )
    return int(number), int(of)


def find_dataset(
    store_uri: str, name: str, source_digest: str, options: ConversionOptions | None = None
) -> Manifest | None:
    """The dataset that ``convert`` would return at once, without opening the source; None when it must be made."""
    return load_manifest(open_store(dataset_uri(store_uri, name, plan_digest(source_digest, options))))


def make_shard(
    source: Source,
    plan: ConversionPlan,
    store: Store,
    n: int,
    writer: ShardWriter,
    count: Callable[[int], None] | None = None,
) -> Receipt:
    """Write shard ``n`` of the plan, then its receipt. Two makers of one shard write the same bytes.

    ``count`` is called with the steps of every episode.
    """
    writer.clear()
    samples, steps = [], 0
    for i in plan.shards[n]:
        info = plan.episodes[i]
        episode = prepared(source.read(info.episode_id), plan.schema, plan.info)
        samples.append(write_episode(writer, i, episode, info.splits, plan.schema, plan.options.jpeg_quality))
        steps += episode.length
        if count is not None:
            count(episode.length)
    content, sha256 = writer.finish()
    shard = Shard(f"shards/{n:06d}-{sha256[:16]}.tar", len(content), sha256, len(plan.shards[n]), steps)
    _prove_unchanged(source, used=True)  # a shard of something else than what was planned never gets a receipt
    store.write(shard.key, content)  # the key holds the hash of the bytes: a second writer changes nothing
    receipt = Receipt(shard, index_table.to_ipc(index_table.shard_table(samples, n, plan.schema)))
    store.write(_receipt_key(n), receipt.to_bytes())
    return receipt


def _prove_unchanged(source: Source, used: bool = False) -> None:
    """Nothing, if the source's files are still those whose digest was taken; sources that are no files have none.

    ``used``: those that were read since the last time are enough, where the source can tell them.
    """
    check = getattr(source, "check_used_unchanged", None) if used else None
    check = check or getattr(source, "check_unchanged", None)
    if check is not None:
        check()


def rebuild_index(store: Store, manifest: Manifest) -> bytes:
    """The bytes of the index, made again from the shards alone."""
    tables = [
        index_table.shard_table(read_samples(store.read(shard.key), f"{store.uri}/{shard.key}"), n, manifest.schema)
        for n, shard in enumerate(manifest.shards)
    ]
    return index_table.to_parquet(index_table.merged(tables, manifest.schema))


def _commit(store: Store, name: str, plan: ConversionPlan, receipts: list[Receipt]) -> Manifest:
    tables = [index_table.from_ipc(receipt.rows) for receipt in receipts]
    rows = index_table.to_parquet(index_table.merged(tables, plan.schema))
    index = IndexFile(
        f"index/episodes-{index_table.object_name(rows)}.parquet", len(rows), hashlib.sha256(rows).hexdigest()
    )
    store.write(index.key, rows)
    info, shards = plan.info, tuple(receipt.shard for receipt in receipts)
    manifest = Manifest(
        format_version=plan.schema.format_version,
        name=name,
        digest=dataset_digest(plan.schema, shards, info.metadata.get("recipe", {}).get("digest", "")),
        plan=plan.digest,
        schema=plan.schema,
        episodes=len(plan.episodes),
        steps=plan.steps,
        splits=_split_totals(plan),
        index=index,
        shards=shards,
        sources=(SourceFile(info.uri, info.format, info.digest, info.num_bytes),),
        created_by={
            "tendon": tendon.__version__,
            "options": json.loads(json.dumps(asdict(plan.options))),
        },
        metadata=info.metadata,
        left_out=info.left_out,
    )
    if not store.create(KEY, manifest.to_json().encode()):
        log.info("convert: another converter of the same plan was faster; its result is used")
    committed = load_manifest(store)
    assert committed is not None, "a manifest that was created is there"
    return committed


def _check(pool: ConversionPool, plan: ConversionPlan, report: Progress, strict: bool) -> None:
    """Read every low-dimensional value once before anything is written."""
    jobs = [
        range(at, min(at + CHECKED_AT_ONCE, len(plan.episodes))) for at in range(0, len(plan.episodes), CHECKED_AT_ONCE)
    ]
    done = 0

    def count(episodes: int) -> None:
        nonlocal done
        done += episodes
        report(done, len(plan.episodes), "episodes checked")

    if pool.workers <= 1 and is_foreign(pool.source):
        checked = {}
        for job, result in run_in_child(_check_jobs, (pool.source, plan, pool.uri, jobs), pool.source):
            checked[job] = result
            for _ in job:
                count(1)
    else:
        checked = dict(pool.run(_check_some, jobs, count))
    problems = [problem for job in jobs for problem in checked[job][0]]
    if problems:
        raise DataError.of(problems[:MAX_PROBLEMS])
    facts = [part for job in jobs if (part := checked[job][1]) is not None]
    findings = Facts.merged(facts).findings(plan.info.schema, _splits(plan))
    if findings and strict:
        raise DataError.of(finding_problems(findings[:MAX_PROBLEMS], plan.info.uri))
    for finding in findings[:SHOWN]:
        log.warning("convert: %s", finding)
    if len(findings) > SHOWN:
        log.warning("convert: and %d more; `tendon inspect` lists them", len(findings) - SHOWN)


def _check_jobs(
    source: Source, plan: ConversionPlan, uri: str, jobs: list[range]
) -> Iterator[tuple[range, tuple[list[Problem], Facts | None]]]:
    context = WorkerContext(source, plan, open_store(uri))
    for job in jobs:
        yield job, _check_some(context, job)


def _check_some(context: WorkerContext, numbers: range) -> tuple[list[Problem], Facts | None]:
    problems: list[Problem] = []
    episodes = []
    schema = context.plan.info.schema
    for i in numbers:
        episode, unreadable = checked_read(context.source, context.plan.episodes[i].episode_id, schema)
        problems += unreadable
        episodes += [episode] if episode is not None else []
        context.count(1)
    return problems, Facts.of(episodes, schema.fps) if episodes else None


def _splits(plan: ConversionPlan) -> dict[str, list[str]]:
    ids_by_split: dict[str, list[str]] = {}
    for episode in plan.episodes:
        for split in episode.splits:
            ids_by_split.setdefault(split, []).append(episode.episode_id)
    return ids_by_split


def _receipts(store: Store, plan: ConversionPlan) -> dict[int, Receipt]:
    """Receipts of shards that are whole in the store."""
    listed = {info.key for info in store.list("_work/")}
    numbers = [n for n in range(len(plan.shards)) if _receipt_key(n) in listed]
    if not numbers:
        return {}
    sizes = {info.key: info.size for info in store.list("shards/")}
    with ThreadPoolExecutor(READERS) as pool:
        receipts = list(pool.map(lambda n: Receipt.from_bytes(store.read(_receipt_key(n))), numbers))
    return {
        n: receipt
        for n, receipt in zip(numbers, receipts, strict=True)
        if receipt is not None and sizes.get(receipt.shard.key) == receipt.shard.bytes
    }


def _split_totals(plan: ConversionPlan) -> dict[str, SplitTotals]:
    lengths: dict[str, list[int]] = {}
    for episode in plan.episodes:
        for split in episode.splits:
            lengths.setdefault(split, []).append(episode.length)
    return {split: SplitTotals(len(each), sum(each)) for split, each in sorted(lengths.items())}


def _receipt_key(n: int) -> str:
    return f"_work/{n:06d}.receipt"
