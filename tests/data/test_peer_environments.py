"""The environments of peers are never made through a link."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import peers
from tests.benchmarks.rows import Skip


def test_what_a_link_points_to_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "kept").touch()
    (tmp_path / "build/peers").mkdir(parents=True)
    (tmp_path / "build/peers/x").symlink_to(shared)
    with pytest.raises(Skip, match="is a link"):
        peers.environment("x")
    assert (shared / "kept").exists()
