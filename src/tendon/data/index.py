"""The index of a dataset: one parquet row per episode with where its bytes are and what its values add up to.

A row is a function of the shard's bytes alone, so a lost index is rebuilt from the tars. convert makes it; dataset and
stats read it. Columns: see ``shard_table``.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tendon.data.episode import Schema
from tendon.data.tario import CHUNK_KEYS, EXTRA, LOWDIM, META, MP4, RAW, Member, frame_starts, npy_rows, scan

if TYPE_CHECKING:
    import pyarrow as pa

SUMS = ("sum", "m2", "min", "max")
PLACE = ("offset", "size", "crc32c")


def shard_table(shard: bytes, number: int, schema: Schema, where: str) -> pa.Table:
    """The index rows of one shard.

    ``episode_index, episode_id, sample, shard, length, task, success, splits``; per member ``<member>/offset``,
    ``/size``, ``/crc32c`` and for mjpeg ``/frames`` (starts in the member); for a video ``<camera>.mp4/`` the same as
    lists with one entry per chunk, and ``/first_frame``, ``/num_frames``, ``/skip``; of extras the lists ``extra.name``,
    ``extra.offset``, ``extra.size``, ``extra.crc32c``; per feature ``<feature>/count``, and per
    dimension in float64 ``/sum``, ``/min``, ``/max``, ``/m2`` (squared deviations from the episode's own mean, which
    merge without the cancellation that plain sums of squares suffer: sumsq = m2 + sum**2 / count).
    """
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for member in scan(shard, where):
        if member.suffix.endswith(f".{MP4}"):
            camera = member.suffix.rsplit(".", 2)[0]
            for key in PLACE:
                rows[-1].setdefault(f"{camera}.{MP4}/{key}", []).append(getattr(member, key))
            continue
        if member.suffix.startswith(EXTRA):
            rows[-1][f"{EXTRA}name"].append(member.suffix.removeprefix(EXTRA))
            for key in PLACE:
                rows[-1][f"{EXTRA}{key}"].append(getattr(member, key))
            continue
        content = shard[member.offset : member.offset + member.size]
        if member.suffix == META:
            rows.append(_first_columns(json.loads(content), member, number))
        row = rows[-1]
        row |= {f"{member.suffix}/{key}": getattr(member, key) for key in PLACE}
        if member.suffix == LOWDIM:
            row |= _sums(npy_rows(content), schema)
        elif member.suffix.endswith(".mjpeg"):
            row[f"{member.suffix}/frames"] = frame_starts(content)
    return pa.Table.from_pylist(rows, arrow_schema(schema))


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
    for member in (META, LOWDIM, *mjpegs, *raws):
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
    for feature in schema.features:
        fields.append((f"{feature.name}/count", pa.int64()))
        fields += [(f"{feature.name}/{each}", pa.list_(pa.float64(), feature.dim)) for each in SUMS]
    return pa.schema(fields)


def merged(tables: Sequence[pa.Table], schema: Schema) -> pa.Table:
    """One table in the order of ``episode_index``; the same whether the parts come from memory or from parquet."""
    import pyarrow as pa

    parts = [table.cast(arrow_schema(schema)) for table in tables]
    return pa.concat_tables(parts).sort_by("episode_index").combine_chunks()


def to_parquet(table: pa.Table) -> bytes:
    """The bytes of a parquet file."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_statistics=False)
    return buffer.getvalue()


def from_parquet(content: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in the bytes of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(content), columns=columns, use_threads=False)


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

    @property
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
            column = self._file.read([name], use_threads=False).column(name)
            self._columns[name] = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
        return self._columns[name]

    def array(self, name: str) -> np.ndarray:
        """One column of numbers."""
        return np.asarray(self.combined(name).to_numpy(zero_copy_only=False))


def sums_of(table: IndexTable, feature: str, kind: str) -> np.ndarray:
    """Per-episode numbers of a feature: ``[episodes, D]`` float64."""
    column = table.combined(f"{feature}/{kind}")
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64).reshape(len(table), column.type.list_size)


def object_name(content: bytes) -> str:
    """The first 16 hex digits of the sha256, as in the names of shards and indexes."""
    return hashlib.sha256(content).hexdigest()[:16]


def _first_columns(meta: Mapping[str, Any], member: Member, shard: int) -> dict[str, Any]:
    names = ("episode_id", "length", "task", "success", "splits")
    own = {"episode_index": int(member.sample.removeprefix("ep_")), "sample": member.sample, "shard": shard}
    chunks = {
        f"{camera}.{MP4}/{key}": values
        for camera, each in meta.get("chunks", {}).items()
        for key, values in each.items()
    }
    extras: dict[str, Any] = {f"{EXTRA}{key}": [] for key in ("name", *PLACE)}
    return own | extras | {name: meta[name] for name in names} | chunks


def _sums(rows: np.ndarray, schema: Schema) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for feature in schema.features:
        values = rows[feature.name].reshape(len(rows), feature.dim).astype(np.float64)
        total = values.sum(0)
        m2 = np.square(values - total / len(values)).sum(0)
        columns[f"{feature.name}/count"] = len(values)
        for kind, numbers in zip(SUMS, (total, m2, values.min(0), values.max(0)), strict=True):
            columns[f"{feature.name}/{kind}"] = numbers
    return columns
