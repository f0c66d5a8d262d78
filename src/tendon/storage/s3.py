"""A Store over an S3 bucket, through boto3 with its standard credential chain.

Called through ``open_store("s3://bucket/prefix")``. Every request goes through ``_call``: bounded retries with full
jitter, and a four-line error for what cannot be retried away. Every put carries a crc32c that the store verifies and
that ``read`` verifies again; objects above 64 MB go in parts of 16 MB. boto3 is imported at the first request.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tendon.errors import StorageError, TendonError
from tendon.storage.local import reading, too_short
from tendon.storage.s3_claims import put_by_claim
from tendon.storage.s3_client import Connection
from tendon.storage.s3_errors import Damaged, Trouble, explain, is_bad_checksum, trouble
from tendon.storage.s3_parts import (
    SINGLE_BYTES,
    Body,
    crc32c_of_chunks,
    crc32c_text,
    part_of_file,
    part_of_memory,
    put_parts,
)
from tendon.storage.stock import with_both_ways
from tendon.storage.store import HIDDEN, Bytes, ObjectInfo, checked_key
from tendon.storage.uri import join

T = TypeVar("T")

UNREACHABLE_S = 4.0  # no new try after so long without a connection
SILENT_S = 35.0  # ... or after so long with connections that never answer
TRIES = 6
LEFT_S = 3600.0  # after which a hidden object is nobody's
CHUNK_BYTES = 256 << 10  # of what is read back and not kept
PAGE_KEYS = 1000  # of a listing; S3 gives no more at once
BACKOFF_S = (0.2, 8.0)  # half the first and the longest upper bound of the random wait
JITTER = random.SystemRandom()  # a retry must not move the generator that somebody seeded
RETRIED = (Trouble.TRANSIENT, Trouble.UNREACHABLE, Trouble.SILENT, Trouble.DAMAGED)
ABOUT_ACCESS = (  # what another store or other keys would mend
    Trouble.UNREACHABLE,
    Trouble.SILENT,
    Trouble.NO_CREDENTIALS,
    Trouble.WRONG_CREDENTIALS,
    Trouble.DENIED,
    Trouble.NO_BUCKET,
)


class S3Store:
    """A Store over ``s3://bucket/prefix``; safe to use from several threads."""

    def __init__(self, bucket: str, prefix: str, connection: Connection) -> None:
        self.bucket, self.prefix = bucket, prefix
        self.uri = join(f"s3://{bucket}", prefix)
        self._connection = connection

    @classmethod
    def of(cls, uri: str) -> S3Store:
        """The store at an ``s3://`` (or ``minio://``) URI; connects at the first call."""
        bucket, _, prefix = uri.partition("://")[2].partition("/")
        return cls(bucket, prefix.strip("/"), Connection(bucket))

    def at(self, prefix: str) -> S3Store:
        """The same store, rooted deeper."""
        return S3Store(self.bucket, f"{self.prefix}/{prefix.strip('/')}".strip("/"), self._connection)

    def read(self, key: str) -> bytes:
        """The whole object, verified where the store knows its crc32c; a DataError when it does not exist."""

        def get(s3: Any) -> bytes:
            answer = s3.get_object(**self._address(key), ChecksumMode="ENABLED")
            data: bytes = answer["Body"].read()
            wanted = answer.get("ChecksumCRC32C", "")
            if wanted and "-" not in wanted and wanted != crc32c_text(data):  # "-": a checksum of parts
                raise Damaged(f"crc32c is {crc32c_text(data)}, the store names {wanted}")
            return data

        return self._call(key, get)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``; a DataError when the object is shorter."""
        if length == 0:
            return b""
        where = self._address(key) | {"Range": f"bytes={start}-{start + length - 1}"}
        try:
            data: bytes = self._call(key, lambda s3: s3.get_object(**where)["Body"].read(), expect=(Trouble.BAD_RANGE,))
        except _Expected:
            data = b""
        if len(data) != length:
            raise too_short(join(self.uri, key), start, length, start + len(data))
        return data

    def write(self, key: str, data: Bytes) -> None:
        """Put the object, replacing what was there."""
        if len(data) > SINGLE_BYTES:
            put_parts(self, key, part_of_memory(data), len(data))
        else:
            self._put(key, data)

    def put_file(self, key: str, path: Path) -> None:
        """Put a file, replacing what was there, without holding it in memory."""
        with reading(path) as file:
            size = path.stat().st_size
            if size > SINGLE_BYTES:
                put_parts(self, key, part_of_file(file, size), size)
            else:
                self._put(key, file.read())

    def create(self, key: str, data: bytes) -> bool:
        """Put the object unless one is there; False when one was."""
        return self._put_if(key, data, None)

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        """Compare and swap: put only if the object still has ``etag`` (None: does not exist); False when it has not."""
        return self._put_if(key, data, etag)

    def head(self, key: str) -> ObjectInfo | None:
        """What is known of the object, None when it does not exist."""
        expect = (Trouble.NOT_THERE, Trouble.DENIED, Trouble.REFUSED)
        try:
            answer = self._call(key, lambda s3: s3.head_object(**self._address(key)), expect=expect)
        except _Expected as found:
            # the answer to a HEAD has no body: a listing says whether the bucket exists and what is wrong otherwise
            self._connection.check_bucket(self._list_one, again=found.kind is not Trouble.NOT_THERE)
            if found.kind is not Trouble.NOT_THERE:
                raise self._explained(found.kind, found.error, key) from None
            return None
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"], _modified(answer))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object under ``prefix``, in key order, however many."""
        for key, entry in self.entries(prefix):
            if not key.rpartition("/")[2].startswith(HIDDEN):
                yield _info(key, entry)

    def entries(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Keys and what the store's listing says of them, hidden objects included."""
        base = f"{self.prefix}/" if self.prefix else ""
        ask: dict[str, Any] = {"Bucket": self.bucket, "Prefix": base + prefix, "MaxKeys": PAGE_KEYS}
        while True:
            page = self._call(prefix, lambda s3: s3.list_objects_v2(**ask))
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):  # folder placeholders that consoles make
                    yield entry["Key"][len(base) :], entry
            if not page.get("IsTruncated"):
                return
            ask["ContinuationToken"] = page["NextContinuationToken"]

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The names directly below ``prefix``, which ends with a slash; one request for a thousand."""
        base = (f"{self.prefix}/" if self.prefix else "") + prefix
        ask: dict[str, Any] = {"Bucket": self.bucket, "Prefix": base, "Delimiter": "/", "MaxKeys": PAGE_KEYS}
        names: dict[str, None] = {}
        while True:
            page = self._call(prefix, lambda s3: s3.list_objects_v2(**ask))
            folders = [one["Prefix"] for one in page.get("CommonPrefixes", ())]
            keys = [one["Key"] for one in page.get("Contents", ())]  # a store without delimiters names every object
            names |= dict.fromkeys(
                one[len(base) :].partition("/")[0] for one in (*folders, *keys) if "/" in one[len(base) :]
            )
            if not page.get("IsTruncated"):
                return tuple(sorted(names))
            ask["ContinuationToken"] = page["NextContinuationToken"]

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Probes and claims of processes that were killed an hour ago or more."""
        before = datetime.now(timezone.utc) - timedelta(seconds=LEFT_S)
        for key, entry in self.entries(""):
            if key.rpartition("/")[2].startswith(HIDDEN) and entry["LastModified"] < before:
                yield _info(key, entry)

    def sweep(self, key: str) -> None:
        """Delete a leftover."""
        self.delete(key)

    def delete(self, key: str) -> None:
        """Remove the object; no error when it is gone already."""
        self._call(key, lambda s3: s3.delete_object(**self._address(key)))

    def presigned(self, key: str, seconds: int) -> str:
        """An address from which anyone who has it can read the object, ranges included, for some time. A secret."""
        client = self._connection.client(self.uri)
        return str(client.generate_presigned_url("get_object", Params=self._address(key), ExpiresIn=seconds))

    def request(self, key: str, name: str, **arguments: Any) -> Any:
        """One client call about ``key``, with retries and errors as everywhere; for uploads in parts."""
        return self._call(key, lambda s3: getattr(s3, name)(**self._address(key), **arguments))

    def put_part(self, key: str, content: Bytes, **arguments: Any) -> Any:
        """One part of an upload in parts."""
        return self._call(key, lambda s3: s3.upload_part(**self._address(key), Body=Body(content), **arguments))

    def ask(self, name: str, **arguments: Any) -> Any:
        """One client call about no key in particular."""
        return self._call("", lambda s3: getattr(s3, name)(**arguments))

    def put_honours(self, key: str, data: bytes, **condition: str) -> bool:
        """Put under a condition; False when the store says that it does not hold.

        Raises:
            StorageError: the store does not know conditions (501), among others.
        """
        attempts = 0

        def put(s3: Any) -> None:
            nonlocal attempts
            attempts += 1
            s3.put_object(**self._address(key), Body=data, ChecksumCRC32C=crc32c_text(data), **condition)

        try:
            self._call(key, put, expect=(Trouble.REFUTED, Trouble.NO_OBJECT))  # If-Match on nothing is a 404
        except _Expected:
            # after a cut connection our own first try may be what refuted the second
            return attempts > 1 and self.head(key) is not None and self.read(key) == data
        return True

    def _put_if(self, key: str, data: bytes, etag: str | None) -> bool:
        checked_key(key)
        if not self._connection.honours_conditions(self):
            return put_by_claim(self, key, data, etag)
        return self.put_honours(key, data, **({"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}))

    def put_is_refused(self, key: str, data: bytes, crc32c: str, about: str) -> bool:
        """Put with a checksum that is not that of the bytes; whether the store finds out. Errors are told of ``about``."""

        def put(s3: Any) -> bool:
            try:
                s3.put_object(**self._address(key), Body=data, ChecksumCRC32C=crc32c)
            except Exception as error:
                if is_bad_checksum(error):
                    return True
                raise
            return False

        try:
            return self._call(about, put, expect=(Trouble.DENIED, Trouble.REFUSED, Trouble.UNSUPPORTED))
        except _Expected:
            return True  # nobody knows: these keys may not write hidden objects

    def _put(self, key: str, data: Bytes) -> None:
        verified, checksum = self._connection.verifies_checksums(self, key), crc32c_text(data)

        def put(s3: Any) -> None:
            s3.put_object(**self._address(key), Body=Body(data), ChecksumCRC32C=checksum)
            if not verified and _stored_crc32c(s3, **self._address(key)) != checksum:
                raise Damaged("the store verifies no checksums, and holds other bytes than were sent")

        self._call(key, put)

    def read_back(self, key: str, parts: Iterable[tuple[int, int, str]]) -> None:
        """Compare an object that was put in parts, where the store did not: (start, length, crc32c) of each."""
        if self._connection.verifies_checksums(self, key):
            return
        for start, length, checksum in parts:
            where = self._address(key) | {"Range": f"bytes={start}-{start + length - 1}"}
            if self._call(key, partial(_stored_crc32c, **where)) != checksum:
                raise StorageError(
                    "an object arrived damaged",
                    where=join(self.uri, key),
                    why=f"bytes {start} to {start + length} are not those that were sent, and the store verifies no checksums",
                    fix="run the same command again; use a store that verifies crc32c (AWS, MinIO, Ceph, R2)",
                )

    def _list_one(self) -> None:
        ask = {"Bucket": self.bucket, "Prefix": self.prefix, "MaxKeys": 1}
        self._call("", lambda s3: s3.list_objects_v2(**ask))

    def _address(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{checked_key(key)}".lstrip("/")}

    def _explained(self, kind: Trouble, error: Exception, key: str) -> TendonError:
        explained = explain(kind, error, join(self.uri, key), self._connection.endpoint)
        return with_both_ways(explained, self.bucket) if kind in ABOUT_ACCESS else explained

    def _call(self, key: str, request: Callable[[Any], T], expect: tuple[Trouble, ...] = ()) -> T:
        """Run one request, retrying what may pass; _Expected for the kinds of trouble that the caller handles."""
        client, started = self._connection.client(self.uri), time.monotonic()
        for attempt in range(1, TRIES + 1):
            try:
                return request(client)
            except Exception as error:  # noqa: PERF203 - a try per attempt is the point
                kind = trouble(error)
                if kind in expect:
                    raise _Expected(kind, error) from error
                patience = {Trouble.UNREACHABLE: UNREACHABLE_S, Trouble.SILENT: SILENT_S}.get(kind, float("inf"))
                if kind not in RETRIED or attempt == TRIES or time.monotonic() - started > patience:
                    if kind is Trouble.UNKNOWN:
                        raise
                    raise self._explained(kind, error, key) from None  # its text may quote an endpoint with a password
                time.sleep(JITTER.uniform(0, min(BACKOFF_S[0] * 2**attempt, BACKOFF_S[1])))
        raise AssertionError("the last attempt returns or raises")


def _stored_crc32c(s3: Any, **where: str) -> str:
    """The crc32c of what the store gives back, of which no more than a chunk is held."""
    return crc32c_of_chunks(s3.get_object(**where)["Body"].iter_chunks(CHUNK_BYTES))


def _info(key: str, entry: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(key, entry["Size"], entry["ETag"], _modified(entry))


def _modified(entry: dict[str, Any]) -> float:
    when: datetime | None = entry.get("LastModified")
    return when.timestamp() if when is not None else 0.0


class _Expected(Exception):  # noqa: N818
    """A kind of trouble that the caller of ``_call`` handles."""

    def __init__(self, kind: Trouble, error: Exception) -> None:
        super().__init__(kind.name)
        self.kind, self.error = kind, error
