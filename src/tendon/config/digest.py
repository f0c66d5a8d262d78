"""Digests: the same values give the same 16 hex digits on every machine, and so does the same source code.

Run keys, dataset prefixes and cache keys are made of these.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

IMAGE = "TENDON_IMAGE"
PACKAGE = Path(__file__).resolve().parent.parent


def digest(*parts: object) -> str:
    """16 hex digits of the SHA-256 over the canonical JSON of the parts.

    Dataclasses count as mappings and tuples as lists: a configuration and its ``to_dict`` agree. 1 and 1.0 differ.

    Raises:
        TypeError: for a part that means different things on different machines (a Path), or has no plain form.
        ValueError: for a float that is not finite.
    """
    text = json.dumps([_canonical(part) for part in parts], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _canonical(value: object) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"{value} has no canonical form")
        return value  # json writes repr, the shortest text that reads back as the same float
    if isinstance(value, Mapping):
        if not all(type(key) is str for key in value):
            raise TypeError("only text keys have a canonical order")
        return {key: _canonical(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _canonical(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no canonical form: pass plain values")


def code_version(*rooms: str) -> str:
    """Digest of the .py sources of some packages of tendon, e.g. ``code_version("data", "loader", "train")``.

    A package is a folder (``data``) or a module (``steps``); order and repetition of the names do not matter.
    """
    return _code_version(tuple(sorted(set(rooms))))


def running_pod() -> str:
    """The pod this process runs in; empty outside of one.

    Kubeflow names it in KFP_POD_NAME. The hostname is cut at 63 characters, which names no pod and is the same for
    all pods of a run whose names differ behind that.
    """
    return os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")


def running_image() -> str:
    """The container image this process runs in, as its build or who started it names it; empty outside of one."""
    return os.environ.get(IMAGE, "")


@cache
def _code_version(rooms: tuple[str, ...]) -> str:
    whole = hashlib.sha256()
    for room in rooms:
        folder, module = PACKAGE / room, PACKAGE / f"{room}.py"
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [module]
        if not all(file.is_file() for file in files) or not files:
            raise ValueError(f"tendon has no package called {room}")
        for file in files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            whole.update(f"{file.relative_to(PACKAGE).as_posix()} {content}\n".encode())
    return whole.hexdigest()[:16]
