"""What a process says while it works: one stderr handler in LeRobot's line format, progress, and the card at the end.

``setup`` is called once per process by cli.py and components/; all else logs through ``logging`` and never prints.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from shutil import get_terminal_size
from types import TracebackType
from typing import TextIO

from tendon.errors import ConfigError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def setup(step: str, *, quiet: bool = False, level: str = "INFO") -> logging.Logger:
    """Send every log line of this process to stderr, once, in the house format; safe to call again.

    Args:
        step: the step or command that this process is, e.g. ``train``.
        quiet: warnings and errors only.
        level: DEBUG, INFO, WARNING or ERROR; other libraries speak from WARNING on.

    Returns:
        The logger of the step.
    """
    if level.upper() not in LEVELS:
        why, fix = f"the levels are {', '.join(LEVELS)}", "level INFO"
        raise ConfigError(f"unknown log level {level}", where="--level", why=why, fix=fix)
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old, _Stderr) or type(old) is logging.StreamHandler:
            root.removeHandler(old)
    root.addHandler(_Stderr())
    root.setLevel(logging.WARNING)
    logging.getLogger("tendon").setLevel(logging.WARNING if quiet else level.upper())
    return logging.getLogger(f"tendon.{step}")


class Format(logging.Formatter):
    """``INFO 2024-08-14 13:35:12 ts/train.py:192 message``: level, time, last 15 characters of path:line, message."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line (and its traceback below, if it has one)."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        place = f"{record.pathname}:{record.lineno}"[-15:]
        line = f"{record.levelname} {when} {place:>15} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Stderr(logging.Handler):
    """Writes to whatever stderr is now; takes a live bar away before a line and puts it back below."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Format())
        self.bar = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            clear = f"\r{' ' * len(self.bar)}\r" if self.bar else ""
            sys.stderr.write(f"{clear}{line}\n{self.bar}")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)

    def draw(self, bar: str) -> None:
        """Replace the live bar; an empty one ends it."""
        with self.lock or threading.Lock():
            padding = " " * max(0, len(self.bar) - len(bar))
            sys.stderr.write(f"\r{bar}{padding}" if bar else "\n" if self.bar else "")
            sys.stderr.flush()
            self.bar = bar


def _installed() -> _Stderr | None:
    """The handler that ``setup`` installed."""
    return next((one for one in logging.getLogger().handlers if isinstance(one, _Stderr)), None)


class Progress:
    """How far a step is: a live bar on a terminal, elsewhere a log line at once, every 30 s, and at the end.

    ``with Progress("convert", 200, "episodes") as progress: progress.advance(1, {"MB/s": "12.1"})``; safe from threads.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        unit: str,
        *,
        start: int = 0,
        every_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe the work.

        Args:
            what: the first word of every line, usually the step.
            total: how many there are, None when nobody knows.
            unit: what is counted, in the plural.
            start: how many were done before (a resumed step); they do not count for the rate.
            every_s: seconds between log lines where there is no terminal.
            clock: tells the seconds.
        """
        self.what, self.total, self.unit = what, total, unit
        self.done = self._start = start
        self._every_s, self._clock = every_s, clock
        self._fields: dict[str, str] = {}
        self._lock = threading.Lock()
        self._log = logging.getLogger(f"tendon.{what}")
        self._began = self._shown_at = clock()
        self._live = False
        self._handler = _Stderr()

    def __enter__(self) -> Progress:
        """Show that the work begins."""
        self._live = _is_terminal(sys.stderr)
        self._handler = _installed() or self._handler
        self._began = self._clock()
        with self._lock:
            self._show()
        return self

    def advance(self, count: int = 1, fields: Mapping[str, object] | None = None) -> None:
        """So many more are done; ``fields`` are numbers worth seeing beside them, e.g. ``{"loss": "0.12"}``."""
        with self._lock:
            self._update(self.done + count, fields)

    def set(self, done: int, fields: Mapping[str, object] | None = None) -> None:
        """So many are done in all."""
        with self._lock:
            self._update(done, fields)

    def follow(self, done: int, total: int, unit: str = "") -> None:
        """Take over what a package reports as ``progress(done, total)``; a new unit begins a new count."""
        with self._lock:
            if unit and unit != self.unit:
                self.unit, self._start, self._began = unit, done, self._clock()
            self.total = total
            self._update(done, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show how far it came, always."""
        with self._lock:
            self._show(end="stopped" if kind else "done")
            if self._live and self._speaks():
                self._handler.draw("")

    def _update(self, done: int, fields: Mapping[str, object] | None) -> None:
        self.done = done
        self._fields.update({name: str(value) for name, value in (fields or {}).items()})
        if self._clock() - self._shown_at >= (0.1 if self._live else self._every_s):
            self._show(depth=4)

    def _show(self, end: str = "", depth: int = 3) -> None:
        self._shown_at = self._clock()
        if not self._speaks():
            return
        if self._live:
            self._handler.draw(f"{self.what} {self._bar()}{self._text(end)}"[: get_terminal_size().columns - 1])
        else:
            self._log.info("%s %s", self.what, self._text(end), stacklevel=depth)

    def _speaks(self) -> bool:
        return self._log.isEnabledFor(logging.INFO)

    def _bar(self) -> str:
        if not self.total:
            return ""
        filled = min(20, 20 * self.done // self.total)
        return f"[{'#' * filled}{'.' * (20 - filled)}] "

    def _text(self, end: str) -> str:
        elapsed = max(self._clock() - self._began, 1e-9)
        rate = (self.done - self._start) / elapsed
        share = f" ({100 * self.done // self.total}%)" if self.total else ""
        parts = [f"{self.done}{f'/{self.total}' if self.total is not None else ''} {self.unit}{share}"]
        if self.done > self._start:
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            if self.total and not end:
                parts.append(f"eta {duration(max(0, self.total - self.done) / rate)}")
        parts += [f"{name}:{value}" for name, value in self._fields.items()]
        return " ".join([*parts, f"{end} in {duration(elapsed)}"] if end else parts)


def _is_terminal(stream: TextIO) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def duration(seconds: float) -> str:
    """A time as people say it: 0.4 s, 12 s, 2 min 05 s, 3 h 20 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def end_card(title: str, rows: Sequence[tuple[str, object]], next_command: str = "") -> str:
    """What a command ends with: what was made, where, how long it took, and the one command to run next."""
    width = max([len(name) for name, _ in rows] + [4])
    lines = [f"-- {title} {'-' * max(3, 76 - len(title))}"]
    lines += [f"   {name:<{width}}  {value}" for name, value in rows]
    if next_command:
        lines.append(f"   {'next':<{width}}  {next_command}")
    return "\n".join(lines)
