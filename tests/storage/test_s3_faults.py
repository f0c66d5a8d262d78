"""S3 that is slow, cut, damaged, forgetful or deaf to conditions: the right bytes, or an error in bounded time."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tendon.errors import DataError, StorageError
from tendon.storage import Store, open_store
from tendon.storage.s3_parts import abort_old_uploads
from tendon.storage.trees import download, get_tree, has_tree, put_tree
from tests.s3_server import Faults, S3Server

Start = Callable[..., tuple[Store, S3Server]]


@pytest.fixture
def start(s3_environment: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a server with faults: ``store, server = start(errors=0.1)``."""
    s3_environment.setattr("tendon.storage.s3.BACKOFF_S", (0.001, 0.01))
    s3_environment.setattr("tendon.storage.s3_claims.SETTLE_S", 0.15)
    with ExitStack() as stack:

        def begin(**faults: object) -> tuple[Store, S3Server]:
            server = stack.enter_context(S3Server(Faults(**faults)))  # type: ignore[arg-type]
            server.buckets.add("bucket")
            s3_environment.setenv("AWS_ENDPOINT_URL_S3", server.address)
            return open_store("s3://bucket/p"), server

        yield begin


def small_parts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("tendon.storage.s3.SINGLE_BYTES", 64 << 10)
    patch.setattr("tendon.storage.s3_parts.PART_BYTES", 16 << 10)


@pytest.mark.parametrize(
    "faults",
    [
        {"errors": 0.3},
        {"cuts": 0.3},
        {"flips": 0.3},
        {"lost_answers": 0.3},
        {"slow_first_byte": 0.3, "slow_s": 0.02},
        {"errors": 0.1, "cuts": 0.1, "flips": 0.1, "lost_answers": 0.1, "latency_s": 0.001},
    ],
    ids=lambda each: "+".join(each),
)
def test_whole_objects_survive(start: Start, faults: dict[str, float], tmp_path: Path) -> None:
    store, server = start(seed=3)
    store.create("probe", b"")  # conditions are asked for while nothing is broken
    server.faults = Faults(**faults, seed=3)  # type: ignore[arg-type]
    contents = {f"k{i}": os.urandom(3000 + i) for i in range(15)}
    for key, content in contents.items():
        assert store.create(key, content)
        assert not store.create(key, b"other")
    assert {key: store.read(key) for key in contents} == contents
    etag = store.head("k0").etag  # type: ignore[union-attr]
    assert store.replace("k0", b"new", etag)
    assert not store.replace("k0", b"newer", etag)
    assert len(list(store.list("k"))) == 15


def test_a_tree_in_parts_survives(start: Start, tmp_path: Path, s3_environment: pytest.MonkeyPatch) -> None:
    small_parts(s3_environment)
    store, server = start(errors=0.1, cuts=0.1, lost_answers=0.1, seed=5)
    (tmp_path / "in").mkdir()
    contents = {"large": os.urandom(200_000), "small": b"x", "edge": os.urandom(64 << 10)}
    for name, content in contents.items():
        (tmp_path / "in" / name).write_bytes(content)
    put_tree(store, "tree", tmp_path / "in")
    assert has_tree(store, "tree")
    get_tree(store, "tree", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == contents
    assert not server.uploads
    assert server.objects["bucket/p/tree/large"].etag.endswith('-13"')
    assert download(store, "tree/large", tmp_path / "copy") == hashlib.sha256(contents["large"]).hexdigest()


def test_an_upload_that_fails_is_aborted(start: Start, s3_environment: pytest.MonkeyPatch) -> None:
    small_parts(s3_environment)
    store, server = start(flips=1.0)
    with pytest.raises(StorageError, match="keeps failing"):
        store.write("large", os.urandom(100_000))
    assert not server.uploads
    assert not server.objects
    server.faults = Faults()
    store._call("", lambda s3: s3.create_multipart_upload(Bucket="bucket", Key="p/dead"))  # type: ignore[attr-defined]
    assert abort_old_uploads(store, hours=1) == 0  # type: ignore[arg-type]
    assert abort_old_uploads(store, hours=-1) == 1  # type: ignore[arg-type]
    assert not server.uploads


def test_a_store_that_damages_every_read_is_named(start: Start) -> None:
    store, server = start()
    store.write("k", b"0123456789")
    server.faults = Faults(flips=1.0)
    with pytest.raises(StorageError, match="arrives damaged"):
        store.read("k")


def test_a_put_that_arrives_damaged_is_refused_and_repeated(start: Start) -> None:
    store, server = start(flips=0.5, seed=1)
    for i in range(10):
        store.write(f"k{i}", bytes(100))
    assert all(each.body == bytes(100) for each in server.objects.values())
    assert server.seen["PUT"] > 10


@pytest.mark.parametrize(
    "faults", [{"ignore_conditions": True}, {"refuse_conditions": True}], ids=lambda f: next(iter(f))
)
class TestWithoutConditions:
    def test_create_and_swap(self, start: Start, faults: dict[str, bool]) -> None:
        store, server = start(**faults)
        assert store.create("a/one", b"first")
        assert not store.create("a/one", b"second")
        assert store.read("a/one") == b"first"
        etag = store.head("a/one").etag  # type: ignore[union-attr]
        assert store.replace("a/one", b"2", etag)
        assert not store.replace("a/one", b"3", etag)
        assert store.replace("a/one", b"first", store.head("a/one").etag)  # type: ignore[union-attr]
        assert store.replace("a/one", b"again", etag), "an object that came back may be swapped again"
        assert [info.key for info in store.list()] == ["a/one"]
        assert sorted(server.objects) == ["bucket/p/a/one"], "no claim and no probe is left"

    def test_one_creator_wins(self, start: Start, faults: dict[str, bool]) -> None:
        store, server = start(**faults, latency_s=0.002)
        with ThreadPoolExecutor(8) as pool:
            wins = list(pool.map(lambda i: store.create("race", bytes([i])), range(8)))
        assert sum(wins) == 1
        assert store.read("race") == bytes([wins.index(True)])
        assert len(server.objects) == 1

    def test_a_dead_claim_is_passed_over(
        self, start: Start, faults: dict[str, bool], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tendon.storage.s3_claims.STALE_S", 1.0)
        store, _ = start(**faults)
        real = type(store).read

        class Killed(BaseException):
            pass

        def killed(self: Store, key: str) -> bytes:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr("tendon.storage.s3_claims._winner", killed)
            patch.setattr(type(store), "delete", lambda self, key: None)
            with pytest.raises(Killed):
                store.create("k", b"dead")
        assert store.create("k", b"alive")
        assert real(store, "k") == b"alive"


def test_conditions_are_asked_for_once(start: Start) -> None:
    store, server = start()
    store.create("a", b"")
    puts = server.seen["PUT"]
    store.create("b", b"")
    open_store("s3://bucket/elsewhere").create("c", b"")
    assert server.seen["PUT"] == puts + 2
    assert sorted(server.objects) == ["bucket/elsewhere/c", "bucket/p/a", "bucket/p/b"]


def test_more_than_a_thousand_keys(start: Start) -> None:
    store, server = start(max_keys=1000)
    store.write("many/0", b"x")
    entry = server.objects["bucket/p/many/0"]
    server.objects.update({f"bucket/p/many/{i:05d}": entry for i in range(2500)})
    server.objects["bucket/p/many/.tendon-claim-1"] = entry
    assert len(list(store.list("many/"))) == 2501
    assert server.seen["GET"] == 3


def test_a_server_that_takes_requests_and_never_answers(start: Start, s3_environment: pytest.MonkeyPatch) -> None:
    s3_environment.setattr("tendon.storage.s3_client.READ_S", 0.2)
    s3_environment.setattr("tendon.storage.s3.SILENT_S", 0.3)
    store, _ = start(silent=True)
    for act in (lambda: store.read("k"), lambda: store.write("k", b"x"), lambda: store.create("k", b"")):
        began = time.monotonic()
        with pytest.raises(StorageError, match="does not answer"):
            act()
        assert time.monotonic() - began < 2


def test_missing_and_short(start: Start) -> None:
    store, _ = start()
    assert store.head("nothing") is None
    with pytest.raises(DataError, match="does not exist"):
        store.read("nothing")
    store.write("k", b"abc")
    with pytest.raises(DataError, match="shorter"):
        store.read_range("k", 1, 5)
