"""Batches made by several processes in shared memory, so that the training loop keeps its interpreter to itself.

Batch n is made by process n modulo their number, into memory that both see; nothing is copied on the way. The processes
end when their parent does, however it does. Called by loader.py where ``Means.processes`` is not 0.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tendon.errors import Interrupted
from tendon.loader.ahead import Batch, Pace

if TYPE_CHECKING:
    from tendon.loader.loader import Loader


@dataclass(frozen=True)
class Recipe:
    """How a process makes the loader again."""

    uri: str
    arguments: Mapping[str, Any]
    state: Mapping[str, Any]


@dataclass
class Shared:
    """A slab that several processes see."""

    path: str
    memory: mmap.mmap


class Processes:
    """The batches from a position on, in order."""

    def __init__(self, loader: Loader, recipe: Recipe, samples: int, num: int, ahead: int, size: int) -> None:
        self._loader, self._next, self._asked, self._size = loader, samples, samples, max(size, mmap.PAGESIZE)
        self._pace = Pace(loader.meter)
        self._files: list[int] = []
        self._free: list[Shared] = []
        self._coming: deque[tuple[int, int, Shared]] = deque()  # process, position, memory
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(num):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, recipe, self._size), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._turn = 0
        for _ in range(max(num, ahead)):
            self._ask()

    def next(self) -> Batch:
        """The next batch."""
        began = time.monotonic()
        process, samples, shared = self._coming.popleft()
        try:
            found = self._pipes[process].recv()
        except (EOFError, OSError):
            self._processes[process].join(5)
            raise Interrupted(
                "a process that makes batches has ended",
                where=f"loader, process {process}",
                why=f"its exit code is {self._processes[process].exitcode} (-9: killed, often for lack of memory)",
                fix="run the same command again: it continues exactly; give less memory_budget or fewer processes",
            ) from None
        if isinstance(found, BaseException):
            raise found
        bad, seconds = found
        self._loader._learned(bad)
        for border, value in seconds.items():
            self._loader.meter.add(border, value)
        self._ask()
        whole = np.frombuffer(shared.memory, np.uint8)
        weakref.finalize(whole, self._free.append, shared).atexit = False
        batch = self._loader._viewed(samples, whole)
        self._pace.count(began)
        return batch

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(0.2)
            if process.is_alive():
                process.kill()
                process.join()
        for file in self._files:
            os.close(file)
        self._files.clear()

    def _ask(self) -> None:
        shared = self._free.pop() if self._free else self._made()
        with suppress(OSError):  # it has ended, which is said when its batch is due
            self._pipes[self._turn].send((self._asked, shared.path))
        self._coming.append((self._turn, self._asked, shared))
        self._turn = (self._turn + 1) % len(self._pipes)
        self._asked += self._loader.batch_size

    def _made(self) -> Shared:
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("tendon-batch")
            path = f"/proc/{os.getpid()}/fd/{file}"
        else:
            file, path = tempfile.mkstemp(prefix="tendon-batch-")
            weakref.finalize(self, Path(path).unlink, missing_ok=True)
        os.ftruncate(file, self._size)
        self._files.append(file)
        memory = mmap.mmap(file, self._size)
        if (pin := self._loader.means.pin) is not None:
            pin(memoryview(memory))
        return Shared(path, memory)


def _serve(pipe: Connection, recipe: Recipe, size: int) -> None:
    """What a process does: positions in, finished slabs out, until the pipe closes."""
    from tendon.data.dataset import open_dataset
    from tendon.loader.loader import Loader

    try:
        loader = Loader(open_dataset(recipe.uri), **recipe.arguments)
        loader.load_state(recipe.state)
    except BaseException as error:
        pipe.send(error)
        return
    slabs: dict[str, mmap.mmap] = {}
    said = dict(loader.meter.seconds)
    while True:
        try:
            samples, path = pipe.recv()
        except (EOFError, OSError):
            return
        if path not in slabs:
            with open(path, "r+b") as file:
                slabs[path] = mmap.mmap(file.fileno(), size)
        try:
            loader._share_into(samples, np.frombuffer(slabs[path], np.uint8))
            seconds = {name: value - said[name] for name, value in loader.meter.seconds.items()}
            said = dict(loader.meter.seconds)
            answer: object = (loader.state.get("bad", []), seconds)
        except BaseException as error:
            answer = error
        try:
            pipe.send(answer)
        except OSError:
            return
