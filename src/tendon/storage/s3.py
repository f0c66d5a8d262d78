"""A Store over an S3 bucket, through boto3 with its standard credential chain.

Called through ``open_store("s3://bucket/prefix")``. Every request goes through ``_call``: bounded retries with jitter,
and a four-line error for what cannot be retried away. boto3 is imported at the first request.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from tendon.errors import TendonError
from tendon.storage.local import too_short
from tendon.storage.s3_errors import Trouble, explain, explain_no_client, trouble
from tendon.storage.store import ObjectInfo, checked_key
from tendon.storage.uri import join

T = TypeVar("T")

CONNECT_S = 2.0
READ_S = 30.0
UNREACHABLE_S = 4.0  # no new try after so long without a connection
TRIES = 6
PAGE_KEYS = 1000  # of a listing; S3 gives no more at once
BACKOFF_S = (0.2, 8.0)  # half the first and the longest upper bound of the random wait


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
        return cls(bucket, prefix.strip("/"), Connection())

    def at(self, prefix: str) -> S3Store:
        """The same store, rooted deeper."""
        return S3Store(self.bucket, f"{self.prefix}/{prefix.strip('/')}".strip("/"), self._connection)

    def read(self, key: str) -> bytes:
        """The whole object; a DataError when it does not exist."""
        data: bytes = self._call(key, lambda s3: s3.get_object(**self._address(key))["Body"].read())
        return data

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

    def write(self, key: str, data: bytes) -> None:
        """Put the object, replacing what was there."""
        self._call(key, lambda s3: s3.put_object(**self._address(key), Body=data))

    def create(self, key: str, data: bytes) -> bool:
        """Put the object unless one is there; False when one was."""
        return self._put_if(key, data, {"IfNoneMatch": "*"})

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        """Compare and swap: put only if the object still has ``etag`` (None: does not exist); False when it has not."""
        return self._put_if(key, data, {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag})

    def head(self, key: str) -> ObjectInfo | None:
        """What is known of the object, None when it does not exist."""
        expect = (Trouble.NOT_THERE, Trouble.DENIED, Trouble.REFUSED)
        try:
            answer = self._call(key, lambda s3: s3.head_object(**self._address(key)), expect=expect)
        except _Expected as found:
            # the answer to a HEAD has no body: a listing says whether the bucket exists and what is wrong otherwise
            self._connection.check_bucket(self, again=found.kind is not Trouble.NOT_THERE)
            if found.kind is not Trouble.NOT_THERE:
                raise self._explained(found.kind, found.error, key) from None
            return None
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"])

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object under ``prefix``, in key order, however many."""
        base = f"{self.prefix}/" if self.prefix else ""
        ask: dict[str, Any] = {"Bucket": self.bucket, "Prefix": base + prefix, "MaxKeys": PAGE_KEYS}
        while True:
            page = self._call(prefix, lambda s3: s3.list_objects_v2(**ask))
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):  # folder placeholders that consoles make
                    yield ObjectInfo(entry["Key"][len(base) :], entry["Size"], entry["ETag"])
            if not page.get("IsTruncated"):
                return
            ask["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, key: str) -> None:
        """Remove the object; no error when it is gone already."""
        self._call(key, lambda s3: s3.delete_object(**self._address(key)))

    def presigned(self, key: str, seconds: int) -> str:
        """An address from which anyone who has it can read the object, ranges included, for some time. A secret."""
        client = self._connection.client(self)
        return str(client.generate_presigned_url("get_object", Params=self._address(key), ExpiresIn=seconds))

    def _address(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{checked_key(key)}".lstrip("/")}

    def _put_if(self, key: str, data: bytes, condition: dict[str, str]) -> bool:
        attempts = 0

        def put(s3: Any) -> None:
            nonlocal attempts
            attempts += 1
            s3.put_object(**self._address(key), Body=data, **condition)

        try:
            self._call(key, put, expect=(Trouble.REFUTED, Trouble.NO_OBJECT))  # If-Match on nothing is a 404
        except _Expected:
            # after a cut connection our own first try may be what refuted the second
            return attempts > 1 and self.head(key) is not None and self.read(key) == data
        return True

    def _explained(self, kind: Trouble, error: Exception, key: str) -> TendonError:
        return explain(kind, error, join(self.uri, key), self._connection.endpoint)

    def _call(self, key: str, request: Callable[[Any], T], expect: tuple[Trouble, ...] = ()) -> T:
        """Run one request, retrying what may pass; _Expected for the kinds of trouble that the caller handles."""
        client, started = self._connection.client(self), time.monotonic()
        for attempt in range(1, TRIES + 1):
            try:
                return request(client)
            except Exception as error:  # noqa: PERF203 - a try per attempt is the point
                kind = trouble(error)
                if kind in expect:
                    raise _Expected(kind, error) from error
                late = kind is Trouble.UNREACHABLE and time.monotonic() - started > UNREACHABLE_S
                if kind not in (Trouble.TRANSIENT, Trouble.UNREACHABLE) or attempt == TRIES or late:
                    if kind is Trouble.UNKNOWN:
                        raise
                    raise self._explained(kind, error, key) from None  # its text may quote an endpoint with a password
                time.sleep(random.uniform(0, min(BACKOFF_S[0] * 2**attempt, BACKOFF_S[1])))
        raise AssertionError("the last attempt returns or raises")


class _Expected(Exception):  # noqa: N818
    """A kind of trouble that the caller of ``_call`` handles."""

    def __init__(self, kind: Trouble, error: Exception) -> None:
        super().__init__(kind.name)
        self.kind, self.error = kind, error


class Connection:
    """The boto3 client that a store and everything below it share; made at the first request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bucket_seen = False

    def client(self, store: S3Store) -> Any:
        """The client; a StorageError when boto3 finds its configuration unusable."""
        with self._lock:
            try:
                return self._client
            except Exception as error:
                raise explain_no_client(error, store.uri) from None

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        return str(self._client.meta.endpoint_url)

    def check_bucket(self, store: S3Store, again: bool) -> None:
        """Raise a StorageError when the bucket does not exist or refuses us; asked once unless ``again``."""
        if again or not self._bucket_seen:
            ask = {"Bucket": store.bucket, "Prefix": store.prefix, "MaxKeys": 1}
            store._call("", lambda s3: s3.list_objects_v2(**ask))
            self._bucket_seen = True

    @cached_property
    def _client(self) -> Any:
        custom = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        client = _make_client("path" if custom else "auto")
        if not custom and "amazonaws." not in client.meta.endpoint_url:  # an endpoint from the profile
            client = _make_client("path")
        return client


def _make_client(addressing: str) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.session.Session()
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": 1, "mode": "standard"},  # _call retries
        max_pool_connections=32,
        s3={"addressing_style": addressing},  # type: ignore[arg-type]
        request_checksum_calculation="when_required",  # stores other than AWS choke on the default
        response_checksum_validation="when_required",
    )
    return session.client("s3", region_name=session.region_name or "us-east-1", config=config)
