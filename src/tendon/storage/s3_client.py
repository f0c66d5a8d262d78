"""The boto3 client behind S3 stores, and what is known of the endpoint it talks to. Called by s3.py only."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from tendon.errors import StorageError, TendonError
from tendon.storage.s3_errors import explain_no_client
from tendon.storage.s3_parts import crc32c_text
from tendon.storage.stock import StockAccess, stock_access
from tendon.storage.store import HIDDEN

if TYPE_CHECKING:
    from tendon.storage.s3 import S3Store

log = logging.getLogger(__name__)

CONNECT_S = 2.0
READ_S = 20.0
NO_ETAG = '"00000000000000000000000000000000"'

CONDITIONAL: dict[str, bool] = {}  # per endpoint: whether it honours If-None-Match and If-Match; asked once per process

CHECKSUMS: dict[str, bool] = {}  # ... and whether it refuses a put whose crc32c is wrong


class Connection:
    """The client that a store and everything below it share; made at the first request."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._bucket_seen = False

    def client(self, where: str) -> Any:
        """The client; a StorageError when boto3 finds its configuration unusable."""
        with self._lock:
            try:
                return self._client
            except TendonError:
                raise
            except Exception as error:
                raise explain_no_client(error, where) from None

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        return str(self._client.meta.endpoint_url)

    def check_bucket(self, list_one: Callable[[], None], again: bool) -> None:
        """Raise a StorageError when the bucket does not exist or refuses us; asked once unless ``again``."""
        if again or not self._bucket_seen:
            list_one()
            self._bucket_seen = True

    def honours_conditions(self, store: S3Store) -> bool:
        """Whether the endpoint refuses a put whose condition does not hold; found out with a hidden object, once."""
        self.client(store.uri)
        with self._asking:
            if self.endpoint not in CONDITIONAL:
                CONDITIONAL[self.endpoint] = "amazonaws.com" in self.endpoint or _probe(store)
            return CONDITIONAL[self.endpoint]

    def verifies_checksums(self, store: S3Store, key: str) -> bool:
        """Whether the endpoint refuses a put whose crc32c is wrong; found out with a hidden object, when ``key`` is put first."""
        self.client(store.uri)
        with self._asking:
            if self.endpoint not in CHECKSUMS:
                CHECKSUMS[self.endpoint] = "amazonaws.com" in self.endpoint or _refuses_damage(store, key)
            return CHECKSUMS[self.endpoint]

    @cached_property
    def _client(self) -> Any:
        stock = stock_access(self._bucket)
        if stock:
            return _make_client("path", stock)
        custom = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        client = _make_client("path" if custom else "auto")
        if not custom and "amazonaws." not in client.meta.endpoint_url:  # an endpoint from the profile
            client = _make_client("path")
        return client


def _probe(store: S3Store) -> bool:
    key = f"{HIDDEN}probe-{uuid.uuid4().hex}"
    try:
        store.put_honours(key, b"1", IfNoneMatch="*")
        holds = not store.put_honours(key, b"2", IfNoneMatch="*") and not store.put_honours(key, b"3", IfMatch=NO_ETAG)
    except StorageError as error:
        if "lacks conditional puts" not in error.problems[0].what:
            raise
        holds = False
    store.delete(key)
    return holds


def _refuses_damage(store: S3Store, key: str) -> bool:
    probe = f"{HIDDEN}probe-{uuid.uuid4().hex}"
    if store.put_is_refused(probe, b"sent", crc32c_text(b"meant"), about=key):
        return True
    store.delete(probe)
    log.warning("storage: %s verifies no checksums: what is written there is read back and compared", store.uri)
    return False


def _make_client(addressing: str, stock: StockAccess | None = None) -> Any:
    import boto3
    import botocore.session
    from botocore.config import Config

    core = botocore.session.get_session()
    core.register_component("data_loader", _service_models())  # type: ignore[no-untyped-call]
    session = boto3.session.Session(botocore_session=core)
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": 1, "mode": "standard"},  # _call retries
        max_pool_connections=32,
        # no sha256 over every body to sign it: each carries its crc32c, which the store verifies (half the CPU of a put)
        s3={"addressing_style": addressing, "payload_signing_enabled": False},  # type: ignore[arg-type, typeddict-item]
        request_checksum_calculation="when_required",  # stores other than AWS choke on the default
        response_checksum_validation="when_required",
    )
    return session.client(
        "s3",
        region_name=session.region_name or "us-east-1",
        config=config,
        endpoint_url=stock.endpoint if stock else None,
        aws_access_key_id=stock.access_key if stock else None,
        aws_secret_access_key=stock.secret_key if stock else None,
    )


@cache
def _service_models() -> Any:
    """What boto3 knows of S3, parsed once per process: it is most of what a client costs, and a step makes a dozen."""
    import botocore.session

    return botocore.session.get_session().get_component("data_loader")
