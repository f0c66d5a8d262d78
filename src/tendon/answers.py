"""What a verb says at its end: a card for people or, with ``--json``, one JSON document on standard output and nothing else there.

A verb calls ``finish`` (a card) or ``tell`` (any text) with its values; cli.main prints the document when the verb is done.
"""

from __future__ import annotations

import io
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, is_dataclass
from typing import Any

from tendon.errors import TendonError, with_a_name
from tendon.logs import end_card


def finish(arguments: Namespace, title: str, rows: Mapping[str, object], following: str = "", **values: Any) -> int:
    """The end card of a verb; ``values`` are of the document only. Gives the exit code of what went well.

    Example:
        ``return finish(arguments, "exported", {"bundle": uri, "digest": digest}, "tendon evaluate ...")``
    """
    card = end_card(title, list(rows.items()), following)
    named = {name.strip().replace(" ", "_").replace("-", "_"): value for name, value in rows.items()}
    return tell(arguments, card, **{"title": title, **named, **({"next": following} if following else {}), **values})


def tell(arguments: Namespace, text: str, **values: Any) -> int:
    """Print a text, or add values to the document."""
    if wants_json(arguments):
        arguments.answer = {**getattr(arguments, "answer", {}), **values}
    else:
        sys.stdout.write(f"{text}\n")
    return 0


def wants_json(arguments: Namespace) -> bool:
    """Whether the caller reads JSON."""
    return bool(getattr(arguments, "json", False))


@contextmanager
def as_document(arguments: Namespace, verb: str, *, only_failures: bool = False) -> Iterator[None]:
    """One JSON document on standard output, however the verb ends; all that is printed meanwhile goes to standard error."""
    out = sys.stdout
    code = 0
    problems: list[dict[str, str]] = []
    result: dict[str, Any] = {}
    try:
        with _stdout_is_stderr(), redirect_stdout(sys.stderr):
            try:
                yield
            finally:
                result = getattr(arguments, "answer", {})
    except TendonError as error:
        code, problems = error.exit_code, [asdict(problem) for problem in error.problems]
        raise
    except KeyboardInterrupt:
        code = 75
        raise
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(bool(left.code))
        if isinstance(left.__cause__, TendonError):
            problems = [asdict(problem) for problem in left.__cause__.problems]
        raise
    except Exception as error:
        named = with_a_name(verb, error)
        code, problems = named.exit_code, [asdict(problem) for problem in named.problems]
        raise named from error
    finally:
        code = code or int(getattr(arguments, "exit_code", 0))
        document = {"verb": verb, "ok": code == 0, "exit_code": code, **({"problems": problems} if problems else {})}
        if code or not only_failures:
            out.write(json.dumps(plain(document | {"result": result}), indent=1, ensure_ascii=False) + "\n")
            out.flush()


@contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Processes that are started meanwhile write to standard error too."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # it is closed
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def output_lines(work: Callable[[], int]) -> tuple[int, list[str]]:
    """The exit code of something that prints, and its lines: for tools that know no documents."""
    text = io.StringIO()
    with redirect_stdout(text):
        code = work()
    return code, text.getvalue().splitlines()


def plain(value: Any) -> Any:
    """A value as JSON takes it: no NaN, dataclasses as objects, and texts of what has no other form."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
