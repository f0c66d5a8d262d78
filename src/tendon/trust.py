"""Which Python files that nobody installed may run: those whose sha256 the user named.

A configuration, a bundle or an address can name a Python file: a simulator's adapter, a callback, a sweep's generator, a
data configuration. It runs only with ``--trust SHA256``, in the pipelines the parameter ``trust``; a file that changed
since is another one. What an installed package brings (tendon.plugins) was trusted by whoever installed it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from tendon.errors import ConfigError, Problem

OPTION = "--trust"
PARAMETER = "trust"  # of the pipelines
VARIABLE = "TENDON_TRUST"  # hands it on to the processes that this one starts
SHA256 = re.compile(r"[0-9a-f]{64}")


def allow(named: str | Iterable[str]) -> None:
    """Let files of these sha256s run, in this process and in those that it starts; text is separated by commas.

    Raises:
        ConfigError: something else is named; of a file, the error says the sha256.
    """
    texts = [named] if isinstance(named, str) else list(named)
    words = [word for text in texts for word in re.split(r"[,\s]+", text) if word]
    problems = [_no_sha256(word) for word in words if not SHA256.fullmatch(word.lower())]
    if problems:
        raise ConfigError.of(problems)
    if words:
        os.environ[VARIABLE] = ",".join(sorted(allowed() | {word.lower() for word in words}))


def allowed() -> frozenset[str]:
    """The sha256s that may run."""
    return frozenset(filter(None, os.environ.get(VARIABLE, "").split(",")))


def as_options() -> list[str]:
    """What a command line takes to let the same files run; nothing where none may."""
    return [word for sha256 in sorted(allowed()) for word in (OPTION, sha256)]


def sha256_of(path: str | Path) -> str:
    """What a file is trusted by."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def distrust(path: str | Path, where: str) -> Problem | None:
    """What is wrong with running this file; None where it may run, or is not there."""
    if not Path(path).is_file() or sha256_of(path) in allowed():
        return None
    return _untrusted(path, where, sha256_of(path))


def trusted_bytes(path: str | Path, where: str) -> bytes:
    """The content of a file that may run; run this and not the file, which could be another one by then.

    Raises:
        ConfigError: nobody trusts it; the error has the option that does.
    """
    content = Path(path).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 not in allowed():
        raise ConfigError.of([_untrusted(path, where, sha256)])
    return content


def run_file(path: str | Path, where: str, name: str) -> ModuleType:
    """The module ``name`` of a trusted file.

    Raises:
        ConfigError: nobody trusts it.
    """
    content = trusted_bytes(path, where)
    spec = spec_from_file_location(name, path)
    assert spec is not None
    module = module_from_spec(spec)
    exec(compile(content, str(path), "exec"), module.__dict__)  # noqa: S102 - its sha256 was named by the user
    return module


def _untrusted(path: str | Path, where: str, sha256: str) -> Problem:
    return Problem(
        f"{path} is Python that nobody installed, and it is not trusted",
        where,
        f"it would run with your rights; its sha256 is {sha256}",
        f"read it, then add {OPTION} {sha256}   (in a pipeline: {PARAMETER}={sha256})",
    )


def _no_sha256(word: str) -> Problem:
    if Path(word).is_file():
        sha256 = sha256_of(word)
        why = f"a name stays when the content changes; the sha256 of {word} is {sha256}"
        return Problem(f"{word} is a file, not a sha256", OPTION, why, f"{OPTION} {sha256}")
    why = "a file is trusted by the sha256 of its content, 64 hexadecimal digits"
    return Problem(f"{word!r} is no sha256", OPTION, why, f"{OPTION} FILE   (says the sha256 of that file)")
