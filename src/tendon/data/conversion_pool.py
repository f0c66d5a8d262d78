"""The processes of a conversion: ``pool.run(function, jobs)`` runs jobs here or in N processes, results as they finish.

``function(context, job)`` gets what its process opened once. A job (never None) is taken from the iterator only when a
process is free for it, so that the iterator can decide late. A process that dies raises Interrupted; a TendonError keeps
its four lines. Processes end with their parent, also when it is killed. Called by convert.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

from tendon.data.plan import ConversionPlan
from tendon.data.sources.source import Source
from tendon.data.tario import ShardWriter
from tendon.errors import DataError, Interrupted, Problem, TendonError
from tendon.storage import Store, open_store

J = TypeVar("J")
R = TypeVar("R")
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
POLL_S = 0.5  # between two reports of the steps done


@dataclass
class WorkerContext:
    """What a process opens once for all its jobs. ``count(n)`` reports n more steps to the parent."""

    source: Source
    plan: ConversionPlan
    store: Store
    writer: ShardWriter = field(default_factory=ShardWriter)
    count: Callable[[int], None] = field(default=lambda steps: None)


class ConversionPool:
    """One process or several; a context manager."""

    def __init__(self, source: Source, plan: ConversionPlan, uri: str, workers: int) -> None:
        self.source, self.plan, self.uri, self.workers = source, plan, uri, workers
        self._pool: ProcessPoolExecutor | None = None
        self._counter: Any = None
        self._processes: list[Any] = []

    def __enter__(self) -> ConversionPool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(
        self, function: Callable[[WorkerContext, J], R], jobs: Iterable[J], count: Callable[[int], None] | None = None
    ) -> Iterator[tuple[J, R]]:
        """Yield each job with its result, in the order they finish. ``count`` is called with steps as they are done.

        Raises:
            Interrupted: a process was killed.
            TendonError: the first error that ``function`` raised.
        """
        report = count or (lambda steps: None)
        if self.workers <= 1:
            context = WorkerContext(self.source, self.plan, open_store(self.uri), count=report)
            for job in jobs:
                yield job, function(context, job)
            return
        pool = self._started()
        self._processes = []
        remaining = iter(jobs)
        waiting: dict[Future[Any], J] = {}
        reported = self._counter.value
        more = True
        while more or waiting:
            while (
                more and len(waiting) <= self.workers
            ):  # one more than there are processes: none waits for its next job
                next_job: J | None = next(remaining, None)
                more = next_job is not None
                if next_job is not None:
                    waiting[pool.submit(_run_job, function, next_job)] = next_job
            self._processes = list((pool._processes or {}).values()) or self._processes  # gone after a crash
            done, _ = wait(waiting, POLL_S, FIRST_COMPLETED)
            report(self._counter.value - reported)
            reported = self._counter.value
            for future in done:
                job = waiting.pop(future)
                yield job, self._result(future, job)

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # spawn: a fork would copy open HDF5 files and the locks of other threads
            context = multiprocessing.get_context("spawn")
            self._counter = context.Value("q", 0)
            first = (self.source, self.plan, self.uri, self._counter)
            self._pool = ProcessPoolExecutor(self.workers, context, _open_context, first)
        return self._pool

    def _crash(self) -> str:
        """The signal of a process that a file's parser brought down; empty where something outside ended it."""
        for process in self._processes:
            process.join(1)
        codes = [process.exitcode for process in self._processes]
        return next((signal.Signals(-code).name for code in codes if code is not None and -code in CRASHES), "")

    def _result(self, future: Future[Any], job: object) -> Any:
        try:
            result = future.result()
        except BrokenProcessPool as error:
            if crash := self._crash():
                raise DataError(
                    f"a file of demonstrations cannot be read by {getattr(self.source, 'parser', '') or 'its parser'}",
                    where=f"{self.source.uri}, about {job}",
                    why=f"it ended the process that read it: {crash}",
                    fix="copy or record it again; data.skip_episodes leaves episodes out",
                ) from error
            raise Interrupted(
                "a converter process was killed",
                where=f"{self.uri}, about {job}",
                why="something ended it from outside, most often because memory ran out",
                fix="run the same command again, with fewer workers if it happens twice: finished shards are kept",
            ) from error
        if isinstance(result, _WorkerError):
            raise result.kind.of(result.problems)
        return result


@dataclass(frozen=True)
class _WorkerError:
    """A TendonError on its way out of a process."""

    kind: type[TendonError]
    problems: tuple[Problem, ...]


_context_of_process: list[WorkerContext] = []  # set once in a worker process, never in the parent


def _open_context(source: Source, plan: ConversionPlan, uri: str, counter: Any) -> None:
    def count(steps: int) -> None:
        with counter.get_lock():
            counter.value += steps

    _context_of_process[:] = [WorkerContext(source, plan, open_store(uri), count=count)]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(75)


def _run_job(function: Callable[[WorkerContext, Any], Any], job: Any) -> Any:
    try:
        return function(_context_of_process[0], job)
    except TendonError as error:
        return _WorkerError(type(error), error.problems)
