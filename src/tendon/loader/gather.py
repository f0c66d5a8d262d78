"""Windows out of the shelf into the arrays of a batch: one gather per set of deltas, frames decoded where they belong.

Called by loader.py with the places of a batch. Axes: B windows, W deltas, E episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tendon.data.episode import Camera
from tendon.errors import DataError
from tendon.loader.encoded import decode_windows
from tendon.loader.shelf import Columns, Held, Shelf
from tendon.loader.slabs import Field
from tendon.loader.windows import Span, steps_of


@dataclass(frozen=True)
class Group:
    """What is gathered with the same deltas: features side by side, or one camera."""

    span: Span
    columns: Columns | None
    camera: Camera | None

    @property
    def names(self) -> tuple[str, ...]:
        """The features of the batch that it fills."""
        return self.columns.names if self.columns else (self.camera.name,) if self.camera else ()

    @property
    def deltas(self) -> np.ndarray:
        """Steps relative to t ``[W]``."""
        return np.array(self.span.deltas, np.int64)


def grouped(spans: Mapping[str, Span], dims: Mapping[str, int], cameras: Mapping[str, Camera]) -> list[Group]:
    """Features of one span together; a camera alone."""
    groups = []
    for span in dict.fromkeys(span for name, span in spans.items() if name in dims):
        names = tuple(name for name, own in spans.items() if own == span and name in dims)
        groups.append(Group(span, Columns(names, tuple(dims[name] for name in names)), None))
    return groups + [Group(span, None, cameras[name]) for name, span in spans.items() if name in cameras]


def fields_of(groups: Sequence[Group], count: int) -> tuple[Field, ...]:
    """The arrays of a batch of ``count`` windows."""
    fields = [Field("episode_index", "<i8", (count,)), Field("frame_index", "<i8", (count,))]
    for i, group in enumerate(groups):
        W = len(group.span.deltas)
        if group.columns:
            fields.append(Field(f"values {i}", "<f4", (count, W, sum(group.columns.dims))))
        elif group.camera:
            camera = group.camera
            fields.append(Field(camera.name, "|u1", (count, W, camera.height, camera.width, camera.channels)))
        fields.append(Field(f"pad {i}", "|b1", (count, W)))
    return tuple(fields)


def gather(
    shelf: Shelf, groups: Sequence[Group], episodes_B: np.ndarray, t_B: np.ndarray, arrays: Mapping[str, np.ndarray]
) -> dict[int, DataError]:
    """Fill ``arrays``; in several rounds when not all units fit into memory at once.

    Returns:
        The episodes that cannot be had, with the reason; their windows hold nothing of use.
    """
    units_B = shelf.layout.unit_of[episodes_B]
    every = np.flatnonzero(np.bincount(episodes_B, minlength=1)).tolist()
    left, bad = np.unique(shelf.layout.unit_of[every]).tolist(), dict[int, DataError]()
    whole = True
    while left:
        pinned, left = shelf.acquire(left, every)
        try:
            whole = whole and not left
            own = np.arange(len(t_B)) if whole else np.flatnonzero(np.isin(units_B, list(pinned)))
            bad |= shelf.errors(every if whole else np.unique(episodes_B[own]).tolist())
            with shelf.meter.waiting("gather"):
                bad |= _fill(shelf, groups, pinned, episodes_B, t_B, arrays, None if whole else own)
        finally:
            shelf.release(pinned)
    return bad


def _fill(
    shelf: Shelf,
    groups: Sequence[Group],
    pinned: Mapping[int, Held],
    episodes_B: np.ndarray,
    t_B: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    own: np.ndarray | None,
) -> dict[int, DataError]:
    bad: dict[int, DataError] = {}
    e_B, t = (episodes_B, t_B) if own is None else (episodes_B[own], t_B[own])
    row0_B, length_B = shelf.rows_of(e_B), shelf.layout.lengths[e_B]
    values = iter(shelf.values)
    for i, group in enumerate(groups):
        steps_BW, pad_BW = steps_of(t, length_B, group.deltas)
        target = arrays[f"values {i}"] if group.columns else arrays[group.names[0]]
        if group.columns is None and not shelf.decoded:
            out = target if own is None else target[own]
            assert group.camera is not None
            bad |= decode_windows(shelf, pinned, group.camera, e_B, steps_BW, out)
        else:
            source = next(values) if group.columns else shelf.frames[group.names[0]]
            rows_BW = steps_BW + row0_B[:, None]
            out = target if own is None else np.empty((len(t), *target.shape[1:]), target.dtype)
            _take(shelf, source, rows_BW, out)
        zeros_BW = _zeros(group.span, pad_BW, t, group.deltas)
        if zeros_BW is not None:
            out[zeros_BW] = 0
        if own is None:
            arrays[f"pad {i}"][...] = pad_BW
        else:
            target[own], arrays[f"pad {i}"][own] = out, pad_BW
    return bad


@dataclass(frozen=True)
class Chunk:
    """What several batches in a row need when everything is in memory, worked out at once."""

    episode_index: np.ndarray
    t: np.ndarray
    rows: list[np.ndarray]  # per group, of the shelf's arrays [windows, W]
    pads: list[np.ndarray]
    zeros: list[np.ndarray | None]


def chunk_of(
    shelf: Shelf,
    groups: Sequence[Group],
    episode_index: np.ndarray,
    episodes_B: np.ndarray,
    t_B: np.ndarray,
    used: Chunk | None = None,
) -> Chunk:
    """Rows and masks of many windows, in the arrays of a chunk that is ``used`` up; the shelf must be ``ready``."""
    row_B, length_B = shelf.rows_of(episodes_B) + t_B, shelf.layout.lengths[episodes_B]
    chunk = Chunk(episode_index[episodes_B], t_B, [], [], [])
    for i, group in enumerate(groups):
        deltas = group.deltas
        shape = len(t_B), len(deltas)
        again = used is not None and used.rows[i].shape == shape
        rows_BW = np.add(row_B[:, None], deltas, out=used.rows[i] if again else None)  # type: ignore[union-attr]
        pad_BW = used.pads[i] if again else np.empty(shape, bool)  # type: ignore[union-attr]
        pad_BW[...] = False
        edge = np.flatnonzero((t_B < -deltas.min()) | (t_B >= length_B - deltas.max()))
        steps_BW, pad_BW[edge] = steps_of(t_B[edge], length_B[edge], deltas)
        rows_BW[edge] = steps_BW + (row_B - t_B)[edge, None]
        chunk.rows.append(rows_BW)
        chunk.pads.append(pad_BW)
        chunk.zeros.append(_zeros(group.span, pad_BW, t_B, deltas))
    return chunk


def gather_chunk(
    shelf: Shelf, groups: Sequence[Group], chunk: Chunk, begin: int, end: int, arrays: Mapping[str, np.ndarray]
) -> None:
    """Fill ``arrays`` with the windows ``[begin, end)`` of a chunk."""
    arrays["episode_index"][...] = chunk.episode_index[begin:end]
    arrays["frame_index"][...] = chunk.t[begin:end]
    values = iter(shelf.values)
    for i, group in enumerate(groups):
        source = next(values) if group.columns else shelf.frames[group.names[0]]
        out = arrays[f"values {i}"] if group.columns else arrays[group.names[0]]
        _take(shelf, source, chunk.rows[i][begin:end], out)
        arrays[f"pad {i}"][...] = chunk.pads[i][begin:end]
        zeros = chunk.zeros[i]
        if zeros is not None:
            out[zeros[begin:end]] = 0


def _take(shelf: Shelf, source: np.ndarray, rows_BW: np.ndarray, out: np.ndarray) -> None:
    """One copy per window; many threads when it is much."""
    if out.nbytes < 8 << 20:
        np.take(source, rows_BW, axis=0, out=out, mode="clip")
        return
    cuts = range(0, len(out), max(1, len(out) // 8))
    step = cuts.step
    done = [shelf.pool.submit(np.take, source, rows_BW[i : i + step], 0, out[i : i + step], "clip") for i in cuts]
    for each in done:
        each.result()


def _zeros(span: Span, pad_BW: np.ndarray, t_B: np.ndarray, deltas: np.ndarray) -> np.ndarray | None:
    """Which places the edge ``zero`` makes zero."""
    if "zero" not in (span.before, span.after):
        return None
    before_BW = t_B[:, None] + deltas < 0
    chosen = pad_BW & (before_BW if span.before == "zero" else False)
    return np.asarray(chosen | (pad_BW & ~before_BW if span.after == "zero" else False))
