"""Large objects in parts: 16 MB each, a few at a time, every part with its crc32c; aborted when anything fails.

Called by s3.py for what is larger than 64 MB. A killed upload leaves parts that no listing shows and that ``gc`` aborts.
No byte is copied on its way: ``Body`` hands out views, and a file is read into buffers that serve part after part.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, BinaryIO

from tendon.errors import TendonError
from tendon.storage.local import too_short
from tendon.storage.store import Bytes

if TYPE_CHECKING:
    from tendon.storage.s3 import S3Store

SINGLE_BYTES = 64 << 20  # more than this goes in parts
PART_BYTES = 16 << 20
MAX_PARTS = 9_000  # S3 allows 10,000
SEND_BYTES = 1 << 20
AT_ONCE = 4  # parts in flight, which is also what is held in memory


Part = Callable[[int, int], Bytes]  # from start, so many bytes; valid until the thread asks for its next


class Body:
    """Bytes as the client reads a file: it asks the store before it sends them, and sends views of them."""

    def __init__(self, content: Bytes) -> None:
        self._content, self._at = memoryview(content), 0

    def __len__(self) -> int:
        return len(self._content)

    def read(self, size: int = -1) -> memoryview:
        """The next ``size`` bytes or somewhat more, since each is a send; all that are left when it is negative."""
        end = len(self._content) if size is None or size < 0 else self._at + max(size, SEND_BYTES)
        view = self._content[self._at : end]
        self._at += len(view)
        return view

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on at ``offset``, for a request that is sent again."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._content)}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at


def crc32c_text(data: Bytes) -> str:
    """The checksum as S3 headers spell it."""
    import google_crc32c

    if isinstance(data, memoryview):  # it takes arrays, whose memory nobody can take away
        import numpy as np

        return _text(google_crc32c.value(np.asarray(data)))
    return _text(google_crc32c.value(data))


def crc32c_of_chunks(chunks: Iterable[bytes]) -> str:
    """The same of what arrives in chunks, none of which is kept."""
    import google_crc32c

    checksum = 0
    for chunk in chunks:
        checksum = google_crc32c.extend(checksum, chunk)
    return _text(checksum)


def _text(checksum: int) -> str:
    return base64.b64encode(int(checksum).to_bytes(4, "big")).decode()


def part_of_memory(data: Bytes) -> Part:
    """Parts of what is in memory."""
    view = memoryview(data)
    return lambda start, length: view[start : start + length]


def part_of_file(file: BinaryIO, size: int) -> Part:
    """Parts of an open file, which each thread reads into a buffer of its own: fresh pages cost more than the reading."""
    import numpy as np

    buffers = threading.local()

    def part(start: int, length: int) -> memoryview:
        if not hasattr(buffers, "space"):
            buffers.space = np.empty(min(size, part_bytes(size)), np.uint8).data
        space: memoryview = buffers.space[:length]
        done = 0
        while done < length:
            num = os.preadv(file.fileno(), [space[done:]], start + done)
            if num == 0:
                raise too_short(str(file.name), start, length, start + done)
            done += num
        return space.toreadonly()

    return part


def part_bytes(size: int) -> int:
    """How large the parts of an object of ``size`` are."""
    return max(PART_BYTES, -(-size // MAX_PARTS))


def put_parts(store: S3Store, key: str, part: Part, size: int) -> None:
    """Put one object part by part; it appears whole or not at all."""
    upload = store.request(key, "create_multipart_upload", ChecksumAlgorithm="CRC32C")["UploadId"]
    step = part_bytes(size)

    def put(start: int) -> dict[str, Any]:
        content, number = part(start, min(step, size - start)), start // step + 1
        checksum = crc32c_text(content)
        answer = store.put_part(key, content, UploadId=upload, PartNumber=number, ChecksumCRC32C=checksum)
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32C": checksum}

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            done = list(pool.map(put, range(0, size, step)))  # the first error cancels what has not begun
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
    checksums = enumerate(each["ChecksumCRC32C"] for each in done)
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
