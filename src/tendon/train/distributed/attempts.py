"""Training in a child process: what kills it is the outcome of its trial, and the step that waits for it lives on.

The step's own process imports no torch, so it is small, starts at once and hands SIGTERM on without delay: on a cluster
one second is all there is to save. Called by steps.train_trials.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from tendon import fork_server
from tendon.config.compose import to_dict
from tendon.config.schema import TrainConfig
from tendon.errors import (
    ConfigError,
    DataError,
    Interrupted,
    MissingDependency,
    Problem,
    StorageError,
    TendonError,
)
from tendon.train.state.pause import environment, find_result
from tendon.train.state.status import TrainResult
from tendon.train.watch.memory_watch import MemoryWatch

logger = logging.getLogger(__name__)

ERRORS: dict[int, type[TendonError]] = {
    error.exit_code: error for error in (ConfigError, DataError, StorageError, MissingDependency, Interrupted)
}
HOPELESS = (ConfigError, DataError, MissingDependency)  # another try would end the same way
POLL_S = 0.1
LONGEST_PAUSE_S = 30.0

TrainFunction = Callable[..., object]
Process: TypeAlias = "subprocess.Popen[bytes] | fork_server.Child"
TRIAL_PROCESS = "tendon.train.distributed.trial_process"


class StopRequest:
    """The wish to stop that came to this process, and the children that it is handed to."""

    def __init__(self) -> None:
        self.requested = ""  # the signal's name
        self.children: set[Process] = set()  # several trials may train side by side

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Hand the signal on at once; a second Ctrl-C ends the child without saving."""
        is_second_ctrl_c = bool(self.requested) and number == signal.SIGINT
        self.requested = signal.Signals(number).name
        for child in tuple(self.children):
            child.send_signal(signal.SIGKILL if is_second_ctrl_c else signal.SIGTERM)
        if is_second_ctrl_c:
            raise KeyboardInterrupt


_stops = threading.local()


@contextmanager
def forwarding_stops() -> Iterator[StopRequest]:
    """Within: SIGTERM and Ctrl-C go to the training that runs, and no other is begun."""
    stops, before = StopRequest(), {}
    if threading.current_thread() is threading.main_thread():  # Python delivers signals there only
        before = {number: signal.signal(number, stops.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    _stops.now = stops
    try:
        yield stops
    finally:
        _stops.now = None
        for number, handler in before.items():
            signal.signal(number, handler)


def train_in_child(
    config: TrainConfig,
    dataset_uri: str,
    trial_uri: str,
    train: TrainFunction,
    *,
    retries: int,
    memory: MemoryWatch | None = None,
    stops: StopRequest | None = None,
    is_over: Callable[[], bool] = lambda: False,
    pause_at: int = 0,
) -> TrainResult:
    """Train in a child process, and again when it died; its result, or the error of its last try.

    Args:
        config: The effective configuration.
        dataset_uri: A converted dataset.
        trial_uri: Where the trial is kept.
        train: A function at the top of a module that trains ``config``, ``dataset_uri`` into ``trial_uri``.
        retries: How many further tries a death, a refusing store or an interruption from inside is worth.
        memory: Watches the memory of this container.
        stops: The wish to stop that this thread hands on; of the main thread when left out.
        pause_at: The step at which to pause; 0: never.
        is_over: Asked ten times a second; once it says so, the child saves and leaves.

    Raises:
        Interrupted: This process was told to stop, or it is over; the child has saved.
        TendonError: What ended the last try.
    """
    finished = find_result(trial_uri, pause_at)
    if finished is not None:
        logger.info("train: found finished in %s", finished.checkpoint_uri)
        return finished
    stops = stops or getattr(_stops, "now", None) or StopRequest()
    for attempt in range(retries + 1):
        if is_over():
            raise _over(trial_uri)
        error = _attempt(config, dataset_uri, trial_uri, train, stops, memory or MemoryWatch(), is_over, pause_at)
        if stops.requested:
            raise _stopped(stops.requested, trial_uri, error)
        if error is not None and not isinstance(error, HOPELESS) and is_over():
            raise error if isinstance(error, Interrupted) else _over(trial_uri)
        finished = find_result(trial_uri, pause_at) if error is None else None
        if finished is not None:
            return finished
        error = error or _silent(trial_uri, "it ended without a word and without a finished trial")
        if isinstance(error, HOPELESS) or attempt == retries:
            raise _given_up(error, attempt + 1)
        logger.warning("train: try %d of %d ended, it is tried again\n%s", attempt + 1, retries + 1, error)
        _pause(min(LONGEST_PAUSE_S, 2.0**attempt), stops)
    raise AssertionError("unreachable")


def _attempt(
    config: TrainConfig,
    dataset_uri: str,
    trial_uri: str,
    train: TrainFunction,
    stops: StopRequest,
    memory: MemoryWatch,
    is_over: Callable[[], bool],
    pause_at: int,
) -> TendonError | None:
    """One child process; the error that ended it, None when it ended well."""
    with tempfile.TemporaryDirectory(prefix="tendon-trial-") as folder:
        job = {
            "parent": os.getpid(),
            "config": to_dict(config),
            "dataset_uri": dataset_uri,
            "trial_uri": trial_uri,
            "train": f"{train.__module__}:{getattr(train, '__qualname__', '')}",
        }
        Path(folder, "job.json").write_text(json.dumps(job))
        if stops.requested:
            return None
        process = _start(folder, environment(pause_at))
        stops.children.add(process)
        try:
            if stops.requested:  # the signal came before there was a child to hand it to
                process.send_signal(signal.SIGTERM)
            out_of_memory = _wait(process, memory, is_over)
        finally:
            stops.children.discard(process)
            if process.poll() is None:
                process.kill()
                process.wait()
        return _error_of(process.wait(), Path(folder), trial_uri, out_of_memory)


def _start(folder: str, environment: dict[str, str]) -> Process:
    """The process of a trial, in a session of its own: Ctrl-C goes through us. A fork where a server is near."""
    with open(os.devnull, encoding="utf-8") as nothing:
        streams = (nothing.fileno(), 1, 2)
        fork = fork_server.start_module(TRIAL_PROCESS, [folder], environment, streams, imports=fork_server.WORK)
    return fork or subprocess.Popen(
        [sys.executable, "-m", TRIAL_PROCESS, folder], env=environment, start_new_session=True
    )


def _wait(process: Process, memory: MemoryWatch, is_over: Callable[[], bool]) -> str:
    """Until the child ends; what its memory was when it was killed for it, else nothing. When it is over, it is told to save."""
    killed_at, was_told = "", False
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            break
        if not was_told and is_over():
            was_told = True
            process.send_signal(signal.SIGTERM)
        if not killed_at and memory.is_full():
            killed_at = memory.describe()
            logger.error("train: this container is out of memory (%s): the training is killed", killed_at)
            process.kill()
    return killed_at or (memory.describe() if memory.was_full() else "")


def _error_of(exit_code: int, folder: Path, trial_uri: str, out_of_memory: str) -> TendonError | None:
    if exit_code == 0:
        return None
    if out_of_memory:
        return TendonError(
            "the training took more memory than its container has",
            where=trial_uri,
            why=f"{out_of_memory} were in use when it was killed",
            fix="raise cluster_memory_train, or lower training.batch_size; the next try resumes",
        )
    report = folder / "error.json"
    if report.exists():
        facts: dict[str, Any] = json.loads(report.read_text())
        error = ERRORS.get(facts["exit_code"], TendonError).of([Problem(**problem) for problem in facts["problems"]])
        error.exit_code = facts["exit_code"]
        return error
    if exit_code < 0:
        return _silent(trial_uri, f"it was killed by {_signal_name(-exit_code)}")
    return _silent(trial_uri, f"it left with exit code {exit_code} and without a word")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _silent(trial_uri: str, why: str) -> TendonError:
    return TendonError(
        "the process of the training died",
        where=trial_uri,
        why=f"{why}; its last lines are in the log of this step",
        fix="start the same run again: it resumes; SIGKILL mostly means too little memory: raise cluster_memory_train",
    )


def _given_up(error: TendonError, tries: int) -> TendonError:
    """The last error as it is kept: an interruption that nobody asked for is a failure by now."""
    if tries == 1 and not isinstance(error, Interrupted):
        return error
    problems = [
        Problem(problem.what, problem.where, f"{problem.why} (tried {tries} times)", problem.fix)
        for problem in error.problems
    ]
    kind = TendonError if isinstance(error, Interrupted) else type(error)
    return kind.of(problems)


def _stopped(name: str, trial_uri: str, error: TendonError | None) -> Interrupted:
    if isinstance(error, Interrupted):
        return error
    return Interrupted(
        "training was interrupted",
        where=trial_uri,
        why=f"{name} came; what was saved before is kept",
        fix="run the same command again: it resumes",
    )


def _over(trial_uri: str) -> Interrupted:
    return Interrupted(
        "training was stopped",
        where=trial_uri,
        why="its time is up; what was saved before is kept",
        fix="give the run more and start it again: it resumes",
    )


def _pause(seconds: float, stops: StopRequest) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stops.requested:
        time.sleep(POLL_S)
