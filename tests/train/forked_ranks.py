"""The small trial in several processes, forked from one that has imported torch instead of started by torchrun.

EVENT of a rank: ``kill`` SIGKILL, ``term`` SIGTERM, ``hang`` a sleep without end, each when it asks for batch NUMBER;
``nan`` a value of its share of that batch.
STRIKE: a signal from outside to one rank, some seconds after the first batch was asked for.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np

from tendon.errors import TendonError, reported
from tests.train.killed_trial import FORKSERVER
from tests.train.small_trial import MemoryLoader, run


@dataclass(frozen=True)
class Strike:
    """A signal to a rank."""

    rank: int
    signal: signal.Signals
    after_s: float


def run_ranks(
    uri: object,
    num_ranks: int = 2,
    events: dict[int, tuple[str, int]] | None = None,
    strike: Strike | None = None,
    step_s: float = 0.0,
    **training: Any,
) -> list[int]:
    """Exit codes by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    events = events or {}
    processes: list[ForkServerProcess] = [
        FORKSERVER.Process(target=_rank, args=(rank, num_ranks, port, str(uri), events.get(rank), step_s, training))
        for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    if strike is not None:
        _strike(processes, Path(str(uri)), strike)
    first = _first_ended(processes)
    for process in processes:  # what torchrun does when one has ended badly
        process.join(5 if first else 60)
        if process.is_alive():
            process.terminate()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in processes]


def _strike(processes: list[ForkServerProcess], uri: Path, strike: Strike) -> None:
    begun = uri / f"begun-{strike.rank}"
    while not begun.exists() and processes[strike.rank].is_alive():
        time.sleep(0.005)
    begun.unlink(missing_ok=True)
    time.sleep(strike.after_s)
    if processes[strike.rank].is_alive():
        os.kill(processes[strike.rank].pid or 0, strike.signal)


def _first_ended(processes: list[ForkServerProcess]) -> int:
    """The exit code of the first process that ended badly, or 0 when all ended well."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        codes = [process.exitcode for process in processes]
        if any(codes) or all(code == 0 for code in codes):
            return next((code for code in codes if code), 0)
        time.sleep(0.01)
    return 1


def _rank(
    rank: int,
    num_ranks: int,
    port: int,
    uri: str,
    event: tuple[str, int] | None,
    step_s: float,
    training: dict[str, Any],
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }

    os.makedirs(uri, exist_ok=True)
    os.dup2(os.open(f"{uri}/rank-{rank}.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    faulthandler.dump_traceback_later(120)

    def before_batch(k: int) -> None:
        if step_s:
            Path(uri, f"begun-{rank}").touch()
            time.sleep(step_s)
        if event is None or k != event[1]:
            return
        if event[0] == "hang":
            time.sleep(3600)
        if event[0] == "nan":
            return
        os.kill(os.getpid(), signal.SIGKILL if event[0] == "kill" else signal.SIGTERM)

    if event is not None and event[0] == "nan":
        _spoil(event[1])
    try:
        with reported("train"):
            run(uri, before_batch, num_gpus=num_ranks, **training)
    except TendonError as error:
        raise SystemExit(error.exit_code) from None


def _spoil(number: int) -> None:
    plain = MemoryLoader.batch

    def batch(self: MemoryLoader, k: int) -> dict[str, np.ndarray]:
        arrays = plain(self, k)
        return arrays | {"action": arrays["action"] * np.nan} if k == number and self.seed == 1 else arrays

    MemoryLoader.batch = batch  # type: ignore[method-assign]
