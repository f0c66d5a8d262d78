"""The processes of the steps: started in a session of their own, listened to, stopped with one signal each.

In: the command kfp made for a task. Out: its exit code and what it said. Called by engine.py from one thread per task.
In a session of its own a step does not get the terminal's Ctrl-C: the run forwards one SIGTERM, on which it saves.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Protocol, TypeAlias

import tendon
from tendon import fork_server
from tendon.runs.failures import LOG

GRACE_S = 60.0
ERROR_LINE = "error: "
STEP = (  # what the server of a run imports before its first step; what work needs is asked for where there is work
    "numpy",
    "hydra.initialize",
    "hydra.core.override_parser.overrides_parser",
    "tendon.runner.executor",
    "tendon.steps",
    "tendon.runs.planner",
    "tendon.config.policies:policy_configs",
)
LATER = ("tendon.report.failure_page",)  # what it imports while the first step works: the last one needs it
Process: TypeAlias = "subprocess.Popen[bytes] | fork_server.Child"


@dataclass(frozen=True)
class Finished:
    """How a step process ended; ``words`` are the lines it wrote to standard error."""

    exit_code: int
    words: tuple[str, ...]
    log: Path


class Stoppable(Protocol):
    """What runs the steps: Processes here, Containers for docker."""

    stopping: bool

    def stop(self, *, at_once: bool = False) -> None:
        """Ask every running step to save and leave; ``at_once`` does not ask."""


class Processes:
    """The step processes that run now, and the wish to stop them."""

    def __init__(self, forks: str = "") -> None:
        """``forks``: the folder of a fork server that steps come from; without one each is a new interpreter."""
        self.stopping = False
        self.forks = forks
        self._running: set[Process] = set()
        self._lock = threading.RLock()  # the signal handler may interrupt the thread that holds it
        self._has_begun = False
        fork_server.warm_up(STEP, forks)

    def run(self, command: Sequence[str], environment: dict[str, str], say: Callable[[str], None]) -> Finished:
        """Run kfp's command for one task to its end; ``say`` gets every progress line as it comes."""
        folder = task_folder(command)
        folder.mkdir(parents=True, exist_ok=True)
        words: list[str] = []
        with (folder / "log.txt").open("w", encoding="utf-8") as log:
            process, stdout, stderr = self._start(
                _direct(command, folder), {**environment, LOG: str(folder / "log.txt")}
            )
            readers = [
                threading.Thread(target=_listen, args=(stdout, log, None), daemon=True),
                threading.Thread(target=_listen, args=(stderr, log, forward(words, say)), daemon=True),
            ]
            for reader in readers:
                reader.start()
            exit_code = process.wait()
            with self._lock:
                self._running.discard(process)
            _kill_group(process)  # what the step left behind would keep our pipes open
            for reader in readers:
                reader.join(timeout=5)
        return Finished(exit_code, tuple(words), folder / "log.txt")

    def stop(self, *, at_once: bool = False) -> None:
        """Ask every running step to save and leave; ``at_once`` does not ask."""
        self.stopping = True
        with self._lock:
            running = list(self._running)
        for process in running:
            if at_once:
                _kill_group(process)
            else:
                process.terminate()

    def _start(self, command: Sequence[str], environment: dict[str, str]) -> tuple[Process, IO[str], IO[str]]:
        """The process with what it says on standard output and on standard error."""
        (stdout, out), (stderr, error) = os.pipe(), os.pipe()
        try:
            process = self._spawn(command, _environment(environment, self.forks), (out, error))
            with self._lock:
                self._running.add(process)
                is_first, self._has_begun = not self._has_begun, True
            if is_first:
                fork_server.warm_up(LATER, self.forks)
        finally:
            os.close(out)
            os.close(error)
        if self.stopping:
            process.terminate()
        said, complained = (os.fdopen(fd, encoding="utf-8", errors="replace") for fd in (stdout, stderr))
        return process, said, complained

    def _spawn(self, command: Sequence[str], environment: dict[str, str], outputs: tuple[int, int]) -> Process:
        """A fork of the server where there is one, a new interpreter elsewhere."""
        out, error = outputs
        if self.forks and list(command[:2]) == [sys.executable, "-m"]:
            with open(os.devnull, encoding="utf-8") as nothing:
                fork = fork_server.start_module(
                    command[2],
                    command[3:],
                    environment,
                    (nothing.fileno(), out, error),
                    imports=STEP,
                    folder=self.forks,
                )
            if fork is not None:
                return fork
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=error, start_new_session=True
        )


@contextmanager
def signals_stop(processes: Stoppable) -> Iterator[None]:
    """Within: the first Ctrl-C or SIGTERM lets the steps save, the second (or a minute) ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        again = processes.stopping
        processes.stop(at_once=again)
        if not again:
            os.write(2, b"stopping: the running steps save their work (Ctrl-C again to end them at once)\n")
            timer = threading.Timer(GRACE_S, processes.stop, kwargs={"at_once": True})
            timer.daemon = True
            timer.start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _direct(command: Sequence[str], folder: Path) -> list[str]:
    """Kfp's command without its shell: the component goes to the task folder instead of a left-over temporary one."""
    if not (list(command[:2]) == ["sh", "-ec"] and "kfp.dsl.executor_main" in command[2]):
        return list(command)
    component = folder / "ephemeral_component.py"
    component.write_text(command[3], encoding="utf-8")
    request = {"parent": os.getpid(), "component": str(component), "arguments": list(command[4:])}
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    return [sys.executable, "-m", "tendon.runner.child", str(folder / "request.json")]


def task_folder(command: Sequence[str]) -> Path:
    """Where kfp expects what the task makes."""
    executor_input = json.loads(command[list(command).index("--executor_input") + 1])
    return Path(executor_input["outputs"]["outputFile"]).parent


def _environment(extra: dict[str, str], forks: str) -> dict[str, str]:
    """Our own environment, with this very tendon first on the path of the step, and the folder of the fork servers."""
    source = str(Path(tendon.__file__).resolve().parents[1])
    path = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    near = {fork_server.VARIABLE: forks} if forks else {}
    return {**os.environ, "PYTHONUNBUFFERED": "1", **near, **extra, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


def _listen(stream: IO[str], log: IO[str], hear: Callable[[str], None] | None) -> None:
    for line in stream:
        with suppress(ValueError):  # the log is closed: a process that was left behind still talks
            log.write(line)
            log.flush()
        if hear is not None:
            hear(line.rstrip("\n"))


def forward(words: list[str], say: Callable[[str], None]) -> Callable[[str], None]:
    """Keep every line; pass the progress on, but not the four lines of an error: the run shows those at its end."""

    def hear(line: str) -> None:
        words.append(line)
        in_error = any(word.startswith(ERROR_LINE) for word in words[-12:])
        listed = line[:1].isspace() or line.endswith(":")  # a heading and its list: the whole configuration, say
        if line.strip() and not in_error and not listed:
            say(line)

    return hear


def _kill_group(process: Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
