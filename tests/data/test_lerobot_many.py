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
from tendon.data.sources import lerobot_numbers, lerobot_table, open_source
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


def blocks_of_100(monkeypatch: pytest.MonkeyPatch, kept_bytes: int) -> None:
    monkeypatch.setattr(lerobot_table, "BLOCK_BYTES", 4 << 10)
    monkeypatch.setattr(lerobot_table, "BLOCK_ROWS", 100)
    monkeypatch.setattr(lerobot_numbers, "KEPT_BYTES", kept_bytes)


def in_any_order(source: LeRobotSource, expected: LeRobotSource) -> None:
    for i in np.random.default_rng(0).permutation(EPISODES):
        a, b = (each.read(f"episode_{i:06d}", images=False) for each in (source, expected))
        assert all((a.features[key] == b.features[key]).all() for key in a.features)
        assert all(a.features[key].dtype == b.features[key].dtype for key in a.features)


def counted(source: LeRobotSource) -> list[int]:
    source.describe()
    reads: list[int] = []
    opened = source._data._file
    source._data._file = lambda key: CountingFile(opened(key), reads)  # type: ignore[method-assign]
    return reads


def test_any_order_decodes_no_group_three_times_and_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that memory has no room for go to the disk: 300 episodes in any order read 300 groups twice at most."""
    blocks_of_100(monkeypatch, 30 << 10)
    source = LeRobotSource(str(made(tmp_path, "x", STEPS)))
    expected = LeRobotSource(source.uri)
    reads = counted(source)
    for _ in range(2):
        in_any_order(source, expected)
    assert EPISODES < sum(reads) <= 2 * EPISODES
    assert source._numbers._kept <= 30 << 10


def test_a_file_of_many_groups_is_decoded_once_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its footer of some hundred megabytes is not read again for every block."""
    blocks_of_100(monkeypatch, 30 << 10)
    monkeypatch.setattr(lerobot_table, "MANY_GROUPS", EPISODES // 2)
    source = LeRobotSource(str(made(tmp_path, "x", STEPS)))
    reads = counted(source)
    opened: list[str] = []
    path_of = source.folder.path
    source.folder.path = lambda key: opened.append(key) or path_of(key)  # type: ignore[method-assign,func-returns-value]
    in_any_order(source, LeRobotSource(source.uri))
    assert sum(reads) == EPISODES
    assert len(opened) <= 2
    assert not source._data._open


def test_a_full_disk_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of_100(monkeypatch, 30 << 10)
    monkeypatch.setattr(lerobot_numbers, "LEAST_FREE", 1 << 62)
    source = LeRobotSource(str(made(tmp_path, "x", STEPS)))
    reads = counted(source)
    in_any_order(source, LeRobotSource(source.uri))
    assert sum(reads) > 2 * EPISODES
    assert not source._numbers._spilled


def test_rows_in_order_are_not_written_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check reads in the order of the files: it needs no scratch."""
    blocks_of_100(monkeypatch, 30 << 10)
    source = LeRobotSource(str(made(tmp_path, "x", STEPS)))
    for i in range(EPISODES):
        source.read(f"episode_{i:06d}", images=False)
    assert not source._numbers._spilled


def test_a_missing_value_is_told_of_its_episode_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other episodes of its block are read."""
    folder = made(tmp_path, "x", EPISODES * STEPS)
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index("timestamp")
    times = table.column(at).to_pylist()
    times[5 * STEPS + 1] = None
    pq.write_table(table.set_column(at, "timestamp", pa.array(times, table.schema.field(at).type)), path)
    source = LeRobotSource(str(folder))
    assert source.read("episode_000004").length == STEPS
    with pytest.raises(DataError, match="timestamp does not have 1 values in every step") as caught:
        source.read("episode_000005")
    assert "episode_000005" in str(caught.value)


def test_small_files_of_their_own_are_read_at_once(tmp_path: Path) -> None:
    """v2.1 has a file per episode: a conversion opens each of them a few times, and keeps few open."""
    source = LeRobotSource(str(lerobot_sets.make(tmp_path / "x", "v2.1", (3,) * 90, video=False)))
    for info in source.describe().episodes:
        source.read(info.episode_id)
    assert len(source._data._open) == lerobot_table.MAX_OPEN == source._data._open_groups


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
