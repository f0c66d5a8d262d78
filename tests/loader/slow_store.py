"""A small S3 server over a folder, in a process of its own: slow, faulty or replaced on purpose. GET, HEAD, ranges."""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PIECE = 64 << 10


@dataclass(frozen=True)
class Trouble:
    """What goes wrong, as shares of the requests for shards; and how slow everything is."""

    refused: float = 0.0  # 503
    cut: float = 0.0  # the connection ends inside the body
    flipped: float = 0.0  # one bit is wrong
    slow: float = 0.0  # the first byte comes after slow_s
    slow_s: float = 1.0
    latency_s: float = 0.0  # of every answer
    handshake_s: float = 0.0  # of every connection, before its first answer
    connection_mb_s: float = 0.0  # 0: as fast as it goes
    seed: int = 0
    twice: bool = True  # whether what went wrong may go wrong again when it is asked for again


@contextmanager
def slow_store(root: Path, trouble: Trouble = Trouble()) -> Iterator[tuple[str, Connection]]:
    """The endpoint of a server, with a pipe: send "counts" to receive what it has done."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(str(root), trouble, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}", ours
    finally:
        process.kill()
        process.join()


def counts(pipe: Connection) -> dict[str, Any]:
    """What the server has done so far."""
    pipe.send("counts")
    return dict(pipe.recv())


def _serve(root: str, trouble: Trouble, pipe: Connection) -> None:
    done = {"requests": 0, "bytes": 0, "refused": 0, "cut": 0, "flipped": 0, "slow": 0, "open": 0, "most_open": 0}
    chance, lock = random.Random(trouble.seed), threading.Lock()
    hurt: list[range] = []  # bytes that went wrong when they were asked for last

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            time.sleep(trouble.handshake_s)

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = Path(root) / unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
            shard = path.suffix == ".tar"
            with lock:
                wrong = [
                    name for name in ("refused", "cut", "flipped", "slow") if chance.random() < getattr(trouble, name)
                ]
                wrong = wrong[:1] if shard else []
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if asked and not trouble.twice:
                    before = [each for each in hurt if int(asked[1]) in each]
                    hurt[:] = [each for each in hurt if each not in before]
                    wrong = [] if before else wrong
                    hurt.extend([range(int(asked[1]), int(asked[2]) + 1)] if wrong else [])
                done["requests"] += shard
                done["open"] += shard
                done["most_open"] = max(done["most_open"], done["open"])
                for name in wrong:
                    done[name] += 1
            try:
                time.sleep(trouble.latency_s + (trouble.slow_s if "slow" in wrong else 0))
                if "refused" in wrong:
                    self._say(503, b"<Error><Code>SlowDown</Code></Error>")
                elif not path.is_file():
                    self._say(404, b"<Error><Code>NoSuchKey</Code></Error>" if body else b"")
                else:
                    self._send(path, body, wrong)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with lock:
                    done["open"] -= shard

        def _say(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _send(self, path: Path, body: bool, wrong: list[str]) -> None:
            status = path.stat()
            etag = f'"{status.st_mtime_ns:x}"'
            if self.headers.get("If-Match", etag) != etag:
                self._say(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            begin, end = 0, status.st_size
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted:
                begin = int(wanted[1])
                end = min(end, int(wanted[2]) + 1) if wanted[2] else end
                if begin >= status.st_size:
                    self._say(416, b"<Error><Code>InvalidRange</Code></Error>")
                    return
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(end - begin))
            self.send_header("ETag", etag)
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            if wanted:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{status.st_size}")
            self.end_headers()
            if body:
                self._pour(path, begin, end, wrong)

        def _pour(self, path: Path, begin: int, end: int, wrong: list[str]) -> None:
            started, total = time.monotonic(), end - begin
            stop = begin + total // 2 if "cut" in wrong else end
            with open(path, "rb") as file:
                if not trouble.connection_mb_s and not wrong:
                    self.wfile.flush()
                    file.seek(begin)
                    self.connection.sendfile(file, begin, total)
                else:
                    file.seek(begin)
                    sent = 0
                    while begin + sent < stop:
                        piece = bytearray(file.read(min(PIECE, stop - begin - sent)))
                        if "flipped" in wrong and sent <= total // 2 < sent + len(piece):
                            piece[total // 2 - sent] ^= 1
                        self.wfile.write(piece)
                        sent += len(piece)
                        if trouble.connection_mb_s:
                            due = sent / (trouble.connection_mb_s * 1e6) - (time.monotonic() - started)
                            if due > 0:
                                time.sleep(due)
            with lock:
                done["bytes"] += total
            if "cut" in wrong:
                self.close_connection = True
                self.connection.shutdown(2)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *arguments: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(server.server_address[1])
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(json.loads(json.dumps(done)))
