"""LeRobot v3.0 out: files of many episodes, one row group each, and a table that says where each one lies.

Called by write_dataset. Loads in LeRobot 0.4.0 and newer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon.data.demonstrations import Demonstrations
from tendon.data.rows import EpisodeRow
from tendon.data.sources.lerobot_layout import DATA_V3, VIDEO_V3
from tendon.data.writers.lerobot_stats import Stats, Totals, camera_stats, mask_stats, stats_of
from tendon.data.writers.lerobot_table import Outgoing, nested
from tendon.data.writers.lerobot_video import JoinedVideos, pieces_of
from tendon.data.writers.modality_entries import keep_modality

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FILES_PER_CHUNK = 1000
DATA_MB, VIDEO_MB = 100, 200
MB = 1 << 20
ROWS_PER_BLOCK, BLOCKS_PER_FILE = 500, 20  # of the table of episodes
EPISODES_PER_FILE = ROWS_PER_BLOCK * BLOCKS_PER_FILE  # of rows too, whose footer grows with its row groups


def write(dataset: Demonstrations, target: Path, progress: Callable[[int, int, str], None]) -> None:
    """Make the folder ``target``."""
    out = Outgoing(dataset)
    tables = _Tables(target)
    videos = {each.name: JoinedVideos(target, VIDEO_V3, each, FILES_PER_CHUNK, VIDEO_MB * MB) for each in out.videos}
    table_of_episodes = _EpisodeTable(target)
    totals = Totals([row.length for row in dataset.rows])
    steps = 0
    for row in dataset.rows:
        arrays = out.arrays(row, steps)
        place = tables.add(out.table(row, arrays))
        line = {"episode_index": row.index, "tasks": out.tasks_of(row, arrays), "length": row.length, **place}
        line |= {"dataset_from_index": steps, "dataset_to_index": steps + row.length}
        for camera in out.videos:
            pieces, skip, _ = pieces_of(dataset, row, camera, may_skip=True)
            chunk, file, start = videos[camera.name].add(pieces, skip)
            values = (chunk, file, start, start + row.length / out.schema.fps)
            names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
            line |= {f"videos/{camera.name}/{name}": value for name, value in zip(names, values, strict=True)}
        stats = _stats(out, row, arrays)
        totals.add(arrays, stats)
        table_of_episodes.add(line | _flat(stats))
        steps += row.length
        progress(row.index + 1, len(dataset.rows), "episodes written")
    tables.close()
    table_of_episodes.flush()
    for each in videos.values():
        each.flush()
    _write_meta(out, target, totals.merged(), steps)
    keep_modality(out.schema, dataset.metadata, target)


class _Tables:
    """The data files: one row group per episode, a new file when one is full."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._number = -1
        self._writer: Any = None
        self._path = root
        self._bytes = self._groups = 0

    def add(self, table: pa.Table) -> dict[str, int]:
        import pyarrow.parquet as pq

        if self._writer is None or self._bytes + table.nbytes >= DATA_MB * MB or self._groups >= EPISODES_PER_FILE:
            self.close()
            self._number += 1
            chunk, file = divmod(self._number, FILES_PER_CHUNK)
            self._path = self.root / DATA_V3.format(chunk_index=chunk, file_index=file)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy")
            self._bytes = self._groups = 0
        self._writer.write_table(table, row_group_size=max(len(table), 1))
        self._bytes += table.nbytes
        self._groups += 1
        chunk, file = divmod(self._number, FILES_PER_CHUNK)
        return {"data/chunk_index": chunk, "data/file_index": file}

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _EpisodeTable:
    """The table of episodes with their places and statistics, written a file at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._number = 0
        self._rows: list[dict[str, Any]] = []
        self._blocks: list[pa.Table] = []  # a row is ten times smaller in them

    def add(self, row: dict[str, Any]) -> None:
        chunk, file = divmod(self._number, FILES_PER_CHUNK)
        self._rows.append(row | {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file})
        if len(self._rows) >= ROWS_PER_BLOCK:
            self._pack()
            if len(self._blocks) >= BLOCKS_PER_FILE:
                self.flush()

    def _pack(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._blocks.append(pa.Table.from_pylist(self._rows))
            self._rows = []

    def flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pack()
        if not self._blocks:
            return
        chunk, file = divmod(self._number, FILES_PER_CHUNK)
        path = self.root / f"meta/episodes/chunk-{chunk:03d}/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.concat_tables(self._blocks, promote_options="permissive").combine_chunks()
        pq.write_table(table, path, compression="snappy")
        self._number, self._blocks = self._number + 1, []


def _stats(out: Outgoing, row: EpisodeRow, arrays: dict[str, np.ndarray]) -> dict[str, Stats]:
    numbers = {name: stats_of(values) for name, values in arrays.items()}
    numbers |= {each.name: camera_stats(out.dataset, row, each) for each in out.schema.cameras}
    return numbers | {each.name: mask_stats(out.dataset, row, each) for each in out.schema.masks}


def _flat(stats: dict[str, Stats]) -> dict[str, Any]:
    return {f"stats/{name}/{kind}": values.tolist() for name, each in stats.items() for kind, values in each.items()}


def _write_meta(out: Outgoing, target: Path, stats: dict[str, Stats], steps: int) -> None:
    import pyarrow.parquet as pq

    pq.write_table(_task_table(out.tasks), target / "meta/tasks.parquet", compression="snappy")
    info = {
        "codebase_version": "v3.0",
        "robot_type": out.source_metadata.get("robot_type"),
        "total_episodes": len(out.dataset.rows),
        "total_frames": steps,
        "total_tasks": len(out.tasks),
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": out.fps,
        "splits": out.splits,
        "data_path": DATA_V3,
        "video_path": VIDEO_V3 if out.videos else None,
        "features": out.features,
    }
    (target / "meta/stats.json").write_text(json.dumps(nested(stats), indent=4))
    (target / "meta/info.json").write_text(json.dumps(info, indent=4, ensure_ascii=False))


def _task_table(tasks: list[str]) -> pa.Table:
    """The frame that pandas would write: its index holds the text, its column the number."""
    import pyarrow as pa

    index = "__index_level_0__"
    kinds = [("task_index", "task_index", "int64", "int64"), (None, index, "unicode", "object")]
    columns = [
        {"name": name, "field_name": field, "pandas_type": kind, "numpy_type": stored, "metadata": None}
        for name, field, kind, stored in kinds
    ]
    names = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": [index],
        "column_indexes": [names | {"metadata": {"encoding": "UTF-8"}}],
        "columns": columns,
        "creator": {"library": "pyarrow", "version": "15.0.0"},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({b"pandas": json.dumps(pandas).encode()})
