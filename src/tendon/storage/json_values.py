"""JSON as every reader takes it, and notes that may be damaged: ``to_json`` writes NaN as null, ``read_note`` never raises.

A note is a file that only informs (heartbeat, timings, the last failure): damaged or missing, it stops nothing.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from tendon.errors import TendonError
from tendon.storage.store import Store

log = logging.getLogger(__name__)


def to_json(values: Any, indent: int | None = None, *, sort_keys: bool = False) -> str:
    """Text of ``values``, in which null stands for NaN and infinite numbers: JSON has neither.

    Example:
        >>> to_json({"mean": float("nan")})
        '{"mean": null}'
    """
    return json.dumps(finite(values), indent=indent, sort_keys=sort_keys, allow_nan=False)


def finite(values: Any) -> Any:
    """The same values, None for each number that is not finite."""
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, Mapping):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [finite(value) for value in values]
    return values


def read_note(store: Store, key: str) -> dict[str, Any]:
    """A small JSON object that only informs; empty when it is missing or damaged, which the log says."""
    try:
        if store.head(key) is None:
            return {}
        note = json.loads(store.read(key))
        if isinstance(note, dict):
            return note
        why = f"it holds {type(note).__name__}, not an object"
    except (TendonError, ValueError, RecursionError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
    log.warning("storage: %s/%s is ignored: %s", store.uri, key, why)
    return {}


def read_lines(store: Store, key: str) -> list[dict[str, Any]]:
    """The JSON objects of a file with one in every line; a damaged line is left out, which the log says."""
    lines: list[dict[str, Any]] = []
    damaged = 0
    if store.head(key) is None:
        return lines
    for text in store.read(key).splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict):
            lines.append(line)
        else:
            damaged += 1
    if damaged:
        log.warning("storage: %d damaged lines of %s/%s are left out", damaged, store.uri, key)
    return lines
