"""The same values and the same sources give the same digest, on every machine."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tendon.config import digest as digest_module
from tendon.config.compose import compose, to_dict
from tendon.config.digest import code_version, digest


def test_golden() -> None:
    assert digest("trial", {"b": [1, 2.5, None], "a": True}, 1e-5) == "f5fe6c986e057db5"


def test_what_is_equal_and_what_is_not() -> None:
    config = compose(["data.uri=x"])
    assert digest(config) == digest(to_dict(config))
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})
    different = [1, 1.0, "1", True, [1], ["1"], {"1": 1}, None, "", [], {}]
    assert len({digest(one) for one in different}) == len(different)
    assert digest("a", "b") != digest("ab")
    assert digest("a", "b") != digest(["a", "b"])
    assert digest(config) != digest(replace(config, seed=1))


@pytest.mark.parametrize("part", [Path("x"), b"x", {1}, {1: 2}, object(), float("nan"), [Path("x")], digest_module])
def test_what_differs_between_machines_is_refused(part: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        digest(part)


def test_code_version_follows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "sources").mkdir(parents=True)
    (tmp_path / "data" / "sources" / "a.py").write_text("x = 1\n")
    (tmp_path / "data" / "notes.txt").write_text("not code")
    (tmp_path / "steps.py").write_text("y = 1\n")
    monkeypatch.setattr(digest_module, "PACKAGE", tmp_path)

    def version(*rooms: str) -> str:
        digest_module._code_version.cache_clear()
        return code_version(*rooms)

    first = version("data", "steps")
    (tmp_path / "data" / "notes.txt").write_text("still not code")
    assert version("steps", "data", "data") == first
    assert version("data") != first
    (tmp_path / "data" / "sources" / "a.py").rename(tmp_path / "data" / "a.py")
    moved = version("data", "steps")
    (tmp_path / "data" / "a.py").write_text("x = 2\n")
    assert len({first, moved, version("data", "steps")}) == 3
    with pytest.raises(ValueError, match="no package called nothing"):
        version("nothing")
    digest_module._code_version.cache_clear()


def test_code_version_is_quick() -> None:
    digest_module._code_version.cache_clear()
    began = time.process_time()
    first = code_version("data", "loader", "policies", "train", "config", "storage")
    assert time.process_time() - began < 0.2  # 1 ms alone; the goal of 20 ms would be noise on a busy machine
    assert code_version("data", "loader", "policies", "train", "config", "storage") == first
    assert len(first) == 16
