"""Many small objects at once, as a listing of a store needs them: folders by name, and notes read side by side."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tendon.errors import DataError
from tendon.storage.local import LocalStore
from tendon.storage.s3 import S3Store
from tendon.storage.store import HIDDEN, Store

log = logging.getLogger(__name__)
READERS = 32  # requests in flight: a store that answers after 30 ms gives a thousand in a second
Item, Result = TypeVar("Item"), TypeVar("Result")


def side_by_side(store: Store, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``work`` of every item, in order; of a remote store in threads."""
    if isinstance(store, LocalStore):
        return [work(item) for item in items]
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(work, items))


def folders(store: Store, prefix: str) -> list[str]:
    """The names of the folders directly below ``prefix`` (which ends with a slash), sorted."""
    if isinstance(store, LocalStore):
        root = store.root / prefix
        names = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    elif isinstance(store, S3Store):
        names = store.folders(prefix)
    else:
        names = list(dict.fromkeys(info.key[len(prefix) :].partition("/")[0] for info in store.list(prefix)))
    return sorted(name for name in names if not name.startswith(HIDDEN))


def read_notes(store: Store, keys: Iterable[str]) -> Mapping[str, dict[str, Any]]:
    """JSON objects by their keys; one that is missing or damaged is left out, and a damaged one is logged."""

    def read(key: str) -> dict[str, Any] | None:
        try:
            note = json.loads(store.read(key))
        except DataError:  # it is not there
            return None
        except (ValueError, RecursionError) as error:
            log.warning("storage: %s/%s is ignored: %s", store.uri, key, error)
            return None
        return note if isinstance(note, dict) else None

    names = list(keys)
    return {key: note for key, note in zip(names, side_by_side(store, read, names), strict=True) if note is not None}
