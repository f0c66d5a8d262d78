"""The nodes of a TrainJob wait for each other before torchrun starts: who is there is said every 30 s, who is missing is named.

torchrun itself waits in silence and ends without a name. Node 0 keeps a store (torch's TCPStore) beside torchrun's port for
as long as it trains; each node counts there while it waits. Called by launch.py; a stop ends the wait at once.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from tendon.errors import Interrupted
from tendon.logs import duration

logger = logging.getLogger(__name__)

SAY_EVERY_S = 30.0
LONGEST_S = 900.0
ALIVE_S = 10.0  # without a count a waiting node is gone
ASK_S = 0.5
CONNECT_S = 2.0


@dataclass(frozen=True)
class RollCall:
    """Which node this is, of how many, and where node 0 keeps the list."""

    rank: int
    size: int
    host: str
    port: int

    @classmethod
    def of_environment(cls) -> RollCall | None:
        """That of the PET_* variables; None on a single node."""
        size = int(os.environ.get("PET_NNODES", "1").split(":")[0])
        if size < 2:
            return None
        port = int(os.environ.get("PET_MASTER_PORT", "29500")) + 1
        return cls(
            int(os.environ.get("PET_NODE_RANK", "0")), size, os.environ.get("PET_MASTER_ADDR", "localhost"), port
        )

    def name(self, rank: int) -> str:
        """A node as people find it: its number, and its host where there is one."""
        host, _, domain = self.host.partition(".")
        return f"node {rank} ({host[:-1]}{rank})" if domain and host.endswith("0") else f"node {rank}"


@contextmanager
def all_nodes(roll: RollCall | None, stopped: Callable[[], str]) -> Iterator[None]:
    """Within: every node was there.

    Args:
        roll: The nodes; None when there is one only.
        stopped: The signal that came, empty when none did.

    Raises:
        Interrupted: A stop was asked for, or a node did not come.
    """
    store = _wait(roll, stopped) if roll is not None else None
    try:
        yield
    finally:
        del store  # node 0 kept the list for those who came late


def _wait(roll: RollCall, stopped: Callable[[], str]) -> TCPStore:
    began = said = time.monotonic()
    store: TCPStore | None = None
    counts: dict[int, tuple[int, float]] = {}  # of each node: its count, and when that changed
    while True:
        if name := stopped():
            raise _ended(f"training was stopped while it waited for {_missing(roll, counts)}", roll, f"{name} came")
        store = store or _connect(roll)
        if store is not None:
            try:
                _look(store, roll, counts)
                if not _absent(roll, counts):
                    store.set(f"go/{roll.rank}", "")
                    return store
            except RuntimeError:  # torch's DistError: node 0 is gone
                store, counts = None, {}
        now = time.monotonic()
        if now - began > LONGEST_S:
            raise _ended(
                f"{_missing(roll, counts)} did not come", roll, f"the others have waited for {duration(LONGEST_S)}"
            )
        if now - said > SAY_EVERY_S:
            said, here = now, roll.size - len(_absent(roll, counts))
            text = "%d of %d nodes are here after %s; missing: %s"
            logger.info("train: " + text, here, roll.size, duration(now - began), _missing(roll, counts))
        time.sleep(ASK_S)


def _connect(roll: RollCall) -> TCPStore | None:
    """The list that node 0 keeps; None while it is not there, or still that of a round in which this node was lost."""
    try:
        store = TCPStore(
            roll.host, roll.port, is_master=roll.rank == 0, timeout=timedelta(seconds=CONNECT_S), wait_for_workers=False
        )
        return None if store.check([f"go/{roll.rank}"]) else store
    except RuntimeError:
        return None


def _look(store: TCPStore, roll: RollCall, counts: dict[int, tuple[int, float]]) -> None:
    store.add(f"here/{roll.rank}", 1)
    for rank in range(roll.size):
        count = store.add(f"here/{rank}", 0)
        if store.check([f"go/{rank}"]):
            count = -1
        if counts.get(rank, (0, 0.0))[0] != count or count == -1:
            counts[rank] = (count, time.monotonic())


def _absent(roll: RollCall, counts: dict[int, tuple[int, float]]) -> list[int]:
    now = time.monotonic()
    return [
        rank for rank in range(roll.size) if rank != roll.rank and now - counts.get(rank, (0, -1e9))[1] > ALIVE_S
    ] + ([roll.rank] if roll.rank not in counts else [])


def _missing(roll: RollCall, counts: dict[int, tuple[int, float]]) -> str:
    others = [rank for rank in _absent(roll, counts) if rank != roll.rank]
    if 0 in others:
        return roll.name(0)  # without it nobody knows of the others
    return ", ".join(map(roll.name, others)) or "the list of node 0"


def _ended(what: str, roll: RollCall, why: str) -> Interrupted:
    return Interrupted(
        what,
        where=f"node {roll.rank} of {roll.size}",
        why=why,
        fix="run the same command again: it resumes; kubectl get pod shows what a node waits for",
    )
