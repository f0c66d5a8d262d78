"""The index of a dataset: one parquet row per episode with the place of its bytes and the sums of its values.

A row is a function of the shard's bytes alone, so a lost index is rebuilt from the tars. convert makes it; dataset and
stats read it. Columns: see ``shard_table``.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tendon.data.episode import Schema
from tendon.data.features import Feature
from tendon.data.tario import CHUNK_KEYS, EXTRA, LOWDIM, META, MP4, RAW, Sample
from tendon.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SUMS = ("sum", "m2", "min", "max")
PLACE = ("offset", "size", "crc32c")
BATCH_ROWS = 16_384  # of a pass over per-episode sums


def shard_table(samples: Iterable[Sample], number: int, schema: Schema) -> pa.Table:
    """The index rows of shard ``number``: of what was just written, or of what was read from the tar again.

    ``episode_index, episode_id, sample, shard, length, task, success, splits``; per member ``<member>/offset``,
    ``/size``, ``/crc32c`` and for mjpeg ``/frames`` (starts in the member); for a video ``<camera>.mp4/`` the same as
    lists with one entry per chunk, and ``/first_frame``, ``/num_frames``, ``/skip``; of extras the lists ``extra.name``,
    ``extra.offset``, ``extra.size``, ``extra.crc32c``; per feature ``<feature>/count``, and per
    dimension in float64 ``/sum``, ``/min``, ``/max``, ``/m2`` (squared deviations from the episode's own mean, which
    merge without the cancellation that plain sums of squares suffer: sumsq = m2 + sum**2 / count).
    """
    import pyarrow as pa

    given = list(samples)
    rows = [_row(sample, number) for sample in given]
    sums = _sums([sample.rows for sample in given], schema)
    columns = []
    for field in arrow_schema(schema):
        if field.name in sums:
            values = sums[field.name]
            flat = _array(values)
            columns.append(pa.FixedSizeListArray.from_arrays(flat, values.shape[1]) if values.ndim > 1 else flat)
        else:
            columns.append(pa.array([row.get(field.name) for row in rows], field.type))
    return pa.table(columns, arrow_schema(schema))


def _array(values: np.ndarray) -> pa.Array:
    """Numbers side by side; ``pa.array`` would import numpy's masked arrays to ask whether these are some."""
    import pyarrow as pa

    flat = np.ascontiguousarray(values).reshape(-1)
    return pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])


@lru_cache(8)
def arrow_schema(schema: Schema) -> pa.Schema:
    """Column names and types of the index."""
    import pyarrow as pa

    fields: list[tuple[str, Any]] = [
        ("episode_index", pa.int64()), ("episode_id", pa.string()), ("sample", pa.string()), ("shard", pa.int32()),
        ("length", pa.int64()), ("task", pa.string()), ("success", pa.bool_()), ("splits", pa.list_(pa.string())),
    ]  # fmt: skip
    fields.append((f"{EXTRA}name", pa.list_(pa.string())))
    kinds = (pa.uint64(), pa.uint64(), pa.uint32())
    fields += [(f"{EXTRA}{key}", pa.list_(kind)) for key, kind in zip(PLACE, kinds, strict=True)]
    mjpegs = [f"{camera.member}.mjpeg" for camera in schema.cameras if camera.codec == "mjpeg"]
    raws = [f"{camera.member}.{RAW}" for camera in schema.cameras if camera.codec == RAW]
    masks = [f"{mask.member}.{mask.codec}" for mask in schema.masks]
    for member in (META, LOWDIM, *mjpegs, *raws, *masks):
        fields += [
            (f"{member}/offset", pa.uint64()),
            (f"{member}/size", pa.uint64()),
            (f"{member}/crc32c", pa.uint32()),
        ]
    fields += [(f"{member}/frames", pa.list_(pa.uint32())) for member in mjpegs]
    for camera in schema.cameras:
        if camera.codec == MP4:
            of_chunks = zip((*PLACE, *CHUNK_KEYS), (*kinds, *[pa.uint32()] * 3), strict=True)
            fields += [(f"{camera.member}.{MP4}/{key}", pa.list_(kind)) for key, kind in of_chunks]
    for feature in schema.columns:
        fields.append((f"{feature.key}/count", pa.int64()))
        fields += [(f"{feature.key}/{each}", pa.list_(pa.float64(), feature.dim)) for each in SUMS]
    return pa.schema(fields)


def merged(tables: Sequence[pa.Table], schema: Schema) -> pa.Table:
    """One table in the order of ``episode_index``; the same whether the parts come from memory or from parquet."""
    import pyarrow as pa
    from pyarrow._compute import SortOptions, call_function  # pyarrow.compute documents all functions at its import

    wanted = arrow_schema(schema)
    whole = pa.concat_tables([each if each.schema == wanted else each.cast(wanted) for each in tables])
    order = call_function("sort_indices", [whole], SortOptions([("episode_index", "ascending")]))
    return call_function("take", [whole, order]).combine_chunks()


def to_parquet(table: pa.Table) -> bytes:
    """The bytes of a parquet file."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_statistics=False)
    return buffer.getvalue()


def to_ipc(table: pa.Table) -> bytes:
    """The rows of one shard for its receipt: Arrow's own format, which costs nothing to write or read."""
    import pyarrow as pa

    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def from_ipc(content: bytes) -> pa.Table:
    """The table in the bytes of an Arrow file."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.BufferReader(content)).read_all()


class IndexTable:
    """The index of a dataset; a column is read from the file when it is first asked for."""

    def __init__(self, file: pa.NativeFile) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(file)
        self._columns: dict[str, pa.Array] = {}

    @property
    def num_rows(self) -> int:
        """Episodes."""
        return int(self._file.metadata.num_rows)

    @cached_property
    def column_names(self) -> list[str]:
        """Every column."""
        return list(self._file.schema_arrow.names)

    def __len__(self) -> int:
        return self.num_rows

    def column(self, name: str) -> pa.ChunkedArray:
        """One column."""
        import pyarrow as pa

        return pa.chunked_array([self.combined(name)])

    def combined(self, name: str) -> pa.Array:
        """One column in one piece."""
        import pyarrow as pa

        if name not in self._columns:
            self._check([name])
            column = self._file.read([name], use_threads=False).column(name)
            self._columns[name] = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
        return self._columns[name]

    def batches(self, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Some columns a part of the rows at a time, with the number of its first row; nothing is kept."""
        self._check(names)
        at = 0
        for batch in self._file.iter_batches(BATCH_ROWS, columns=list(names), use_threads=False):
            yield at, batch
            at += len(batch)

    def _check(self, names: Sequence[str]) -> None:
        missing = [name for name in names if name not in self.column_names]
        if missing:
            raise DataError(
                f"the index of a dataset has no column {missing[0]}",
                where="index/episodes-*.parquet",
                why="the manifest's schema asks for it: one of them is damaged, or they are of two datasets",
                fix="delete the dataset's manifest.json and convert again: whole shards are kept",
            )

    def array(self, name: str) -> np.ndarray:
        """One column of numbers."""
        return np.asarray(self.combined(name).to_numpy(zero_copy_only=False))


def sums_of(table: IndexTable, feature: str, kind: str) -> np.ndarray:
    """Per-episode numbers of a feature: ``[episodes, D]`` float64."""
    return _matrix(table.combined(f"{feature}/{kind}"))


def sums_in_batches(
    table: IndexTable, feature: str, numbers: np.ndarray, kinds: Sequence[str] = SUMS
) -> Iterator[tuple[np.ndarray, ...]]:
    """Which rows out of ``numbers`` (sorted), and their sums of a feature ``[n, D]``, a part of the index at a time."""
    wanted = np.sort(numbers)
    for first, batch in table.batches([f"{feature}/{kind}" for kind in kinds]):
        begin, end = np.searchsorted(wanted, [first, first + len(batch)])
        if begin < end:
            chosen = wanted[begin:end]
            yield chosen, *(_matrix(batch.column(f"{feature}/{kind}"))[chosen - first] for kind in kinds)


def _matrix(column: pa.Array) -> np.ndarray:
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64).reshape(len(column), column.type.list_size)


def object_name(content: bytes) -> str:
    """The first 16 hex digits of the sha256, as in the names of shards and indexes."""
    return hashlib.sha256(content).hexdigest()[:16]


def _row(sample: Sample, shard: int) -> dict[str, Any]:
    """One episode's values by column; a column without a value is null."""
    names = ("episode_id", "length", "task", "success", "splits")
    row: dict[str, Any] = {"episode_index": int(sample.name.removeprefix("ep_")), "sample": sample.name, "shard": shard}
    row |= {name: sample.meta[name] for name in names}
    row |= {f"{EXTRA}{key}": [] for key in ("name", *PLACE)}
    for camera, each in sample.meta.get("chunks", {}).items():
        row |= {f"{camera}.{MP4}/{key}": values for key, values in each.items()}
    for member in sample.members:
        kind = member.suffix
        if kind.endswith(f".{MP4}"):
            for key in PLACE:
                row.setdefault(f"{kind.rsplit('.', 2)[0]}.{MP4}/{key}", []).append(getattr(member, key))
        elif kind.startswith(EXTRA):
            row[f"{EXTRA}name"].append(kind.removeprefix(EXTRA))
            for key in PLACE:
                row[f"{EXTRA}{key}"].append(getattr(member, key))
        else:
            row |= {f"{kind}/{key}": getattr(member, key) for key in PLACE}
    return row | {f"{kind}/frames": starts for kind, starts in sample.starts.items()}


def _sums(episodes: Sequence[np.ndarray], schema: Schema) -> dict[str, np.ndarray]:
    """Columns of counts ``[E]`` and of the sums ``[E, D]`` of every feature."""
    # numbers and vectors apart: numpy adds a lone column in another order than the columns of a matrix
    alone = [each for each in schema.columns if each.dim == 1]
    beside = [each for each in schema.columns if each.dim != 1]
    columns = {f"{each.key}/count": np.array([len(rows) for rows in episodes], np.int64) for each in schema.columns}
    for features, axis in ((alone, 1), (beside, 0)):
        if not features:
            continue
        reduced = np.stack([_reduced(rows, features, axis) for rows in episodes])  # [E, SUMS, D of all]
        at = 0
        for each in features:
            for i, kind in enumerate(SUMS):
                columns[f"{each.key}/{kind}"] = reduced[:, i, at : at + each.dim]
            at += each.dim
    return columns


def _reduced(rows: np.ndarray, features: Sequence[Feature], steps: int) -> np.ndarray:
    """SUMS over the axis ``steps`` of some features of one episode side by side."""
    parts = [rows[each.key].reshape(len(rows), each.dim) for each in features]
    values = np.concatenate([part.T for part in parts] if steps else parts, 1 - steps, dtype=np.float64)
    total = values.sum(steps)
    apart = values - np.expand_dims(total / len(rows), steps)
    return np.stack([total, np.square(apart, out=apart).sum(steps), values.min(steps), values.max(steps)])
