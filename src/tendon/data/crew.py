"""Work spread over processes: ``crew.run(function, jobs)`` here or in N others, results in the order they finish.

``function(place, job)`` gets what every process opened once. Jobs (never None) are drawn from their iterator only
when a process is free, so that it may decide late. A process that dies is an Interrupted; a TendonError keeps its four lines; processes
end with their parent, also when that is killed. Called by convert.
"""

from __future__ import annotations

import multiprocessing
import os
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
from tendon.errors import Interrupted, Problem, TendonError
from tendon.storage import Store, open_store

J = TypeVar("J")
R = TypeVar("R")
POLL_S = 0.5  # between two looks at the counter of steps


@dataclass
class Place:
    """What work finds in its process; ``count`` tells the parent of so many more steps."""

    source: Source
    plan: ConversionPlan
    store: Store
    writer: ShardWriter = field(default_factory=ShardWriter)
    count: Callable[[int], None] = field(default=lambda steps: None)


class Crew:
    """One process or several; a context manager."""

    def __init__(self, source: Source, plan: ConversionPlan, uri: str, workers: int) -> None:
        self.source, self.plan, self.uri, self.workers = source, plan, uri, workers
        self._pool: ProcessPoolExecutor | None = None
        self._counter: Any = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(
        self, function: Callable[[Place, J], R], jobs: Iterable[J], count: Callable[[int], None] | None = None
    ) -> Iterator[tuple[J, R]]:
        """Jobs with their results; ``count`` is told of steps as they are done.

        Raises:
            Interrupted: a process was killed.
            TendonError: what ``function`` raised, first come.
        """
        told = count or (lambda steps: None)
        if self.workers <= 1:
            place = Place(self.source, self.plan, open_store(self.uri), count=told)
            for job in jobs:
                yield job, function(place, job)
            return
        pool = self._started()
        drawn = iter(jobs)
        waiting: dict[Future[Any], J] = {}
        seen = self._counter.value
        more = True
        while more or waiting:
            while more and len(waiting) <= self.workers:  # one is always at hand when a process gets free
                drawn_one: J | None = next(drawn, None)
                more = drawn_one is not None
                if drawn_one is not None:
                    waiting[pool.submit(_work, function, drawn_one)] = drawn_one
            done, _ = wait(waiting, POLL_S, FIRST_COMPLETED)
            told(self._counter.value - seen)
            seen = self._counter.value
            for future in done:
                job = waiting.pop(future)
                yield job, self._result(future, job)

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # spawn: a fork would copy open HDF5 files and the locks of other threads
            context = multiprocessing.get_context("spawn")
            self._counter = context.Value("q", 0)
            first = (self.source, self.plan, self.uri, self._counter)
            self._pool = ProcessPoolExecutor(self.workers, context, _start, first)
        return self._pool

    def _result(self, future: Future[Any], job: object) -> Any:
        try:
            result = future.result()
        except BrokenProcessPool as error:
            raise Interrupted(
                "a converter process was killed",
                where=f"{self.uri}, about {job}",
                why="something ended it from outside, most often because memory ran out",
                fix="run the same command again, with fewer workers if it happens twice: finished shards are kept",
            ) from error
        if isinstance(result, _Failure):
            raise result.kind.of(result.problems)
        return result


@dataclass(frozen=True)
class _Failure:
    """A TendonError on its way out of a process."""

    kind: type[TendonError]
    problems: tuple[Problem, ...]


_here: list[Place] = []  # set once in a process of the crew, never in the parent


def _start(source: Source, plan: ConversionPlan, uri: str, counter: Any) -> None:
    def count(steps: int) -> None:
        with counter.get_lock():
            counter.value += steps

    _here[:] = [Place(source, plan, open_store(uri), count=count)]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(75)


def _work(function: Callable[[Place, Any], Any], job: Any) -> Any:
    try:
        return function(_here[0], job)
    except TendonError as error:
        return _Failure(type(error), error.problems)
