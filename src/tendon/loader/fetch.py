"""Bytes of a shard into a buffer: from a folder, over HTTP with presigned addresses, or through any Store.

``open_bytes(store)`` chooses. HTTP keeps one connection per thread, resumes at the received byte, tries again with
jitter, and asks a second time when the first answer is slower than nearly all others were. Called by unit_cache.py.
"""

from __future__ import annotations

import http.client
import logging
import os
import random
import select
import socket
import ssl
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol
from urllib.parse import urlsplit

from tendon.errors import DataError, StorageError
from tendon.storage import Store, join
from tendon.storage.local import LocalStore, too_short
from tendon.storage.s3 import S3Store

log = logging.getLogger(__name__)

CONNECT_S, FIRST_BYTE_S, STALL_S = 2.0, 3.0, 5.0
TRIES = 5
BACKOFF_S = (0.05, 5.0)  # half the first and the longest upper bound of the random wait
JITTER = random.SystemRandom()  # a retry must not move the generator that somebody seeded
SIGNED_S = 3600
HEDGE_AFTER = 20  # answers that must be known before a slow one is told from a normal one
HEDGE_LEAST_S = 0.02
HEAD_START_S = 0.005  # of the request for the index, which is waited for while the threads connect


class Bytes(Protocol):
    """Where shards are read from. ``waits`` is whether reading is waiting, so that many should be in flight."""

    waits: bool

    def read_into(self, key: str, start: int, view: memoryview, *, fresh: bool = False) -> None:
        """Fill ``view`` with the bytes from ``start``; ``fresh`` passes over every cache."""

    def connect(self, key: str) -> None:
        """Do what the first read of this thread would begin with."""


def open_bytes(store: Store) -> Bytes:
    """The fastest way to read ranges of a store."""
    if isinstance(store, LocalStore):
        return LocalBytes(store)
    if isinstance(store, S3Store):
        return HttpBytes(store)
    return StoreBytes(store)


class Reader:
    """A source of bytes, and the threads that read it where reading is waiting."""

    def __init__(self, source: Bytes, num: int) -> None:
        self.source, self.num = source, num
        self.pool = ThreadPoolExecutor(num, "fetch") if source.waits else None

    def connect_soon(self, key: str, most: int) -> None:
        """Start the threads in a moment, ``most`` of them at most, and let each connect to where ``key`` is."""
        if self.pool is not None:
            timer = threading.Timer(HEAD_START_S, self._connect, (key, min(most, self.num)))
            timer.daemon = True
            timer.start()

    def close(self) -> None:
        """Stop the threads."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def _connect(self, key: str, num: int) -> None:
        assert self.pool is not None
        all_started = threading.Event()

        def connect() -> None:
            try:
                self.source.connect(key)  # what fails here fails again in the first read, which says why
            finally:
                all_started.wait()  # a pool starts no thread while one of them is idle

        with suppress(RuntimeError):  # closed in the meantime
            for _ in range(num):
                self.pool.submit(connect)
        all_started.set()


class StoreBytes:
    """Any store, through ``read_range``: the plain way, and the oracle of the tests."""

    waits = True

    def __init__(self, store: Store) -> None:
        self._store = store

    def read_into(self, key: str, start: int, view: memoryview, *, fresh: bool = False) -> None:
        """Fill ``view``."""
        view[:] = self._store.read_range(key, start, len(view))

    def connect(self, key: str) -> None:
        """Nothing: the store has its own connections."""


class LocalBytes:
    """A folder: file handles stay open."""

    waits = False

    def __init__(self, store: LocalStore) -> None:
        self._store, self._files = store, dict[str, int]()
        self._lock = threading.Lock()

    def read_into(self, key: str, start: int, view: memoryview, *, fresh: bool = False) -> None:
        """Fill ``view``."""
        with self._lock:
            file = self._files.get(key)
            if file is None:
                path = self._store.root / key
                if not path.is_file():
                    self._store.read_range(key, start, 1)  # raises what a user understands
                file = self._files[key] = os.open(path, os.O_RDONLY)
        got = 0
        while got < len(view):
            n = os.preadv(file, [view[got:]], start + got)
            if not n:
                raise too_short(join(self._store.uri, key), start, len(view), start + got)
            got += n

    def connect(self, key: str) -> None:
        """Nothing."""

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)


@dataclass
class Counters:
    """What reading over HTTP went through."""

    requests: int = 0
    retries: int = 0
    hedges: int = 0
    bytes: int = 0
    first_byte_s: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    def slow_s(self) -> float | None:
        """The time by which nearly every answer has begun; None while too few are known."""
        if len(self.first_byte_s) < HEDGE_AFTER:
            return None
        known = sorted(self.first_byte_s)
        return max(HEDGE_LEAST_S, 1.5 * known[int(0.95 * (len(known) - 1))])


class HttpBytes:
    """An S3 prefix: presigned once per shard, then ranged GETs straight into the buffer."""

    waits = True

    def __init__(self, store: S3Store) -> None:
        self._store, self.counters = store, Counters()
        self._signed: dict[str, tuple[float, str]] = {}
        self._etags: dict[str, str] = {}
        self._lock = threading.Lock()
        self._own = threading.local()

    def read_into(self, key: str, start: int, view: memoryview, *, fresh: bool = False) -> None:
        """Fill ``view``; what has arrived is kept when a connection breaks."""
        got, why, signs = 0, "", 0
        for attempt in range(1, TRIES + 1):
            before = got
            try:
                while got < len(view):
                    got = self._request(key, start, view, got)
                return
            except _Refused as refused:
                why = str(refused)
                if refused.status == 403 and not signs:
                    signs += 1
                    self._sign(key, again=True)
                elif refused.status == 404:
                    raise self._missing(key, why) from None
                elif refused.status == 416:
                    raise too_short(join(self._store.uri, key), start, len(view), start + got) from None
                elif refused.status < 500 and refused.status not in (403, 408, 429):
                    break
            except (OSError, http.client.HTTPException) as error:
                why = f"{type(error).__name__} after {got} of {len(view)} bytes"
                self._own.connection = None
                got = max(got, getattr(error, "got", before))
            with self._lock:
                self.counters.retries += 1
            if attempt < TRIES:
                time.sleep(JITTER.uniform(0, min(BACKOFF_S[0] * 2**attempt, BACKOFF_S[1])))
        raise StorageError(
            "a shard cannot be read",
            where=f"{join(self._store.uri, key)}, bytes {start} to {start + len(view)}",
            why=f"{why}, tried {TRIES} times",
            fix="check the store and the network, then run the same command again: it continues",
        )

    def connect(self, key: str) -> None:
        """Sign the address of ``key`` and open this thread's connection."""
        url = urlsplit(self._sign(key))
        if getattr(self._own, "connection", None) is None:
            self._own.connection = _connect(url.scheme, url.netloc)

    def _request(self, key: str, start: int, view: memoryview, got: int) -> int:
        """One GET of what is missing; how much has arrived then."""
        url = urlsplit(self._sign(key))
        headers = {"Range": f"bytes={start + got}-{start + len(view) - 1}"}
        if key in self._etags:
            headers["If-Match"] = self._etags[key]
        answer = self._answer(url.scheme, url.netloc, f"{url.path}?{url.query}", headers)
        if answer.status not in (200, 206):
            text = answer.read(2000)
            if answer.status == 412:
                raise _replaced(join(self._store.uri, key))
            raise _Refused(answer.status, f"the store answered {answer.status} {answer.reason} ({len(text)} bytes)")
        if answer.status == 200 and start + got:
            self._own.connection = None
            raise _Refused(501, "the store ignores ranges")
        if etag := answer.getheader("ETag"):
            self._etags.setdefault(key, etag)
        while got < len(view):
            try:
                n = answer.readinto(view[got:])
            except (OSError, http.client.HTTPException) as error:
                error.got = got  # type: ignore[union-attr]
                raise
            if not n:
                cut = http.client.IncompleteRead(b"", len(view) - got)
                cut.got = got  # type: ignore[attr-defined]
                raise cut
            got += n
        with self._lock:
            self.counters.bytes += len(view)
        if answer.status == 200 or answer.will_close:
            self._own.connection = None
        return got

    def _answer(self, scheme: str, host: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The beginning of an answer, from whichever of at most two requests is faster."""
        connection = getattr(self._own, "connection", None)
        self._own.connection = None
        began = time.monotonic()
        if connection is not None:
            try:
                connection.request("GET", path, headers=headers)
                if _closed(connection):
                    raise ConnectionResetError("an idle connection was closed")
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
        if connection is None:
            connection = _connect(scheme, host)
            connection.request("GET", path, headers=headers)
        with self._lock:
            self.counters.requests += 1
            slow_s = self.counters.slow_s()
        racing = [connection]
        if slow_s is not None and not _readable(racing, slow_s):
            with self._lock:
                self.counters.hedges += 1
            try:
                second = _connect(scheme, host)
                second.request("GET", path, headers=headers)
                racing.append(second)
            except OSError:
                pass  # the first may still answer
        ready = _readable(racing, FIRST_BYTE_S)
        if ready is None:
            for each in racing:
                each.close()
            raise TimeoutError("no first byte")
        for each in racing:
            if each is not ready:
                each.close()
        with self._lock:
            self.counters.first_byte_s.append(time.monotonic() - began)
        answer = ready.getresponse()
        self._own.connection = ready
        return answer

    def _sign(self, key: str, again: bool = False) -> str:
        with self._lock:
            made_at, url = self._signed.get(key, (0.0, ""))
            if again or not url or time.monotonic() - made_at > SIGNED_S / 2:
                url = self._store.presigned(key, SIGNED_S)
                self._signed[key] = (time.monotonic(), url)
            return url

    def _missing(self, key: str, why: str) -> DataError:
        return DataError(
            "a shard does not exist",
            where=join(self._store.uri, key),
            why=why,
            fix="delete the dataset's manifest.json, then convert again: only what is missing is made",
        )


class _Refused(Exception):  # noqa: N818
    """An answer that is not the bytes."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _replaced(where: str) -> DataError:
    return DataError(
        "a shard was replaced while it was read",
        where=where,
        why="its ETag is no longer the one of the first answer",
        fix="nothing may write into a committed dataset: convert again under another name",
    )


def _connect(scheme: str, host: str) -> http.client.HTTPConnection:
    if scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, timeout=CONNECT_S, context=_tls(os.environ.get("AWS_CA_BUNDLE"))
        )
    else:
        connection = http.client.HTTPConnection(host, timeout=CONNECT_S)
    connection.connect()
    connection.sock.settimeout(STALL_S)
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@cache
def _tls(authorities: str | None) -> ssl.SSLContext:
    """Made once: reading all certificates takes longer than a request."""
    return ssl.create_default_context(cafile=authorities)


def _closed(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side has closed an idle connection (a readable socket without an answer to read)."""
    readable, _, _ = select.select([connection.sock], [], [], 0)
    if not readable:
        return False
    try:
        return connection.sock.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return not isinstance(connection.sock, ssl.SSLSocket)


def _readable(connections: list[http.client.HTTPConnection], seconds: float) -> http.client.HTTPConnection | None:
    poll = select.poll()
    by_file = {each.sock.fileno(): each for each in connections}
    for file in by_file:
        poll.register(file, select.POLLIN)
    ready = poll.poll(seconds * 1000)
    return by_file[ready[0][0]] if ready else None
