"""A small S3 server that misbehaves on request: objects in memory, path style, any credentials.

``with S3Server(Faults(errors=0.05)) as server: server.address`` in a test; ``python -m tests.s3_server`` as a process of
its own (prints its address; POST /_faults with JSON changes the faults). Speaks GET, HEAD, Range, PUT, DELETE, list v2,
multipart and conditional puts. Shares are of requests, drawn from a seed: the same requests meet the same faults.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import google_crc32c


@dataclass
class Faults:
    """What goes wrong. Shares from 0 to 1."""

    latency_s: float = 0.0  # before every answer
    errors: float = 0.0  # 503 SlowDown or 500, half each
    cuts: float = 0.0  # the connection ends in the middle of a body
    flips: float = 0.0  # one bit of a body is wrong
    slow_first_byte: float = 0.0
    slow_s: float = 1.0
    lost_answers: float = 0.0  # a put is done, and its answer never arrives
    ignore_conditions: bool = False  # as some stores do
    refuse_conditions: bool = False  # 501
    checksums: bool = True  # refuse a put whose crc32c is wrong, and name it on GET
    silent: bool = False  # takes a request, never answers
    max_keys: int = 1000
    seed: int = 0
    only: str = ""  # faults for keys that contain this


@dataclass
class Stored:
    """One object."""

    body: bytes
    etag: str
    modified: float
    crc32c: str = ""


@dataclass
class Upload:
    """A multipart upload."""

    key: str
    started: float
    parts: dict[int, bytes] = field(default_factory=dict)


class Quiet(ThreadingHTTPServer):
    """Clients that are killed in the middle of a request are no news."""

    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class S3Server:
    """The server; its objects can be looked at and damaged by tests."""

    def __init__(self, faults: Faults | None = None, port: int = 0) -> None:
        self.faults = faults or Faults()
        self.objects: dict[str, Stored] = {}  # "bucket/key"
        self.buckets: set[str] = set()
        self.uploads: dict[str, Upload] = {}
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        self._draw = random.Random(self.faults.seed)
        handler = type("Handler", (Handler,), {"s3": self})
        self._server = Quiet(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> S3Server:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        self._server.serve_forever(0.05)

    def happens(self, share: float) -> bool:
        if share <= 0:
            return False
        with self.lock:
            return self._draw.random() < share

    def now(self) -> float:
        return time.time()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    s3: S3Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._handle()

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET

    def handle_expect_100(self) -> bool:
        kept = super().handle_expect_100()
        self.wfile.flush()  # the client waits a second for this line
        return kept

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        self.name = unquote(url.path).lstrip("/")
        self.bucket, _, self.key = self.name.partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        faults = self.s3.faults
        with self.s3.lock:
            self.s3.seen[self.command] += 1
        if self.name == "_faults":
            self.s3.faults = Faults(**json.loads(body)) if body else faults
            return self._answer(200, json.dumps(asdict(self.s3.faults)).encode())
        if self.name == "_seen":
            return self._answer(200, json.dumps(self.s3.seen).encode())
        self.faulty = faults.only in self.name
        if faults.silent:
            time.sleep(3600)
        time.sleep(faults.latency_s)
        if self.faulty and self.s3.happens(faults.errors):
            status, code = (503, "SlowDown") if self.s3.happens(0.5) else (500, "InternalError")
            return self._refuse(status, code)
        if self.faulty and self.s3.happens(faults.slow_first_byte):
            time.sleep(faults.slow_s)
        if self.command == "PUT" and not self.key:
            self.s3.buckets.add(self.bucket)
            return self._answer(200)
        if self.bucket not in self.s3.buckets:
            return self._refuse(404, "NoSuchBucket")
        return self._dispatch(body)

    def _dispatch(self, body: bytes) -> None:
        query = self.query
        if self.command in ("GET", "HEAD"):
            if not self.key:
                return self._list_uploads() if "uploads" in query else self._list()
            return self._list_parts() if "uploadId" in query else self._get()
        if self.command == "DELETE":
            with self.s3.lock:
                if "uploadId" in query:
                    self.s3.uploads.pop(query["uploadId"], None)
                else:
                    self.s3.objects.pop(self.name, None)
            return self._answer(204)
        if self.command == "POST":
            return self._begin() if "uploads" in query else self._complete(body)
        if "uploadId" in query:
            return self._put_part(body)
        return self._put(body)

    # ------------------------------------------------------------------------------------------------ objects

    def _put(self, body: bytes) -> None:
        wanted = self.headers.get("x-amz-checksum-crc32c", "")
        if self.faulty and self.s3.happens(self.s3.faults.flips):
            body = _flipped(body)
        if self.s3.faults.checksums and wanted and wanted != crc32c(body):
            return self._refuse(400, "BadDigest")
        with self.s3.lock:
            if not self._condition_holds():
                return None
            # a real digest would cost more CPU than all else; this one changes with the content as well
            tag = f'"{google_crc32c.value(body):08x}{len(body):024x}"'
            self.s3.objects[self.name] = Stored(body, tag, self.s3.now(), wanted)
        if self.faulty and self.s3.happens(self.s3.faults.lost_answers):
            self.close_connection = True
            return None
        return self._answer(200, headers={"ETag": tag})

    def _condition_holds(self) -> bool:
        match, none_match = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if match is None and none_match is None:
            return True
        if self.s3.faults.refuse_conditions:
            self._refuse(501, "NotImplemented")
            return False
        if self.s3.faults.ignore_conditions:
            return True
        there = self.s3.objects.get(self.name)
        if match is not None and there is None:
            self._refuse(404, "NoSuchKey")
            return False
        if (none_match == "*" and there) or (match is not None and there and there.etag.strip('"') != match.strip('"')):
            self._refuse(412, "PreconditionFailed")
            return False
        return True

    def _get(self) -> None:
        there = self.s3.objects.get(self.name)
        if there is None:
            return self._refuse(404, "NoSuchKey")
        headers = {"ETag": there.etag, "Last-Modified": formatdate(there.modified, usegmt=True)}
        body, status, span = there.body, 200, self.headers.get("Range", "")
        if span.startswith("bytes="):
            first, _, last = span[6:].partition("-")
            start = int(first)
            if start >= len(body):
                return self._refuse(416, "InvalidRange")
            end = min(int(last) if last else len(body) - 1, len(body) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            body, status = body[start : end + 1], 206
        elif self.s3.faults.checksums and there.crc32c:
            headers["x-amz-checksum-crc32c"] = there.crc32c
        if self.command == "GET" and self.faulty and body and self.s3.happens(self.s3.faults.flips):
            body = _flipped(body)
        cut = self.command == "GET" and self.faulty and len(body) > 1 and self.s3.happens(self.s3.faults.cuts)
        return self._answer(status, body, headers, cut=cut)

    def _list(self) -> None:
        prefix = f"{self.bucket}/{self.query.get('prefix', '')}"
        after = base64.b64decode(self.query.get("continuation-token", "")).decode()
        num = min(int(self.query.get("max-keys", 1000)), self.s3.faults.max_keys)
        delimiter = self.query.get("delimiter", "")
        with self.s3.lock:
            names = sorted(name for name in self.s3.objects if name.startswith(prefix) and name > after)
            if delimiter:
                return self._list_folders(prefix, delimiter, names)
            found = [(name, self.s3.objects[name]) for name in names[:num]]
        more = len(names) > num
        rows = "".join(
            f"<Contents><Key>{escape(name.partition('/')[2])}</Key><Size>{len(each.body)}</Size>"
            f"<ETag>{escape(each.etag)}</ETag><LastModified>{_iso(each.modified)}</LastModified></Contents>"
            for name, each in found
        )
        token = base64.b64encode(found[-1][0].encode()).decode() if more else ""
        tail = f"<NextContinuationToken>{token}</NextContinuationToken>" if more else ""
        self._xml("ListBucketResult", f"<IsTruncated>{str(more).lower()}</IsTruncated>{rows}{tail}")

    def _list_folders(self, prefix: str, delimiter: str, names: list[str]) -> None:
        """All in one page: enough for tests."""
        tails = [name[len(prefix) :] for name in names]
        folders = dict.fromkeys(tail.partition(delimiter)[0] for tail in tails if delimiter in tail)
        base = prefix.partition("/")[2]
        rows = "".join(
            f"<CommonPrefixes><Prefix>{escape(base + name + delimiter)}</Prefix></CommonPrefixes>" for name in folders
        )
        self._xml("ListBucketResult", f"<IsTruncated>false</IsTruncated>{rows}")

    # ---------------------------------------------------------------------------------------------- multipart

    def _begin(self) -> None:
        with self.s3.lock:
            name = f"upload-{len(self.s3.uploads)}-{self.s3.now()}"
            self.s3.uploads[name] = Upload(self.name, self.s3.now())
        self._xml("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>")

    def _put_part(self, body: bytes) -> None:
        wanted = self.headers.get("x-amz-checksum-crc32c", "")
        if self.faulty and self.s3.happens(self.s3.faults.flips):
            body = _flipped(body)
        if self.s3.faults.checksums and wanted and wanted != crc32c(body):
            return self._refuse(400, "BadDigest")
        upload = self.s3.uploads.get(self.query["uploadId"])
        if upload is None:
            return self._refuse(404, "NoSuchUpload")
        upload.parts[int(self.query["partNumber"])] = body
        return self._answer(200, headers={"ETag": f'"{len(body):032x}"'})

    def _complete(self, body: bytes) -> None:
        upload = self.s3.uploads.get(self.query["uploadId"])
        if upload is None:
            return self._refuse(404, "NoSuchUpload")
        numbers = [
            int(each.text or 0) for each in ElementTree.fromstring(body).iter() if each.tag.endswith("PartNumber")
        ]
        whole = b"".join(upload.parts[number] for number in numbers)
        etag = f'"{hashlib.sha256(str(numbers).encode() + whole[:64]).hexdigest()[:32]}-{len(numbers)}"'
        with self.s3.lock:
            self.s3.objects[self.name] = Stored(whole, etag, self.s3.now())
            self.s3.uploads.pop(self.query["uploadId"], None)
        if self.faulty and self.s3.happens(self.s3.faults.lost_answers):
            self.close_connection = True
            return None
        return self._xml("CompleteMultipartUploadResult", f"<ETag>{escape(etag)}</ETag>")

    def _list_uploads(self) -> None:
        rows = "".join(
            f"<Upload><Key>{escape(each.key.partition('/')[2])}</Key><UploadId>{name}</UploadId>"
            f"<Initiated>{_iso(each.started)}</Initiated></Upload>"
            for name, each in self.s3.uploads.items()
            if each.key.startswith(f"{self.bucket}/{self.query.get('prefix', '')}")
        )
        self._xml("ListMultipartUploadsResult", f"<IsTruncated>false</IsTruncated>{rows}")

    def _list_parts(self) -> None:
        if self.query["uploadId"] not in self.s3.uploads:
            return self._refuse(404, "NoSuchUpload")
        return self._xml("ListPartsResult", "<IsTruncated>false</IsTruncated>")

    # ------------------------------------------------------------------------------------------------ answers

    def _xml(self, root: str, inside: str) -> None:
        text = f'<?xml version="1.0"?><{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{root}>'
        self._answer(200, text.encode(), {"Content-Type": "application/xml"})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.flush()
            view: Any = memoryview(body)
            self.connection.sendall(view[: len(body) // 2] if cut else view)
        if cut:
            self.wfile.flush()
            self.close_connection = True


def crc32c(body: bytes) -> str:
    return base64.b64encode(google_crc32c.value(body).to_bytes(4, "big")).decode()


def _flipped(body: bytes) -> bytes:
    wrong = bytearray(body)
    if wrong:
        wrong[len(wrong) // 3] ^= 4
    return bytes(wrong)


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"


if __name__ == "__main__":
    server = S3Server(Faults(**json.loads(sys.argv[1])) if len(sys.argv) > 1 else None)
    print(server.address, flush=True)
    server.serve()
