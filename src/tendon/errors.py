"""What the user sees when something fails: four lines and an exit code that means something.

Every layer raises a TendonError (or lets a foreign error pass, re-raised with the episode, shard or key that caused it);
cli.py and components/ wrap a step in ``reported``, the only place that prints an error and leaves the process.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

EXIT_CODES = {
    0: "done",
    1: "a bug in tendon or in a library: the traceback is in a file",
    2: "configuration: a key, a value or an argument is wrong; retrying does not help",
    3: "data: a file, an episode or a shard is missing or broken; retrying does not help",
    4: "storage or credentials: the store cannot be reached or refuses; retrying may help",
    5: "a dependency, an extra or a simulator is not installed",
    6: "the promotion gate said no",
    75: "interrupted and resumable: run the same command again",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in the four lines a user reads."""

    what: str
    where: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"error: {self.what}\nwhere: {self.where}\nwhy:   {self.why}\nfix:   {self.fix}"


class TendonError(Exception):
    """A failure that has a name; carries one problem, or several found at once."""

    exit_code = 1
    page = ""  # where more is told: the page of a run that failed

    def __init__(self, what: str, *, where: str, why: str, fix: str) -> None:
        self.problems: tuple[Problem, ...] = (Problem(what, where, why, fix),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> TendonError:
        """One error that reports all the problems at once."""
        first = problems[0]
        error = cls(first.what, where=first.where, why=first.why, fix=first.fix)
        error.problems = tuple(problems)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.problems)

    def __str__(self) -> str:
        return "\n\n".join(str(problem) for problem in self.problems)


def _restored(kind: type[TendonError], problems: tuple[Problem, ...]) -> TendonError:
    """The error again, on the other side of a process border."""
    error = kind.__new__(kind)
    Exception.__init__(error, "\n\n".join(map(str, problems)))
    error.problems = problems
    return error


class ConfigError(TendonError):
    """A key, a value or an argument is wrong."""

    exit_code = 2


class DataError(TendonError):
    """A file, an episode or a shard is missing or broken."""

    exit_code = 3


class StorageError(TendonError):
    """The store cannot be reached, refuses the credentials, or is full."""

    exit_code = 4


class MissingDependency(TendonError):  # noqa: N818 - reads better where it is raised
    """A package, an extra or a simulator is not installed."""

    exit_code = 5


class GateRefused(TendonError):  # noqa: N818
    """The promotion gate said no."""

    exit_code = 6


class Interrupted(TendonError):  # noqa: N818
    """Stopped by a signal after saving: the same command resumes."""

    exit_code = 75


def nearest(word: str, options: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The option that is spelled most like the word, in whatever case: what a fix proposes."""
    import difflib

    spelled = {option.lower(): option for option in options}
    matches = difflib.get_close_matches(word.lower(), list(spelled), n=1, cutoff=cutoff)
    return spelled[matches[0]] if matches else None


CONTINUES = "run the same command again: it continues"
REFUSING = {  # what a disk says of an address that the user gave
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}


def leave_for_words(message: str, parser: Any) -> NoReturn:
    """Four lines for what an argparse parser does not understand, with the nearest word that it would, and exit code 2."""
    import re

    what, why, near = message, " ".join(parser.format_usage().split()), None
    choice = re.match(r"argument (.+?): invalid choice: '?(.*?)'? \(choose from (.*)\)", message)
    word = message.removeprefix("unrecognized arguments: ").split(" ")[0].partition("=")[0]
    if choice:
        name, word, listed = choice.groups()
        known = [one.strip().strip("'\"") for one in listed.split(",")]
        known = [one for one in known if (name, one) != ("VERB", "import")]  # moved; in no list
        near = nearest(word, known)
        what = f"there is no verb {word}" if name.lower() == "verb" else f"{word} is no value of {name}"
        why = f"it is one of {', '.join(known)}"
    elif message.startswith("unrecognized arguments: "):
        near = nearest(word, _options(parser)) if word.startswith("-") else None
        what = f"there is no option {word}" if word.startswith("-") else message
    fix = f"did you mean {near}?  ({parser.prog} --help lists all)" if near else f"{parser.prog} --help"
    error = ConfigError(what, where="command line", why=why, fix=fix)
    sys.stderr.write(f"{error}\n")
    raise SystemExit(ConfigError.exit_code) from error


def _options(parser: Any) -> Iterator[str]:
    """The options of a parser and of its verbs."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action.choices, dict):
            for verb in action.choices.values():
                yield from _options(verb)


@contextmanager
def reported(step: str, *, debug: bool = False, again: str = CONTINUES) -> Iterator[None]:
    """Print a failure of ``step`` as four lines and leave with its exit code; an unknown error also leaves a traceback file.

    ``again``: what the user does after Ctrl-C; only work that is kept continues.
    """
    try:
        yield
    except TendonError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"{error}\n" + (f"page:  {error.page}\n" if error.page else ""))
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        stopped = Problem(f"{step} was stopped", "this terminal", "Ctrl-C", again)
        sys.stderr.write(f"{stopped}\n")
        raise SystemExit(75) from None
    except Exception as error:
        if debug:
            traceback.print_exc()
        named = with_a_name(step, error)
        sys.stderr.write(f"{named}\n")
        raise SystemExit(named.exit_code) from None


def with_a_name(step: str, error: Exception) -> TendonError:
    """An error that nobody named: a disk that will not have a file of this name is the user's to mend, all else a bug."""
    if not isinstance(error, OSError) or error.errno not in REFUSING or not error.filename:
        return TendonError.of([unexpected(step, error)])
    return StorageError(
        f"{step} cannot use a file",
        where=str(error.filename2 or error.filename),
        why=f"{os.strerror(error.errno or 0)} (errno {error.errno})",
        fix="name a place that exists, has room and that this user may write, then run the same command again",
    )


def unexpected(step: str, error: Exception) -> Problem:
    """The four lines of an error nobody foresaw; its traceback is kept in a file."""
    with tempfile.NamedTemporaryFile("w", prefix=f"tendon-{step}-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Problem(
        f"{step} failed in a way nobody foresaw",
        f"{frame.filename}:{frame.lineno}",
        f"{type(error).__name__}: {error}".splitlines()[0],
        f"report it with the traceback in {file.name}, or run again with --debug",
    )
