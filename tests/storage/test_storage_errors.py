"""What the user reads when storage fails: four lines, exit code 4, no secret."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest

from tendon.errors import StorageError
from tendon.storage import open_store

SECRET = "a-secret-that-nobody-may-see"
KEY_ID = "AKIATESTTESTTESTTEST"


def four_lines(error: pytest.ExceptionInfo[StorageError]) -> str:
    text = str(error.value)
    assert [line.split(":")[0] for line in text.splitlines()] == ["error", "where", "why", "fix"]
    assert error.value.exit_code == 4
    assert SECRET not in text
    assert KEY_ID not in text
    return text


class Scripted(BaseHTTPRequestHandler):
    """Answers every request with the next scripted (status, code); the last one stays."""

    script: ClassVar[list[tuple[int, str]]]
    seen: ClassVar[list[str]]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.seen.append(self.command)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, code = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        text = f"<Error><Code>{code}</Code><Message>{KEY_ID} {SECRET}</Message></Error>"
        body = b"hello" if status == 200 else text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def scripted(s3_environment: pytest.MonkeyPatch) -> Iterator[type[Scripted]]:
    handler = type("Handler", (Scripted,), {"script": [], "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    s3_environment.setenv("AWS_ENDPOINT_URL", f"http://user:{SECRET}@127.0.0.1:{server.server_port}")
    s3_environment.setattr("tendon.storage.s3.BACKOFF_S", (0.001, 0.002))
    yield handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "InvalidAccessKeyId", "credentials are wrong"),
        (403, "SignatureDoesNotMatch", "credentials are wrong"),
        (400, "ExpiredToken", "credentials are wrong"),
        (403, "AccessDenied", "may not do this"),
        (404, "NoSuchBucket", "bucket does not exist"),
        (507, "XMinioStorageFull", "is full"),
        (503, "SlowDown", "keeps failing"),
        (501, "NotImplemented", "lacks conditional puts"),
        (404, "PageNotFound", "does not know this address"),
        (405, "MethodNotAllowed", "refuses a request"),
    ],
)
def test_refusals(scripted: type[Scripted], status: int, code: str, says: str) -> None:
    scripted.script[:] = [(status, code)]
    store = open_store("s3://some-bucket/x")
    for act in (lambda: store.read("k"), lambda: store.write("k", b""), lambda: store.head("k")):
        with pytest.raises(StorageError) as error:
            act()
        text = four_lines(error)
        assert says in text
        assert "127.0.0.1" in text


def test_passing_trouble_is_retried(scripted: type[Scripted]) -> None:
    scripted.script[:] = [(503, "SlowDown"), (500, "InternalError"), (200, "")]
    assert open_store("s3://some-bucket").read("k") == b"hello"
    assert len(scripted.seen) == 3


def test_create_whose_first_answer_was_lost(scripted: type[Scripted], s3_environment: pytest.MonkeyPatch) -> None:
    """The first put went through but its answer was a 500; the second is refuted by our own object."""
    s3_environment.setattr("tendon.storage.s3_client._probe", lambda store: True)
    scripted.script[:] = [(500, "InternalError"), (412, "PreconditionFailed"), (200, "")]
    assert open_store("s3://some-bucket").create("k", b"hello")
    scripted.script[:] = [(412, "PreconditionFailed"), (200, "")]
    assert not open_store("s3://some-bucket").create("k", b"hello")


def test_refused_connection(s3_environment: pytest.MonkeyPatch) -> None:
    s3_environment.setenv("AWS_ENDPOINT_URL", f"http://u:{SECRET}@127.0.0.1:9")
    s3_environment.setattr("tendon.storage.s3.BACKOFF_S", (0.001, 0.002))
    with pytest.raises(StorageError) as error:
        open_store("s3://some-bucket/x").read("k")
    text = four_lines(error)
    assert "http://127.0.0.1:9" in text
    assert "AWS_ENDPOINT_URL" in text
    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_silent_endpoint(s3_environment: pytest.MonkeyPatch) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = [socket.socket() for _ in range(3)]  # a full backlog: further connections hang
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    s3_environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    s3_environment.setattr("tendon.storage.s3_client.CONNECT_S", 0.2)
    s3_environment.setattr("tendon.storage.s3.UNREACHABLE_S", 0.3)
    start = time.monotonic()
    with pytest.raises(StorageError, match="cannot be reached"):
        open_store("s3://some-bucket/x").head("k")
    assert 0.3 < time.monotonic() - start < 3
    for each in (listener, *fillers):
        each.close()


def test_the_time_limits_add_up() -> None:
    from tendon.storage import s3, s3_client

    assert s3.SILENT_S + s3.BACKOFF_S[0] * 8 + s3_client.READ_S < 60
    assert s3.UNREACHABLE_S + s3.BACKOFF_S[0] * 8 + 2 * s3_client.CONNECT_S < 10  # the last try may meet two addresses


def test_no_credentials(s3_uri: str, s3_environment: pytest.MonkeyPatch) -> None:
    s3_environment.delenv("AWS_ACCESS_KEY_ID")
    s3_environment.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no S3 credentials") as error:
        open_store(s3_uri).write("k", b"")
    four_lines(error)


def test_no_such_bucket(s3_uri: str) -> None:
    store = open_store("s3://never-made-bucket/x")
    for act in (
        lambda: store.read("k"),
        lambda: store.write("k", b""),
        lambda: store.head("k"),
        lambda: [*store.list()],
    ):
        with pytest.raises(StorageError, match="bucket does not exist"):
            act()


def test_bad_names_and_profiles(s3_uri: str, s3_environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="not valid"):
        open_store("s3://A bucket/x").read("k")
    s3_environment.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match="cannot be set up") as error:
        open_store(s3_uri).read("k")
    assert "nobody" in four_lines(error)


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = open_store(str(tmp_path))
    store.write("k", b"old")
    monkeypatch.setattr(os, "fsync", full)
    for act in (lambda: store.write("k", b"new"), lambda: store.create("other", b"new")):
        with pytest.raises(StorageError, match="disk is full") as error:
            act()
        assert str(tmp_path) in four_lines(error)
    assert store.read("k") == b"old"
    assert os.listdir(tmp_path) == ["k"]


def test_read_only_folder() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # permissions do not bind root
        try:
            with pytest.raises(StorageError, match="not allowed to write") as error:
                open_store(folder).write("a/k", b"")
        finally:
            os.seteuid(user)
        assert folder in four_lines(error)
        os.chmod(folder, 0o755)


def test_a_killed_writer_leaves_nothing_that_a_listing_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    store = open_store(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            store.write("k", b"x")
    assert len(os.listdir(tmp_path)) == 1
    assert list(store.list()) == []
