"""Create-once and compare-and-swap on a store that ignores If-None-Match and If-Match. Called by s3.py.

Every contender puts a claim, waits until no later claim can carry an earlier time, and lists the claims: the earliest by
the store's own clock wins, by name when times are equal. The winner checks that the object is still what it was, puts,
reads back, and takes its claim away; the others wait for that. A claim left by a killed process counts for a minute.
Holds on stores whose listings show every finished put (all that are sold today do).
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tendon.errors import StorageError
from tendon.storage.store import HIDDEN

if TYPE_CHECKING:
    from tendon.storage.s3 import S3Store

log = logging.getLogger(__name__)

SETTLE_S = 1.3  # listings may tell the time in whole seconds
STALE_S = 60.0  # the claim of a killed process
HURRY_S = 20.0  # a winner that needed longer than this starts again rather than put late
POLL_S = 0.2

_told: set[str] = set()


def put_by_claim(store: S3Store, key: str, data: bytes, etag: str | None) -> bool:
    """Put if the object still has ``etag`` (None: does not exist); False when it has not or another was first."""
    if store.bucket not in _told:
        _told.add(store.bucket)
        log.warning("storage: %s ignores conditional puts; using claims, which cost a second per commit", store.uri)
    folder, _, name = key.rpartition("/")
    at = hashlib.sha256(f"{name} {etag}".encode()).hexdigest()[:24]
    prefix = f"{folder}/" if folder else ""
    prefix = f"{prefix}{HIDDEN}claim-{at}-"
    deadline = time.monotonic() + 4 * STALE_S
    while time.monotonic() < deadline:
        if _etag(store, key) != etag:
            return False
        claim, began = f"{prefix}{uuid.uuid4().hex}", time.monotonic()
        store.write(claim, b"")
        try:
            time.sleep(SETTLE_S)
            if _winner(store, prefix) == claim:
                if _etag(store, key) != etag:
                    return False
                if time.monotonic() - began < HURRY_S:
                    store.write(key, data)
                    return store.read(key) == data
                continue
        finally:
            store.delete(claim)
        _wait(store, key, etag, prefix)
    raise StorageError(
        "a commit could not be decided",
        where=f"{store.uri}/{key}",
        why="the store ignores conditional puts, and other processes kept claiming this object",
        fix="run the same command again, or use a store with conditional puts (AWS, MinIO, Ceph, R2)",
    )


def _winner(store: S3Store, prefix: str) -> str:
    claims = _claims(store, prefix)
    return min(claims, key=lambda name: (claims[name], name), default="")


def _claims(store: S3Store, prefix: str) -> dict[str, datetime]:
    """Claims by name; what killed processes left is cleared away."""
    found = {name: entry["LastModified"] for name, entry in store.entries(prefix)}
    newest = max(found.values(), default=None)
    for name in [name for name, at in found.items() if newest and newest - at > timedelta(seconds=STALE_S)]:
        store.delete(name)
        del found[name]
    return found


def _wait(store: S3Store, key: str, etag: str | None, prefix: str) -> None:
    """Until the winner has put, or has gone away without."""
    until = time.monotonic() + STALE_S
    while time.monotonic() < until and _etag(store, key) == etag and _claims(store, prefix):
        time.sleep(POLL_S)


def _etag(store: S3Store, key: str) -> str | None:
    info = store.head(key)
    return info.etag if info else None
