"""The process between the host and a guest: whatever the guest started ends with it, also what left its process group.

A child that calls setsid is in no group that the host knows. On Linux the warden is the reaper of all that descends from
it, so it finds every one. It is forked from before anything heavy is imported, and ends as the guest ended.
Called by the bootstrap in evaluate/guest.py.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
END_S = 5.0  # for all that were killed to be gone


def guard(lifeline_fd: int) -> None:
    """Return in a new process, the guest's. The process that called stays behind as its warden and never returns.

    Args:
        lifeline_fd: the end of a pipe whose other end only the host holds.
    """
    warden = os.getpid()
    wakeup_fd, signals_fd = _wakeup()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    guest = os.fork()
    if guest == 0:
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(wakeup_fd)
        os.close(signals_fd)
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != warden:
            os._exit(1)
        return
    try:
        _close_others(
            {lifeline_fd, wakeup_fd, signals_fd, 2}
        )  # a pipe that the warden held would hide the guest's death
        status = _watched(guest, lifeline_fd, wakeup_fd)
        _end_as(status)
    finally:
        os._exit(1)


def _wakeup() -> tuple[int, int]:
    """A pipe from which the number of a signal can be read when a child ended or SIGTERM came."""
    readable, writable = os.pipe()
    for fd in (readable, writable):
        os.set_blocking(fd, False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable, writable


def _watched(guest: int, lifeline_fd: int, wakeup_fd: int) -> int:
    """Until the guest ends, the host is gone or asks for the end; then nothing is left. The guest's wait status."""
    ended: dict[int, int] = {}
    told_to_end = False
    while guest not in ended and not told_to_end:
        ready, _, _ = select.select([lifeline_fd, wakeup_fd], [], [])
        signals = os.read(wakeup_fd, 4096) if wakeup_fd in ready else b""
        told_to_end = lifeline_fd in ready or signal.SIGTERM in signals
        _reap(ended)
    deadline = time.monotonic() + END_S
    while _reap(ended) and time.monotonic() < deadline:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return ended.get(guest, signal.SIGKILL)


def _reap(ended: dict[int, int]) -> bool:
    """Note the children that ended; whether there are others."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        ended[pid] = status


def _children() -> list[int]:
    """The processes whose parent this is: with the reaper's right, in the end all that descend from it."""
    own, pids = os.getpid(), []
    with contextlib.suppress(OSError):  # no /proc: the group of the guest is all that is known
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                    if int(file.read().rpartition(b")")[2].split()[1]) == own:
                        pids.append(int(name))
    return pids


def _close_others(kept: set[int]) -> None:
    """Let go of every other descriptor."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            if int(name) not in kept:
                with contextlib.suppress(OSError):
                    os.close(int(name))


def _end_as(status: int) -> None:
    """End this process as the guest did, so that the host reads one wait status."""
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    number = os.WTERMSIG(status)
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pause()


def _prctl(option: int, value: int) -> None:
    """Ask the kernel of Linux; elsewhere nothing happens."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value)
