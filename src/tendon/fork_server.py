"""Processes without the start of an interpreter: forks of a server that has already imported what they need.

In: a Request of source code, descriptors and variables; out: a Child, used like a subprocess.Popen. ``serving`` gives a
folder in which servers listen, one for the steps of a run and one for each simulator; TENDON_FORK_SERVER names it to
processes further down. Without one, and wherever a fork is not safe, ``start`` says None and a process is started as
ever. Only the standard library: simulators run this file by its path, in an interpreter of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "TENDON_FORK_SERVER"
ALIVE, SPENT = "alive", "cpu_s"  # files of the folder: a pipe that the owner holds open, CPU seconds of what ended
PR_SET_PDEATHSIG = 1
LISTEN_S = 20.0
NO_SERVER = (OSError, ValueError, subprocess.SubprocessError)
MAX_BYTES, MAX_FDS = 1 << 24, 16
PYTHON = "python"  # the server of this very interpreter
COMMAND = (sys.executable, "-c", "from tendon.fork_server import main; main()")
# What the steps that do the work of a run import, most of it torch. No CUDA is begun by an import.
WORK = (
    "pyarrow.compute",
    "pyarrow.parquet",
    "tendon.data.convert",
    "tendon.data.stats",
    "tendon.report.gather",
    "torch",
    "tendon.train.loop.training",
    "tendon.export.parity",
    "tendon.evaluate.table",
    "tendon.evaluate.rollout",
    "tendon.registry.confirmation",
)
DEVICES = ("/dev/nvidia", "/dev/dri")  # whoever has a graphics card open shares it with no fork
_server = {"pid": 0}  # in a fork: the server it comes from
_spent = {"cpu_s": 0.0}  # by forks that this process asked for


@dataclass(frozen=True)
class Request:
    """What a fork does: ``code`` with ``arguments`` as sys.argv[1:], where an int stands for one of the descriptors."""

    code: str
    arguments: tuple[str | int, ...]
    environment: Mapping[str, str]
    folder: str  # where it works
    prepare: str = ""  # code that the server runs before the first fork with it; what it raises is ignored
    alone: bool = False  # only of a server with a single thread, BLAS included


class Child:
    """A fork that runs: the part of subprocess.Popen that is used."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid, self.returncode = pid, None  # type: int, int | None
        self._connection, self._lock = connection, threading.RLock()  # a signal handler may ask again

    def poll(self) -> int | None:
        """The exit code, a negative signal number, or None while it runs."""
        return self._end(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; subprocess.TimeoutExpired when it takes longer."""
        code = self._end(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """To the process, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def _end(self, timeout_s: float | None) -> int | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.returncode is None:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._has_ended(left_s):
                return None
            with self._lock:  # a second thread that waits finds what the first one read
                if self.returncode is not None:
                    break
                said = _receive(self._connection)[0] or {"code": -signal.SIGKILL}  # the server died: so do its forks
                self._connection.close()
                if self.returncode is None:
                    _spent["cpu_s"] += said.get("cpu_s", 0.0)
                    self.returncode = int(said["code"])
        return self.returncode

    def _has_ended(self, timeout_s: float | None) -> bool:
        poll = select.poll()
        try:
            poll.register(self._connection.fileno(), select.POLLIN)
        except ValueError:  # closed by the thread that read the end
            return True
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def cpu_seconds() -> float:
    """CPU time of ended forks that this process asked for: the kernel counts them as the server's."""
    return _spent["cpu_s"]


def stop_with_parent(parent: int) -> bool:
    """SIGTERM comes to this process when ``parent``, which started it, is gone (Linux); False: it is gone already.

    A fork hears of it from its server.
    """
    if sys.platform != "linux":
        return True
    _die_with_parent()
    return os.getppid() in (parent, _server["pid"])


# -------------------------------------------------------------------------------------------------------- who wants a fork


@contextmanager
def serving() -> Iterator[str]:
    """A folder for servers, which end with it or with this process; empty where nothing is forked."""
    if sys.platform != "linux":
        yield ""
        return
    folder, before_s = tempfile.mkdtemp(prefix="tendon-forks-"), _spent["cpu_s"]
    os.mkfifo(f"{folder}/{ALIVE}")
    alive = os.open(f"{folder}/{ALIVE}", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(alive)
        with contextlib.suppress(OSError, ValueError):  # of all that was forked, also by forks
            _spent["cpu_s"] = before_s + sum(map(float, Path(folder, SPENT).read_text().split()))
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def nearby() -> Iterator[None]:
    """Within, ``start`` finds servers: those of the run that this process belongs to, or its own."""
    if os.environ.get(VARIABLE) or sys.platform != "linux":
        yield
        return
    with serving() as folder:
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            os.environ.pop(VARIABLE, None)


def start(
    request: Request,
    streams: tuple[int, int, int],
    *,
    name: str,
    command: Sequence[str],
    descriptors: Sequence[int] = (),
    folder: str = "",
    timeout_s: float | None = None,
) -> Child | None:
    """A process that is a fork, or None: no server is near, or it cannot fork.

    Args:
        request: What it does.
        streams: Its standard input, output and error.
        name: Of the server; one is started where none listens.
        command: Of that server, without its last arguments.
        descriptors: More that it gets.
        folder: Of the servers; that of the environment when left out.
        timeout_s: For the server to import what it should; None: as long as it takes.
    """
    folder = folder or os.environ.get(VARIABLE, "")
    if not folder or sys.platform != "linux":
        return None
    try:
        connection = _connect(folder, name, command, request.environment)
    except NO_SERVER:
        return None
    try:
        connection.settimeout(timeout_s)
        message = json.dumps(asdict(request) | {"environment": dict(request.environment)}).encode()
        socket.send_fds(connection, [len(message).to_bytes(4, "big")], [*streams, *descriptors])
        connection.sendall(message)
        said = _receive(connection)[0]
        connection.settimeout(None)
    except NO_SERVER:
        said = None
    if not said or "pid" not in said:
        connection.close()
        return None
    return Child(connection, int(said["pid"]))


def start_module(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    streams: tuple[int, int, int],
    *,
    imports: Sequence[str],
    folder: str = "",
) -> Child | None:
    """``python -m MODULE ARGUMENTS`` in a session of its own, with ``imports`` done; None where there is no server."""
    code = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    request = Request(code, tuple(arguments), environment, os.getcwd(), importing(imports))
    return start(request, streams, name=PYTHON, command=COMMAND, folder=folder)


def importing(names: Sequence[str]) -> str:
    """Code that imports modules, and calls what is named ``module:function`` so that its cache is filled."""
    return f"""
import contextlib, importlib
for name in {tuple(names)!r}:
    with contextlib.suppress(Exception):
        module, _, function = name.partition(":")
        found = importlib.import_module(module)
        if function:
            getattr(found, function)()
"""


def warm_up(imports: Sequence[str] = WORK, folder: str = "") -> None:
    """Let the server import what later steps need, while this process keeps another processor busy; nobody waits."""
    folder = folder or os.environ.get(VARIABLE, "")
    if folder:
        with contextlib.suppress(*NO_SERVER), _connect(folder, PYTHON, COMMAND, os.environ) as connection:
            message = json.dumps({"prepare": importing(imports)}).encode()
            connection.sendall(len(message).to_bytes(4, "big") + message)


def _connect(folder: str, name: str, command: Sequence[str], environment: Mapping[str, str]) -> socket.socket:
    with open(f"{folder}/{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of all processes of the run starts it
        with contextlib.suppress(OSError):
            return _connected(folder, name)
        nowhere = subprocess.DEVNULL
        subprocess.run(  # it ends at once, and leaves the server that listens
            [*command, folder, name],
            env=dict(environment),
            stdin=nowhere,
            stdout=nowhere,
            stderr=nowhere,
            start_new_session=True,
            timeout=LISTEN_S,
            check=False,
        )
        return _connected(folder, name)


def _connected(folder: str, name: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"{folder}/{name}")
    except OSError:
        connection.close()
        raise
    return connection


def _receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One message with its descriptors; None when the other end is gone."""
    try:
        head, fds, _, _ = socket.recv_fds(connection, 4, MAX_FDS)
        length, data = int.from_bytes(head, "big"), b""
        while len(head) == 4 and length <= MAX_BYTES and len(data) < length:
            part = connection.recv(min(1 << 16, length - len(data)))
            if not part:
                break
            data += part
        return (json.loads(data), fds) if len(head) == 4 and len(data) == length else (None, fds)
    except (OSError, ValueError):
        return None, []


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other end is gone: it has nothing more to say, so what can be read is the end."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _reply(connection: socket.socket, message: Mapping[str, Any]) -> None:
    data = json.dumps(message).encode()
    with contextlib.suppress(OSError):
        connection.sendall(len(data).to_bytes(4, "big") + data)


# --------------------------------------------------------------------------------------------------------------- the server


class Server:
    """One thread that listens, imports, forks, and says how its forks ended."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder = folder
        self.alive = os.open(f"{folder}/{ALIVE}", os.O_RDONLY | os.O_NONBLOCK)
        # an owner that died before this line is seen only if somebody wrote since: we do, for a moment
        os.close(os.open(f"{folder}/{ALIVE}", os.O_WRONLY | os.O_NONBLOCK))
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(f"{folder}/{name}")
        self.listener.listen(64)
        self.wakeup, self.signals = os.pipe()
        os.set_blocking(self.signals, False)
        os.set_blocking(self.wakeup, False)
        self.forks: dict[int, socket.socket] = {}
        self.prepared: set[str] = set()
        self.own_s = 0.0

    def serve(self) -> tuple[str, list[str]] | None:
        """Until the owner of the folder is gone (None); in each fork: its code and arguments."""
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.signals, warn_on_full_buffer=False)
        while True:
            poll = select.poll()
            for fd in (self.alive, self.wakeup, self.listener.fileno()):
                poll.register(fd, select.POLLIN)
            watched = {connection.fileno(): pid for pid, connection in self.forks.items()}
            for fd in watched:
                poll.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if self.alive in ready:
                return None  # the kernel tells the forks
            with contextlib.suppress(BlockingIOError):
                os.read(self.wakeup, 4096)
            self._reap()
            for fd in ready & set(watched):
                self._client_gone(watched[fd])
            if self.listener.fileno() in ready:
                work = self._accept()
                if work is not None:
                    return work

    def _accept(self) -> tuple[str, list[str]] | None:
        connection, _ = self.listener.accept()
        connection.settimeout(LISTEN_S)
        request, fds = _receive(connection)
        connection.settimeout(None)
        why = "no request"
        if request is not None:
            self._prepare(request["prepare"])
            why = why_not_fork(alone=request["alone"]) if "code" in request and len(fds) >= 3 else "nothing to do"
            why = why or ("nobody waits any more" if _is_closed(connection) else "")
        pid = -1 if why else os.fork()
        if pid == 0:
            connection.close()
            return self._become(request or {}, fds)
        for fd in fds:
            os.close(fd)
        if why:
            _reply(connection, {"cannot": why})
            connection.close()
        else:
            _reply(connection, {"pid": pid})
            self.forks[pid] = connection
        return None

    def _prepare(self, code: str) -> None:
        if not code or code in self.prepared:
            return
        self.prepared.add(code)
        try:
            exec(compile(code, "<prepare>", "exec"), {"__name__": "tendon_prepare"})  # noqa: S102 - our own
        except Exception:  # the fork meets the same, and says so
            traceback.print_exc()
        gc.collect()
        gc.freeze()  # forks share these pages for longer

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            own_s = time.process_time()
            cpu_s, self.own_s = usage.ru_utime + usage.ru_stime + own_s - self.own_s, own_s
            with contextlib.suppress(OSError), open(f"{self.folder}/{SPENT}", "a", encoding="utf-8") as spent:
                spent.write(f"{cpu_s:.6f}\n")
            connection = self.forks.pop(pid, None)
            if connection is not None:
                _reply(connection, {"code": os.waitstatus_to_exitcode(status), "cpu_s": cpu_s})
                connection.close()

    def _client_gone(self, pid: int) -> None:
        """Nobody waits for this fork any more."""
        connection = self.forks.get(pid)
        if connection is not None and not connection.recv(1):
            connection.close()
            del self.forks[pid]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _become(self, request: Mapping[str, Any], fds: Sequence[int]) -> tuple[str, list[str]]:
        """In the fork: nothing of the server is left but what it imported."""
        _server["pid"] = os.getppid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        self.listener.close()
        for connection in self.forks.values():
            connection.close()
        for fd in (self.alive, self.wakeup, self.signals):
            os.close(fd)
        for target, fd in enumerate(fds[:3]):
            os.dup2(fd, target)
            os.close(fd)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        _die_with_parent()
        if "numpy" in sys.modules:  # which seeds itself when it is imported
            sys.modules["numpy"].random.seed()
        streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
        for stream in streams:
            stream.reconfigure(write_through=bool(os.environ.get("PYTHONUNBUFFERED")))
        return request["code"], [str(fds[3 + one]) if isinstance(one, int) else one for one in request["arguments"]]


def why_not_fork(*, alone: bool) -> str:
    """Why this process cannot be forked; nothing when it can."""
    if threading.active_count() > 1:
        return f"threads: {', '.join(thread.name for thread in threading.enumerate())}"
    if alone and len(os.listdir("/proc/self/task")) > 1:
        return "a library has threads"
    with contextlib.suppress(OSError):
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{fd}").startswith(DEVICES):
                    return "a graphics card is open"
    return ""


def _die_with_parent() -> None:
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """A server, which goes on when this process has ended; a fork of it does its work here and ends as any interpreter does."""
    server = Server(*sys.argv[1:3])
    if os.fork():
        os._exit(0)
    work = server.serve()
    if work is not None:
        code, sys.argv[1:] = work
        exec(compile(code, "<fork>", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own
