"""The small trial in a process of its own, which dies as told. Processes are forked from one that has imported torch.

EVENT ``batch``: SIGKILL when batch NUMBER is asked for. ``write``: SIGKILL halfway through write NUMBER to the store.
``wait``: say so at batch NUMBER and go on slowly, so that a signal can come.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401 - torch imports it (a second) with the first optimiser: once, in the forking process

from tendon.errors import reported
from tendon.storage import local
from tests.train.small_trial import run

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["tests.train.killed_trial"])


def start_trial(uri: object, event: str, number: int, **training: Any) -> tuple[ForkServerProcess, Connection]:
    """The running process, and where it says that it waits."""
    here, there = FORKSERVER.Pipe(duplex=False)
    process = FORKSERVER.Process(target=_trial, args=(str(uri), event, number, there, training))
    process.start()
    return process, here


def _trial(uri: str, event: str, number: int, there: Connection, training: dict[str, Any]) -> None:
    def before_batch(k: int) -> None:
        if event == "batch" and k == number:
            _die()
        if event == "wait" and k >= number:
            there.send(k)
            time.sleep(0.2)

    if event == "write":
        die_in_write(number)
    with reported("train"):
        run(uri, before_batch, **training)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_write(number: int) -> None:
    """Leave half an object behind: the worst a store could do."""
    whole_write, whole_file, writes = local.LocalStore.write, local.LocalStore.put_file, []

    def half(store: local.LocalStore, key: str, data: bytes) -> None:
        writes.append(key)
        if len(writes) == number:
            path = store.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data[: len(data) // 2])
            _die()

    def write(store: local.LocalStore, key: str, data: bytes) -> None:
        half(store, key, data)
        whole_write(store, key, data)

    def put_file(store: local.LocalStore, key: str, path: Path) -> None:
        half(store, key, path.read_bytes())
        whole_file(store, key, path)

    local.LocalStore.write = write  # type: ignore[method-assign]
    local.LocalStore.put_file = put_file  # type: ignore[method-assign]
