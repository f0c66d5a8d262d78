"""The small server of ``tendon view``: one page and what is below it, on localhost only, for one person.

It answers GET alone, to its own host name alone (a page of another site that resolves to this machine gets nothing), and
every answer forbids the browser to ask any other host.
"""

from __future__ import annotations

import json
import logging
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tendon.errors import TendonError
from tendon.view.shell import SERVED, NothingThere, Reply

if TYPE_CHECKING:
    from tendon.view.site import Site

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Server(ThreadingHTTPServer):
    """Serves a site until it is shut down."""

    daemon_threads = True

    def __init__(self, site: Site, port: int = 0) -> None:
        self.site = site
        super().__init__((HOST, port), _Handler)

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that closes a connection is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def _answer(self, *, send_body: bool) -> None:
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in (HOST, "localhost"):
            return self._send(_problem(403, "this page is for localhost only"), send_body=send_body)
        try:
            reply = self.server.site.answer(urlsplit(self.path).path)
        except NothingThere as nothing:
            reply = _problem(404, f"there is no {nothing}" if "/" in str(nothing) else str(nothing))
        except TendonError as error:
            reply = _problem(502, str(error))
        except Exception as error:
            log.exception("view: %s", self.path)
            reply = _problem(500, f"{type(error).__name__}: {error}")
        return self._send(reply, send_body=send_body)

    def _send(self, reply: Reply, *, send_body: bool) -> None:
        body, status = reply.body, reply.status
        span = RANGE.fullmatch(self.headers.get("Range", "")) if status == 200 else None
        if span and any(span.groups()):
            start, end = _span(span[1], span[2], len(body))
            if start >= len(body) or end < start:
                reply, body, status, span = _problem(416, "no such range"), b"", 416, None
            else:
                status, total = 206, len(body)
                body = body[start : end + 1]
        self.send_response(status)
        self.send_header("Content-Type", f"{reply.kind}; charset=utf-8" if reply.kind == "text/html" else reply.kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", reply.policy or SERVED)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "private, max-age=3600" if reply.kind == "image/jpeg" else "no-store")
        if reply.kind == "video/mp4":
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end}/{total}")
        if reply.location:
            self.send_header("Location", reply.location)
        self.end_headers()
        if send_body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not logged: people watch the page."""


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """First and last byte of a Range header; ``-N`` are the last N."""
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


def _problem(status: int, words: str) -> Reply:
    return Reply(json.dumps({"error": words}).encode(), status=status)
