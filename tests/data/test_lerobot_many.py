"""LeRobot sets of many short episodes: rows are read in runs, in the order of files, and proofs cost what was used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tendon.data.convert import convert
from tendon.data.sources import lerobot_table, open_source
from tendon.data.sources.folder import SourceFolder
from tendon.data.sources.lerobot import LeRobotSource
from tendon.errors import DataError
from tests.data import lerobot_sets

EPISODES, STEPS = 300, 7


def regrouped(folder: Path, rows_per_group: int) -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=rows_per_group)


def made(tmp_path: Path, name: str, rows_per_group: int) -> Path:
    folder = lerobot_sets.make(tmp_path / name, "v3.0", (STEPS,) * EPISODES, video=False)
    regrouped(folder, rows_per_group)
    return folder


class CountingFile:
    def __init__(self, file: Any, reads: list[int]) -> None:
        self._file, self._reads = file, reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read_row_groups(self, groups: list[int], *args: Any, **options: Any) -> pa.Table:
        self._reads.append(len(groups))
        return self._file.read_row_groups(groups, *args, **options)


@pytest.mark.parametrize("rows_per_group", [STEPS, 5, 11, EPISODES * STEPS])
def test_the_row_groups_of_a_file_change_nothing_and_are_read_in_runs(tmp_path: Path, rows_per_group: int) -> None:
    """Groups of one episode, groups that cut episodes, one group in all: the same rows, read at once."""
    plain = LeRobotSource(str(made(tmp_path, "plain", EPISODES * STEPS)))
    grouped = LeRobotSource(str(made(tmp_path, "grouped", rows_per_group)))
    reads: list[int] = []
    opened = grouped._data._file
    grouped._data._file = lambda key: CountingFile(opened(key), reads)  # type: ignore[method-assign]
    for i in reversed(range(EPISODES)):  # not in the order of the file
        a, b = (source.read(f"episode_{i:06d}", images=False) for source in (plain, grouped))
        assert all((a.features[key] == b.features[key]).all() for key in a.features)
    assert len(reads) == 1


def test_what_is_kept_is_bounded_and_the_order_of_files_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes asked for in any order are read in that of the files: no block is decoded twice."""
    monkeypatch.setattr(lerobot_table, "BLOCK_BYTES", 4 << 10)
    monkeypatch.setattr(lerobot_table, "BLOCK_ROWS", 100)
    monkeypatch.setattr(lerobot_table, "KEPT_BYTES", 30 << 10)
    source = LeRobotSource(str(made(tmp_path, "x", STEPS)))
    expected = LeRobotSource(source.uri)
    source.describe()
    reads: list[int] = []
    opened = source._data._file
    source._data._file = lambda key: CountingFile(opened(key), reads)  # type: ignore[method-assign]
    chosen = [f"episode_{i:06d}" for i in np.random.default_rng(0).permutation(EPISODES)]
    source.expect(chosen)
    in_order = len(reads)
    for name in chosen:
        a, b = source.read(name, images=False), expected.read(name, images=False)
        assert all((a.features[key] == b.features[key]).all() for key in a.features)
    assert len(reads) == in_order
    assert sum(reads) <= EPISODES + in_order  # every group once
    assert source._data._kept <= 30 << 10


def test_a_shards_proof_looks_at_the_files_that_it_used(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"1")
    folder = SourceFolder(str(tmp_path))
    assert list(folder.sizes) == ["a", "b"]
    folder.read("a")
    os.utime(tmp_path / "b", (1, 1))
    folder.check_used_unchanged()
    folder.read("b")
    with pytest.raises(DataError, match="was changed"):
        folder.check_used_unchanged()
    with pytest.raises(DataError, match="was changed"):
        folder.check_unchanged()


def test_groups_give_the_same_dataset(tmp_path: Path) -> None:
    folders = [made(tmp_path, str(n), n) for n in (STEPS, EPISODES * STEPS)]
    manifests = [convert(open_source(str(each)), str(tmp_path / "store"), each.name) for each in folders]
    assert [each.digest for each in manifests[:1]] == [each.digest for each in manifests[1:]]
