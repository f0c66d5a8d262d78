"""One suite, both stores: what every package relies on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tendon.errors import ConfigError, DataError
from tendon.storage import Store, join, open_store
from tendon.storage.local import LocalStore


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    uri = request.getfixturevalue("s3_uri") if request.param == "s3" else str(request.getfixturevalue("tmp_path") / "x")
    return open_store(uri)


def test_write_read_head_delete(store: Store) -> None:
    assert store.head("a/b.bin") is None
    store.write("a/b.bin", b"0123456789")
    assert store.read("a/b.bin") == b"0123456789"
    assert store.read_range("a/b.bin", 3, 4) == b"3456"
    assert store.read_range("a/b.bin", 3, 0) == b""
    first = store.head("a/b.bin")
    assert first is not None
    assert (first.key, first.size) == ("a/b.bin", 10)
    store.write("a/b.bin", b"9876543210")
    assert store.head("a/b.bin") != first
    store.write("empty", b"")
    assert store.read("empty") == b""
    store.delete("a/b.bin")
    store.delete("a/b.bin")
    assert store.head("a/b.bin") is None


def test_a_folder_goes_with_its_last_object(tmp_path: Path) -> None:
    """A pruned checkpoint leaves nothing behind, and whoever writes there meanwhile does not notice."""
    store = LocalStore(tmp_path / "x")
    for key in ("checkpoints/000500/state/a", "checkpoints/000500/b", "checkpoints/001000/b"):
        store.write(key, b"1")
    store.delete("checkpoints/000500/state/a")
    store.delete("checkpoints/000500/b")
    assert sorted(path.name for path in (tmp_path / "x").rglob("*")) == ["001000", "b", "checkpoints"]
    store.delete("checkpoints/001000/b")
    assert list((tmp_path / "x").iterdir()) == []

    def write_and_delete(i: int) -> None:
        for turn in range(200):
            key = f"one/two/{i}"
            assert store.create(key, b"%d" % turn)
            store.write(key, b"again %d" % turn)
            store.link(f"one/link{i}", "two")
            assert store.read(key) == b"again %d" % turn
            store.delete(key)
            store.delete(f"one/link{i}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_and_delete, range(4)))
    assert list((tmp_path / "x").iterdir()) == []


def test_missing_and_short(store: Store) -> None:
    with pytest.raises(DataError, match="does not exist") as error:
        store.read("nothing/here")
    assert "nothing/here" in str(error.value)
    with pytest.raises(DataError, match="does not exist"):
        store.read_range("nothing", 0, 1)
    store.write("short", b"abc")
    assert store.head("short/deeper") is None
    with pytest.raises(DataError, match="does not exist"):
        store.read("short/deeper")
    for start, length in ((2, 5), (10, 1)):
        with pytest.raises(DataError, match="shorter"):
            store.read_range("short", start, length)


def test_create_once(store: Store) -> None:
    assert store.create("one", b"first")
    assert not store.create("one", b"second")
    assert store.read("one") == b"first"


def test_only_one_creator_wins(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(lambda i: store.create("race", bytes([i])), range(8)))
    assert sum(wins) == 1
    assert store.read("race") == bytes([wins.index(True)])


def test_compare_and_swap(store: Store) -> None:
    assert store.replace("p", b"1", None)
    assert not store.replace("p", b"2", None)
    etag = store.head("p").etag  # type: ignore[union-attr]
    assert store.replace("p", b"2", etag)
    assert not store.replace("p", b"3", etag)
    assert store.read("p") == b"2"
    store.delete("p")
    assert not store.replace("p", b"4", etag)


def test_no_swap_is_lost(store: Store) -> None:
    store.write("n", b"0")

    def add_one(_: int) -> None:
        while True:
            etag = store.head("n").etag  # type: ignore[union-attr]
            if store.replace("n", str(int(store.read("n")) + 1).encode(), etag):
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_one, range(12)))
    assert store.read("n") == b"12"


def test_list_in_key_order_and_rooted_deeper(store: Store) -> None:
    for key in ("b/2", "a.txt", "b/10", "b.x", "c/d/e"):
        store.write(key, key.encode())
    assert [info.key for info in store.list()] == ["a.txt", "b.x", "b/10", "b/2", "c/d/e"]
    assert [info.key for info in store.list("b/")] == ["b/10", "b/2"]
    assert [info.key for info in store.list("b/1")] == ["b/10"]
    assert list(store.list("nothing/")) == []
    deeper = store.at("b")
    assert deeper.uri == join(store.uri, "b")
    assert [info.key for info in deeper.list()] == ["10", "2"]
    assert deeper.read("10") == b"b/10"
    assert next(iter(deeper.list())) == deeper.head("10")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../../b", "a/"])
def test_keys_stay_inside(store: Store, key: str) -> None:
    with pytest.raises(ConfigError):
        store.write(key, b"")


def test_more_than_a_page(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tendon.storage.s3.PAGE_KEYS", 10)
    store = open_store(s3_uri)
    for i in range(31):
        store.write(f"many/{i:05d}", b"x")
    assert [info.key for info in store.list("many/")] == [f"many/{i:05d}" for i in range(31)]


def test_join_and_schemes(tmp_path: object) -> None:
    assert join("s3://b", "x/", "/y") == "s3://b/x/y"
    assert join("s3://b/", "") == "s3://b"
    assert join("/a/", "b") == "/a/b"
    assert join("/", "b") == "/b"
    assert open_store(f"file://{tmp_path}").uri == str(tmp_path)
    assert open_store("minio://mlpipeline/v2/artifacts").uri == "s3://mlpipeline/v2/artifacts"
    with pytest.raises(ConfigError, match="s3://"):
        open_store("s4://x/y")
    with pytest.raises(ConfigError):
        open_store("")
