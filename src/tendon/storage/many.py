"""Many small objects at once, as a listing of a store needs them: folders by name, and notes read side by side."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from tendon.errors import DataError
from tendon.storage.local import LocalStore
from tendon.storage.s3 import S3Store
from tendon.storage.store import HIDDEN, Store

log = logging.getLogger(__name__)
SIGNED_S, SILENT_S = 300, 20.0
READERS = 32  # requests in flight: a store that answers after 30 ms gives a thousand in a second
Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(store: Store, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``work`` of every item, in order; of a remote store in threads."""
    if isinstance(store, LocalStore):
        return [work(item) for item in items]
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(work, items))


def folders(store: Store, prefix: str) -> list[str]:
    """The names of the folders directly below ``prefix`` (which ends with a slash), sorted."""
    names: Iterable[str]
    if isinstance(store, LocalStore):
        root = store.root / prefix
        names = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    elif isinstance(store, S3Store):
        names = list(store.folders(prefix))
    else:
        names = list(dict.fromkeys(info.key[len(prefix) :].partition("/")[0] for info in store.list(prefix)))
    return sorted(name for name in names if not name.startswith(HIDDEN))


def read_notes(store: Store, keys: Iterable[str]) -> Mapping[str, dict[str, Any]]:
    """JSON objects by their keys; one that is missing or damaged is left out, and a damaged one is logged."""
    read_bytes = _SignedReads(store).read if isinstance(store, S3Store) else store.read

    def read(key: str) -> dict[str, Any] | None:
        try:
            note = json.loads(read_bytes(key))
        except DataError:  # it is not there
            return None
        except (ValueError, RecursionError) as error:
            log.warning("storage: %s/%s is ignored: %s", store.uri, key, error)
            return None
        return note if isinstance(note, dict) else None

    names = list(keys)
    return {key: note for key, note in zip(names, side_by_side(store, read, names), strict=True) if note is not None}


class _SignedReads:
    """GETs of small objects by signed addresses: a third of what boto3 needs of the processor, which is what a listing waits for.

    Anything but a whole answer is asked for again in the usual way, with its retries and its errors.
    """

    def __init__(self, store: S3Store) -> None:
        self._store, self._own = store, threading.local()

    def read(self, key: str) -> bytes:
        """The whole object; a DataError when it does not exist."""
        if getproxies():
            return self._store.read(key)
        try:
            url = urlsplit(self._store.presigned(key, SIGNED_S))
            connection = self._connection(url.scheme, url.netloc)
            connection.request("GET", f"{url.path}?{url.query}")
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200:
                return content
        except (OSError, http.client.HTTPException):
            self._own.connection = None
        return self._store.read(key)

    def _connection(self, scheme: str, host: str) -> http.client.HTTPConnection:
        """One for each thread, kept open."""
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            connection = self._own.connection = kind(host, timeout=SILENT_S)
        return connection
