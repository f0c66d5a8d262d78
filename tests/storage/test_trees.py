from __future__ import annotations

import json
from pathlib import Path

import pytest

from tendon.errors import ConfigError, DataError, StorageError
from tendon.storage import Store, open_store
from tendon.storage.trees import MARKER, download, get_tree, has_tree, put_tree


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    uri = request.getfixturevalue("s3_uri") if request.param == "s3" else str(request.getfixturevalue("tmp_path") / "x")
    return open_store(uri)


def folder_of(path: Path, **files: str) -> Path:
    for name, text in files.items():
        target = path / name.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return path


def test_there_and_back(store: Store, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", a="1", sub__b="22")
    assert not has_tree(store, "t")
    put_tree(store, "t", source)
    assert has_tree(store, "t")
    get_tree(store, "t", tmp_path / "out")
    assert (tmp_path / "out/a").read_text() == "1"
    assert (tmp_path / "out/sub/b").read_text() == "22"
    before = store.head(f"t/{MARKER}")
    put_tree(store, "t", source)
    assert store.head(f"t/{MARKER}") == before


def test_replacing_leaves_no_stale_file(store: Store, tmp_path: Path) -> None:
    put_tree(store, "t", folder_of(tmp_path / "one", a="1", b="2"))
    put_tree(store, "t", folder_of(tmp_path / "two", a="3"))
    assert [info.key for info in store.at("t").list()] == [MARKER, "a"]


def test_incomplete_does_not_exist(store: Store, tmp_path: Path) -> None:
    put_tree(store, "t", folder_of(tmp_path / "in", a="1", b="2"))
    store.write("t/b", b"longer")
    assert not has_tree(store, "t")
    with pytest.raises(DataError, match="missing or incomplete"):
        get_tree(store, "t", tmp_path / "out")
    store.write("t/b", b"3")
    assert has_tree(store, "t")
    with pytest.raises(DataError, match="damaged"):
        get_tree(store, "t", tmp_path / "out")
    store.delete(f"t/{MARKER}")
    assert not has_tree(store, "t")


def test_a_marker_cannot_write_outside(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "s"))
    (tmp_path / "evil").write_text("x")
    store.write(MARKER.join(["t/", ""]), json.dumps({"files": {"../evil": {"bytes": 1, "sha256": ""}}}).encode())
    with pytest.raises((ConfigError, DataError)):
        get_tree(store, "t", tmp_path / "out")


def test_download(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tendon.storage.trees.PART_BYTES", 3)
    store.write("k", b"0123456789")
    assert download(store, "k", tmp_path / "k").startswith("84d89877")
    assert (tmp_path / "k").read_bytes() == b"0123456789"
    with pytest.raises(DataError):
        download(store, "absent", tmp_path / "k")
    with pytest.raises(StorageError):
        download(store, "k", tmp_path / "no/folder")
