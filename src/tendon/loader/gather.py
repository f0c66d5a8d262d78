"""Copies windows from the unit cache into the arrays of a batch: one gather per set of deltas.

Called by batch_maker.py with episode and t of every window. Axes: B windows, W deltas, E episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tendon.data.episode import Camera, Mask, Schema
from tendon.data.features import TASK, Feature
from tendon.errors import DataError
from tendon.loader.batch_buffers import Field
from tendon.loader.encoded import decode_windows
from tendon.loader.unit_cache import CachedUnit, Columns, UnitCache
from tendon.loader.windows import Span, steps_of


@dataclass(frozen=True)
class Group:
    """Features that are gathered with the same deltas: columns side by side in one array, a picture, or the task.

    A picture is a camera or a mask. ``tasks`` are the numbers of the episodes' texts ``[E]``, for datasets that have one text
    per episode.
    """

    span: Span
    columns: Columns | None = None
    picture: Camera | Mask | None = None
    tasks: np.ndarray | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The features of the batch that this group fills."""
        if self.columns:
            return self.columns.names
        return (self.picture.name if self.picture else TASK,)

    @property
    def deltas(self) -> np.ndarray:
        """Steps relative to t ``[W]``."""
        return np.array(self.span.deltas, np.int64)


def grouped(spans: Mapping[str, Span], schema: Schema, tasks: np.ndarray | None) -> list[Group]:
    """One group for all columns of the same span and type, one for every camera and mask, one for the task.

    ``tasks``: the number of every episode's text; None when no window has it, or a column says it.
    """
    columns = {each.key: each for each in schema.columns}
    pictures = {each.name: each for each in schema.pictures}
    by_span: dict[tuple[Span, str], list[Feature]] = {}
    for name, span in spans.items():
        if name in columns:
            by_span.setdefault((span, "<i8" if columns[name].is_integer else "<f4"), []).append(columns[name])
    groups = []
    for (span, dtype), features in by_span.items():
        texts = tuple(each.key for each in features if each.kind == "text")
        keys, dims = tuple(each.key for each in features), tuple(each.dim for each in features)
        groups.append(Group(span, Columns(keys, dims, dtype, texts)))
    groups += [Group(span, picture=pictures[name]) for name, span in spans.items() if name in pictures]
    if tasks is not None:
        groups.append(Group(spans[TASK], tasks=tasks))
    return groups


def fields_of(groups: Sequence[Group], count: int) -> tuple[Field, ...]:
    """The arrays of a batch of ``count`` windows."""
    fields = [Field("episode_index", "<i8", (count,)), Field("frame_index", "<i8", (count,))]
    for i, group in enumerate(groups):
        W = len(group.span.deltas)
        if group.columns:
            fields.append(Field(f"values {i}", group.columns.dtype, (count, W, sum(group.columns.dims))))
        elif group.picture:
            fields.append(
                Field(group.picture.name, np.dtype(group.picture.dtype).str, (count, W, *group.picture.shape))
            )
        else:
            fields.append(Field(TASK, "<i8", (count, W)))
        fields.append(Field(f"pad {i}", "|b1", (count, W)))
    return tuple(fields)


def gather(
    cache: UnitCache, groups: Sequence[Group], episodes_B: np.ndarray, t_B: np.ndarray, arrays: Mapping[str, np.ndarray]
) -> dict[int, DataError]:
    """Fill ``arrays``, in several rounds when the units of the batch do not fit into memory at once.

    Returns:
        The errors of episodes that cannot be read. Their windows hold arbitrary values.
    """
    units_B = cache.layout.unit_of[episodes_B]
    episodes = np.flatnonzero(np.bincount(episodes_B, minlength=1)).tolist()  # np.unique, without a sort
    units_left, bad = np.unique(cache.layout.unit_of[episodes]).tolist(), dict[int, DataError]()
    one_round = True
    while units_left:
        pinned, units_left = cache.acquire(units_left, episodes)
        try:
            one_round = one_round and not units_left
            ready = np.arange(len(t_B)) if one_round else np.flatnonzero(np.isin(units_B, list(pinned)))
            bad |= cache.errors(episodes if one_round else np.unique(episodes_B[ready]).tolist())
            with cache.meter.waiting("gather"):
                bad |= _fill(cache, groups, pinned, episodes_B, t_B, arrays, None if one_round else ready)
        finally:
            cache.release(pinned)
    return bad


def _fill(
    cache: UnitCache,
    groups: Sequence[Group],
    pinned: Mapping[int, CachedUnit],
    episodes_B: np.ndarray,
    t_B: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    chosen: np.ndarray | None,
) -> dict[int, DataError]:
    """Fill the ``chosen`` windows of a batch, or all of them (None), which needs no second copy."""
    bad: dict[int, DataError] = {}
    e_B, t = (episodes_B, t_B) if chosen is None else (episodes_B[chosen], t_B[chosen])
    row0_B, length_B = cache.rows_of(e_B), cache.layout.lengths[e_B]
    values = iter(cache.values)
    for i, group in enumerate(groups):
        steps_BW, pad_BW = steps_of(t, length_B, group.deltas)
        target = arrays[f"values {i}"] if group.columns else arrays[group.names[0]]
        if group.tasks is not None:
            out = target if chosen is None else target[chosen]
            out[...] = group.tasks[e_B, None]
        elif group.picture is not None and not cache.decoded:
            out = target if chosen is None else target[chosen]
            bad |= decode_windows(cache, pinned, group.picture, e_B, steps_BW, out)
        else:
            source = next(values) if group.columns else cache.frames[group.names[0]]
            rows_BW = steps_BW + row0_B[:, None]
            out = target if chosen is None else np.empty((len(t), *target.shape[1:]), target.dtype)
            _take(cache, source, rows_BW, out)
        zeros_BW = _zeros(group.span, pad_BW, t, group.deltas)
        if zeros_BW is not None:
            out[zeros_BW] = 0
        if chosen is None:
            arrays[f"pad {i}"][...] = pad_BW
        else:
            target[chosen], arrays[f"pad {i}"][chosen] = out, pad_BW
    return bad


@dataclass(frozen=True)
class WindowChunk:
    """Row numbers and masks for several batches in a row, computed at once when the dataset is in memory."""

    episode_index: np.ndarray
    t: np.ndarray
    rows: list[np.ndarray]  # per group, row numbers in the cache's arrays [windows, W]
    pads: list[np.ndarray]
    zeros: list[np.ndarray | None]


def chunk_of(
    cache: UnitCache,
    groups: Sequence[Group],
    episode_index: np.ndarray,
    episodes_B: np.ndarray,
    t_B: np.ndarray,
    used: WindowChunk | None = None,
) -> WindowChunk:
    """Rows and masks of many windows. Reuses the arrays of a ``used`` chunk. The cache must be ``ready``."""
    row_B, length_B = cache.rows_of(episodes_B) + t_B, cache.layout.lengths[episodes_B]
    chunk = WindowChunk(episode_index[episodes_B], t_B, [], [], [])
    for i, group in enumerate(groups):
        deltas = group.deltas
        shape = len(t_B), len(deltas)
        reuse = used is not None and used.rows[i].shape == shape
        rows_BW = np.add(row_B[:, None], deltas, out=used.rows[i] if reuse else None)  # type: ignore[union-attr]
        pad_BW = used.pads[i] if reuse else np.empty(shape, bool)  # type: ignore[union-attr]
        pad_BW[...] = False
        # Most windows lie inside their episode; only those that reach over an edge need the clipping of steps_of.
        edge = np.flatnonzero((t_B < -deltas.min()) | (t_B >= length_B - deltas.max()))
        steps_BW, pad_BW[edge] = steps_of(t_B[edge], length_B[edge], deltas)
        rows_BW[edge] = steps_BW + (row_B - t_B)[edge, None]
        if group.tasks is not None:
            rows_BW[...] = group.tasks[episodes_B, None]  # the same value at every step: there is nothing to look up
        chunk.rows.append(rows_BW)
        chunk.pads.append(pad_BW)
        chunk.zeros.append(_zeros(group.span, pad_BW, t_B, deltas))
    return chunk


def gather_chunk(
    cache: UnitCache,
    groups: Sequence[Group],
    chunk: WindowChunk,
    begin: int,
    end: int,
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Fill ``arrays`` with the windows ``[begin, end)`` of a chunk."""
    arrays["episode_index"][...] = chunk.episode_index[begin:end]
    arrays["frame_index"][...] = chunk.t[begin:end]
    values = iter(cache.values)
    for i, group in enumerate(groups):
        out = arrays[f"values {i}"] if group.columns else arrays[group.names[0]]
        if group.tasks is not None:
            out[...] = chunk.rows[i][begin:end]
        else:
            source = next(values) if group.columns else cache.frames[group.names[0]]
            _take(cache, source, chunk.rows[i][begin:end], out)
        arrays[f"pad {i}"][...] = chunk.pads[i][begin:end]
        zeros = chunk.zeros[i]
        if zeros is not None:
            out[zeros[begin:end]] = 0


def _take(cache: UnitCache, source: np.ndarray, rows_BW: np.ndarray, out: np.ndarray) -> None:
    """Copy rows into ``out``, in several threads when that is much. ``clip`` skips a check: all rows are inside."""
    if out.nbytes < 8 << 20:
        np.take(source, rows_BW, axis=0, out=out, mode="clip")
        return
    starts = range(0, len(out), max(1, len(out) // 8))
    step = starts.step
    futures = [cache.pool.submit(np.take, source, rows_BW[i : i + step], 0, out[i : i + step], "clip") for i in starts]
    for future in futures:
        future.result()


def _zeros(span: Span, pad_BW: np.ndarray, t_B: np.ndarray, deltas: np.ndarray) -> np.ndarray | None:
    """Where the edge rule ``zero`` puts zeros; None when neither edge has it."""
    if "zero" not in (span.before, span.after):
        return None
    before_BW = t_B[:, None] + deltas < 0
    zeros_BW = pad_BW & (before_BW if span.before == "zero" else False)
    return np.asarray(zeros_BW | (pad_BW & ~before_BW if span.after == "zero" else False))
