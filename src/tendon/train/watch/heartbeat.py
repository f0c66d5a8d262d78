"""Signs of life: heartbeat.json for whoever watches the pod, and the end of a run whose processes wait for one for ever.

A thread of each process tells torchrun's store where its loop is. When a loop has not moved for ``rank_timeout_s``, the
process that is furthest behind, or no longer speaks, is the one that hangs: its name is reported and the run ends (75).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from tendon.config.digest import running_pod
from tendon.errors import Interrupted, TendonError
from tendon.storage.json_values import read_note
from tendon.storage.store import Store
from tendon.train.distributed.ranks import World

logger = logging.getLogger(__name__)
HEARTBEAT = "heartbeat.json"
HEARTBEAT_EVERY_S = 30.0
STAGES = ("start", "data", "forward", "backward", "agree", "judge", "save")  # in the order of a step
PATIENT = ("start", "judge", "save")  # others may wait for these as long as they take


@dataclass(frozen=True)
class Beat:
    """Where the loop of one process is, and when its thread last said so."""

    rank: int
    step: int
    stage: int
    age_s: float


class Heartbeat:
    """``with Heartbeat(...) as heartbeat``: the loop calls ``heartbeat.at(step, stage)``."""

    def __init__(self, store: Store, world: World, timeout_s: float, end: Callable[[TendonError], None]) -> None:
        """``end``: leaves the process with an error, from the thread."""
        self._store, self._world, self._timeout_s, self._end = store, world, timeout_s, end
        self._now, self._moved_at = (0, 0), time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._every_s = min(1.0, timeout_s / 5) if world.is_many else HEARTBEAT_EVERY_S

    def at(self, step: int, stage: str) -> None:
        """The loop is there now."""
        self._now, self._moved_at = (step, STAGES.index(stage)), time.monotonic()

    @property
    def step(self) -> int:
        """The step the loop is at."""
        return self._now[0]

    def __enter__(self) -> Heartbeat:
        if self._world.is_first:
            _report_last(self._store)
            self._write("running")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._world.is_first:
            self._write("ended" if error is None else f"ended: {type(error).__name__}")

    def _run(self) -> None:
        said = _connect() if self._world.is_many else None
        written_at = time.monotonic()
        while not self._stop.wait(self._every_s):
            if self._world.is_first and time.monotonic() - written_at >= HEARTBEAT_EVERY_S:
                self._write("running")
                written_at = time.monotonic()
            if said is not None and (error := self._checked(said)) is not None:
                self._end(error)

    def _checked(self, said: TCPStore) -> TendonError | None:
        """Say where we are; when we have waited too long, why."""
        waited_too_long = time.monotonic() - self._moved_at > self._timeout_s
        step, stage = self._now
        try:
            said.set(f"beat/{self._world.rank}", f"{step} {stage} {time.time()}")
            late = self._late(said) if waited_too_long else None
        except RuntimeError:  # torch's DistError: whoever keeps the store is gone
            return _lost(step) if waited_too_long else None
        return _hung(late, self._timeout_s) if late is not None else None

    def _late(self, said: TCPStore) -> Beat | None:
        """Who hangs, or nobody when the others wait for something that may take long."""
        beats = []
        for rank in range(self._world.size):
            key = f"beat/{rank}"
            step, stage, at = said.get(key).split() if said.check([key]) else (b"0", b"0", b"0")
            beats.append(Beat(rank, int(step), int(stage), time.time() - float(at)))
        late = furthest_behind(beats, silent_s=max(3 * self._every_s, self._timeout_s / 2))
        is_silent = late.age_s > max(3 * self._every_s, self._timeout_s / 2)
        return None if not is_silent and STAGES[late.stage] in PATIENT else late

    def _write(self, state: str) -> None:
        step, stage = self._now
        beat = {
            "state": state,
            "step": step,
            "stage": STAGES[stage],
            "at": time.time(),
            "every_s": HEARTBEAT_EVERY_S,
            "host": _host(),
            "pid": os.getpid(),
            "num_processes": self._world.size,
        }
        try:
            self._store.write(HEARTBEAT, (json.dumps(beat) + "\n").encode())
        except TendonError as error:  # a sign of life that fails is no reason to die
            logger.warning("train: no heartbeat written: %s", error.problems[0].why)


def furthest_behind(beats: Sequence[Beat], silent_s: float) -> Beat:
    """A process that no longer speaks, else the one whose loop is at the earliest place."""
    return min(beats, key=lambda beat: (beat.age_s <= silent_s, beat.step, beat.stage, beat.rank))


def _connect() -> TCPStore:
    """A connection of the thread's own to the store that torchrun keeps."""
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)


def _hung(late: Beat, timeout_s: float) -> Interrupted:
    return Interrupted(
        f"process {late.rank} of the training hangs",
        where=f"rank {late.rank}, step {late.step}, stage {STAGES[late.stage]}",
        why=f"the others have waited for it longer than {timeout_s:g} s (it last spoke {late.age_s:.0f} s ago)",
        fix="run the same command again: it resumes; look at that rank's node, or raise training.rank_timeout_s",
    )


def _lost(step: int) -> Interrupted:
    return Interrupted(
        "another process of the training is gone",
        where=f"step {step}",
        why="the store through which the processes speak does not answer",
        fix="run the same command again: it resumes",
    )


def _host() -> str:
    """The pod, or the machine: all training pods of a run share one hostname, which is cut at 63 characters."""
    return running_pod() or socket.gethostname()


def _report_last(store: Store) -> None:
    """Say how the last attempt ended, if it could not say so itself."""
    beat = read_note(store, HEARTBEAT)
    is_whole = all(isinstance(beat.get(key), (int, float)) for key in ("at", "every_s", "pid", "step"))
    if not is_whole or beat.get("state") != "running" or "host" not in beat:
        return
    age = time.time() - beat["at"]
    if age < 2 * beat["every_s"] and (beat["host"], beat["pid"]) != (_host(), os.getpid()):
        alive = "it may still run there" if beat["host"] != _host() else "it was killed, or still runs"
        logger.warning(
            "train: process %d on %s was at step %d %.0f s ago: %s", beat["pid"], beat["host"], beat["step"], age, alive
        )
    else:
        logger.warning(
            "train: the last attempt was lost near step %d, %.0f s ago on %s", beat["step"], age, beat["host"]
        )
