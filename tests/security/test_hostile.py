"""Hostile sources of every format are refused by name, before the first shard."""

from __future__ import annotations

from pathlib import Path

import pytest

from tendon.data.convert import convert
from tendon.data.sources import open_source
from tendon.errors import DataError
from tests.security.hostile import SOURCES


@pytest.mark.parametrize("name", SOURCES)
def test_hostile_sources_are_refused_by_name(name: str, tmp_path: Path) -> None:
    source, format = SOURCES[name](tmp_path)
    with pytest.raises(DataError) as refused:
        convert(open_source(str(source), format), str(tmp_path / "store"), "set")
    assert all(each.what and each.where and each.why and each.fix for each in refused.value.problems)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not Path("/tmp/tendon-was-here").exists()


@pytest.mark.parametrize("name", [name for name in SOURCES if name.endswith("is a pipe")])
def test_a_pipe_is_named_and_not_waited_for(name: str, tmp_path: Path) -> None:
    source, format = SOURCES[name](tmp_path)
    with pytest.raises(DataError) as refused:
        convert(open_source(str(source), format), str(tmp_path / "store"), "set")
    assert "a pipe" in refused.value.problems[0].why
