"""The first look at foreign files: in a child process with limits of memory and time, whose death is a data error.

The parsers of HDF5, video and LMDB are C libraries; a damaged or hostile file can crash them, make them wait or make them
ask for all memory. convert and inspect call ``described(source)`` and ``run_in_child``; only what the child survived is
read by this process.
"""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from tendon import fork_server
from tendon.data.sources.source import Source, SourceInfo
from tendon.errors import DataError, TendonError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

log = logging.getLogger(__name__)

T = TypeVar("T")
_MAIN = threading.Lock()
MEMORY_BYTES = 4 << 30  # beside what the process has when it starts
SECONDS = 60.0  # without an answer
BYTES_PER_SECOND = 10_000_000  # of the slowest disk whose files are hashed in time
FIX = "copy or record it again; leave it out if it came from somebody you do not trust"


def described(source: Source, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> SourceInfo:
    """``source.describe()``, in a child where its parser is a C library (the source names it in ``parser``).

    Raises:
        DataError: the child died, or took too much memory or time; or what ``describe`` raises.
    """
    if is_foreign(source) and getattr(source, "_info", None) is None:
        seconds += _num_bytes(source) / BYTES_PER_SECOND
        (twin,) = run_in_child(_describe, (source,), source, seconds, memory_bytes)
        alive = getattr(source, "_keep_alive", None)
        source.__dict__.update(twin.__dict__)
        if alive is not None:
            source.__dict__["_keep_alive"] = alive
    return source.describe()


def is_foreign(source: Source) -> bool:
    """Whether files of this source are parsed by a C library."""
    return bool(getattr(source, "parser", ""))


def run_in_child(
    function: Callable[..., Iterator[T]],
    arguments: tuple[Any, ...],
    source: Source,
    seconds: float = SECONDS,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[T]:
    """What ``function(*arguments)`` yields in a child; ``seconds`` may pass between two values.

    Raises:
        DataError: the child died, or took too much memory or time.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    settings = (os.getcwd(), dict(os.environ), memory_bytes)
    child = _started((sender, settings, function, arguments), source)
    sender.close()
    try:
        while True:
            if not receiver.poll(seconds):
                child.kill()
                raise _refused(source, f"a child process read it for {seconds:.0f} s without an end")
            try:
                kind, value = receiver.recv()
            except EOFError:
                child.join()
                raise _refused(source, f"it ended the process that read it: {_death(child.exitcode)}") from None
            if kind == "error":
                raise value
            if kind == "memory":
                raise _refused(source, f"reading it takes more than {memory_bytes >> 20:,} MiB of memory")
            if kind == "unknown":
                raise _refused(source, value)
            if kind == "done":
                return
            yield value
    finally:
        receiver.close()
        child.kill()
        child.join()


def _started(arguments: tuple[Any, ...], source: Source) -> BaseProcess:
    """A process that runs ``_child``: a fork of this one where that is safe, which has its libraries already."""
    child: BaseProcess
    if sys.platform == "linux" and not fork_server.why_not_fork(alone=False):
        for name in getattr(source, "libraries", ()):
            with suppress(ImportError):  # the child says what is missing
                import_module(name)
        child = multiprocessing.get_context("fork").Process(target=_child, args=arguments, daemon=True)
        child.start()
        return child
    # a fork would copy the locks of other threads, a new interpreter takes a second: forks of an idle one do neither
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tendon.data.sources.preloaded"])
    child = context.Process(target=_child, args=arguments, daemon=True)
    with _without_main():
        child.start()
    return child


@contextmanager
def _without_main() -> Iterator[None]:
    """No script of the user's is imported again by the child: one without a guard would convert again, and again."""
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _describe(source: Source) -> Iterator[Source]:
    source.describe()
    yield source


def _child(
    sender: Connection,
    settings: tuple[str, Mapping[str, str], int],
    function: Callable[..., Iterator[Any]],
    arguments: tuple[Any, ...],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.disable()  # a crash is a data error, told in four lines
    folder, environment, memory_bytes = settings
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    _limit_memory(memory_bytes)
    try:
        for value in function(*arguments):
            sender.send(("value", value))
        sender.send(("done", None))
    except TendonError as error:
        sender.send(("error", error))
    except MemoryError:
        sender.send(("memory", None))
    except Exception as error:
        log.debug("convert: %s", traceback.format_exc())
        sender.send(("unknown", f"{type(error).__name__}: {error}".splitlines()[0][:500]))


def _limit_memory(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            used = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData"))
    except (OSError, StopIteration):  # not on Linux: there the limit would not hold either
        return
    resource.setrlimit(resource.RLIMIT_DATA, (used + num_bytes, used + num_bytes))


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _num_bytes(source: Source) -> int:
    size = getattr(source, "num_bytes_on_disk", None)
    return int(size()) if size is not None else 0


def _refused(source: Any, why: str) -> DataError:
    return DataError(
        f"a file of demonstrations cannot be read by {getattr(source, 'parser', '')}",
        where=source.uri,
        why=why,
        fix=FIX,
    )
