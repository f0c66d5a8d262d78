"""Worker processes that make batches in shared memory, so that the training loop has its interpreter to itself.

Worker n makes every N-th batch into memory that both processes map; nothing is copied on the way. Workers end with their
parent, however that ends. Called by iterator.py when ``LoaderResources.processes`` is not 0.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import tempfile
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from tendon.errors import Interrupted
from tendon.loader.batch_maker import BatchMaker
from tendon.loader.choice import BatchRequest, LoaderResources
from tendon.loader.prefetcher import Batch, WaitMonitor


@dataclass(frozen=True)
class LoaderSpec:
    """What a worker needs to make the same batches: address of the dataset, settings, episodes known to be bad."""

    uri: str
    request: BatchRequest
    resources: LoaderResources
    bad: tuple[int, ...]


@dataclass
class SharedBuffer:
    """A batch buffer that this process and its workers map; ``path`` opens it in a worker."""

    path: str
    memory: mmap.mmap


class WorkerPool:
    """The batches from a position on, in order."""

    def __init__(self, maker: BatchMaker, samples: int) -> None:
        resources = maker.resources
        num, size = resources.processes, max(maker.buffer_bytes, mmap.PAGESIZE)
        budget = resources.memory_budget // num
        of_worker = replace(resources, processes=0, ahead=0, memory_budget=budget, pin=None)
        spec = LoaderSpec(maker.dataset.uri, maker.request, of_worker, tuple(maker.bad))
        self._maker, self._next_request, self._size = maker, samples, size
        self._wait_monitor = WaitMonitor(maker.meter)
        self._files: list[int] = []
        self._free: list[SharedBuffer] = []
        self._pending: deque[tuple[int, int, SharedBuffer]] = deque()  # process, position, memory
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(num):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, spec, self._size), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._turn = 0
        for _ in range(max(num, maker.shares.ring)):
            self._request_batch()

    def next(self) -> Batch:
        """The next batch."""
        began = time.monotonic()
        process, samples, shared = self._pending.popleft()
        try:
            answer = self._pipes[process].recv()
        except (EOFError, OSError):
            self._processes[process].join(5)
            raise Interrupted(
                "a process that makes batches has ended",
                where=f"loader, process {process}",
                why=f"its exit code is {self._processes[process].exitcode} (-9: killed, often for lack of memory)",
                fix="run the same command again: it continues exactly; give less memory_budget or fewer processes",
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        bad, seconds = answer
        self._maker.mark_bad(bad)
        for border, value in seconds.items():
            self._maker.meter.add(border, value)
        self._request_batch()
        whole = np.frombuffer(shared.memory, np.uint8)
        weakref.finalize(whole, self._free.append, shared).atexit = False
        batch = self._maker.viewed(samples, whole)
        self._wait_monitor.count(began)
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

    def _request_batch(self) -> None:
        shared = self._free.pop() if self._free else self._new_buffer()
        with suppress(OSError):  # the worker has ended: ``next`` raises when its batch is due
            self._pipes[self._turn].send((self._next_request, shared.path))
        self._pending.append((self._turn, self._next_request, shared))
        self._turn = (self._turn + 1) % len(self._pipes)
        self._next_request += self._maker.batch_size

    def _new_buffer(self) -> SharedBuffer:
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("tendon-batch")
            path = f"/proc/{os.getpid()}/fd/{file}"
        else:
            file, path = tempfile.mkstemp(prefix="tendon-batch-")
            weakref.finalize(self, Path(path).unlink, missing_ok=True)
        os.ftruncate(file, self._size)
        self._files.append(file)
        memory = mmap.mmap(file, self._size)
        if (pin := self._maker.resources.pin) is not None:
            pin(memoryview(memory))
        return SharedBuffer(path, memory)


def _serve(pipe: Connection, spec: LoaderSpec, size: int) -> None:
    """The main loop of a worker: it receives positions and fills buffers until the pipe closes."""
    from tendon.data.dataset import open_dataset

    try:
        maker = BatchMaker(open_dataset(spec.uri), spec.request, spec.resources)
        maker.mark_bad(spec.bad)
    except BaseException as error:
        pipe.send(error)
        return
    buffers: dict[str, mmap.mmap] = {}
    reported = dict(maker.meter.seconds)
    while True:
        try:
            samples, path = pipe.recv()
        except (EOFError, OSError):
            return
        if path not in buffers:
            with open(path, "r+b") as file:
                buffers[path] = mmap.mmap(file.fileno(), size)
        try:
            maker.share_into(samples, np.frombuffer(buffers[path], np.uint8))
            seconds = {name: value - reported[name] for name, value in maker.meter.seconds.items()}
            reported = dict(maker.meter.seconds)
            answer: object = (maker.bad, seconds)
        except BaseException as error:
            answer = error
        try:
            pipe.send(answer)
        except OSError:
            return
