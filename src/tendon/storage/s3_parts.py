"""Large objects in parts: 16 MB each, a few at a time, every part with its crc32c; aborted when anything fails.

Called by s3.py for what is larger than 64 MB. A killed upload leaves parts that no listing shows and that ``gc`` aborts.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, BinaryIO

from tendon.errors import TendonError
from tendon.storage.store import Bytes

if TYPE_CHECKING:
    from tendon.storage.s3 import S3Store

SINGLE_BYTES = 64 << 20  # more than this goes in parts
PART_BYTES = 16 << 20
MAX_PARTS = 9_000  # S3 allows 10,000
AT_ONCE = 4  # parts in flight, which is also what is held in memory


def crc32c_text(data: bytes) -> str:
    """The checksum as S3 headers spell it."""
    import google_crc32c

    return base64.b64encode(int(google_crc32c.value(data)).to_bytes(4, "big")).decode()


def slices(data: Bytes) -> Iterator[bytes]:
    """The parts of what is in memory."""
    step = part_bytes(len(data))
    return (bytes(data[start : start + step]) for start in range(0, len(data), step))


def file_parts(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The parts of an open file."""
    return iter(lambda: file.read(part_bytes(size)), b"")


def part_bytes(size: int) -> int:
    """How large the parts of an object of ``size`` are."""
    return max(PART_BYTES, -(-size // MAX_PARTS))


def put_parts(store: S3Store, key: str, parts: Iterator[bytes], size: int) -> None:
    """Put one object part by part; it appears whole or not at all."""
    upload = store.request(key, "create_multipart_upload", ChecksumAlgorithm="CRC32C")["UploadId"]

    def put(number: int, part: bytes) -> dict[str, Any]:
        checksum = crc32c_text(part)
        answer = store.request(
            key, "upload_part", UploadId=upload, PartNumber=number, Body=part, ChecksumCRC32C=checksum
        )
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32C": checksum}

    done: list[dict[str, Any]] = []
    waiting: deque[Future[dict[str, Any]]] = deque()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number, part in enumerate(parts, 1):
                if len(waiting) == AT_ONCE:
                    done.append(waiting.popleft().result())
                waiting.append(pool.submit(put, number, part))
            done += [each.result() for each in waiting]
        store.request(key, "complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": done})
    except BaseException:
        there = None
        with suppress(TendonError):
            there = store.head(key)  # a completion whose answer was lost has taken the upload away
        if there is not None and there.size == size and not _is_open(store, key, upload):
            return
        with suppress(TendonError):
            store.request(key, "abort_multipart_upload", UploadId=upload)
        raise
    step = part_bytes(size)
    checksums = enumerate(part["ChecksumCRC32C"] for part in done)
    store.read_back(key, ((n * step, min(step, size - n * step), checksum) for n, checksum in checksums))


def abort_old_uploads(store: S3Store, hours: float = 24.0) -> int:
    """Forget unfinished uploads below the store that are older than ``hours``; how many there were."""
    before = datetime.now(timezone.utc) - timedelta(hours=hours)
    base = f"{store.prefix}/" if store.prefix else ""
    ask: dict[str, Any] = {"Bucket": store.bucket, "Prefix": base}
    num = 0
    while True:
        page = store.ask("list_multipart_uploads", **ask)
        for each in page.get("Uploads", ()):
            if each["Initiated"] < before:
                store.request(each["Key"][len(base) :], "abort_multipart_upload", UploadId=each["UploadId"])
                num += 1
        if not page.get("IsTruncated"):
            return num
        ask |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _is_open(store: S3Store, key: str, upload: str) -> bool:
    try:
        store.request(key, "list_parts", UploadId=upload, MaxParts=1)
    except TendonError:
        return False
    return True
