"""What was trained on: episode lengths with the findings of the checks, and the spread of actions.

ReportInputs come in, Figures go out; called by plots.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tendon.report.figure import MOST_ROWS, Figure, Table, count, drawn, origin
from tendon.report.summary import Dimension, ReportInputs
from tendon.report.svg import Canvas, Scale, clip_text, short


def data_sane(inputs: ReportInputs) -> Figure:
    """Histogram of episode lengths, with the findings of the checks as notes."""
    name, question = "data", "Is the data sane?"
    data = inputs.data
    if data is None or not data.episode_lengths:
        return Figure(name, question, "No dataset was converted.")
    lengths = data.episode_lengths
    found = "; the checks found nothing" if not data.findings else f"; {count(len(data.findings), 'finding')}"
    span = (
        f"{min(lengths)} to {max(lengths)} steps long"
        if min(lengths) < max(lengths)
        else f"all {lengths[0]} steps long"
    )
    answer = f"{count(len(lengths), 'episode')}, {data.num_frames:,} frames, {span}{found}."
    first, width_steps, counts = _bins(lengths)

    def draw(width: int) -> str:
        canvas, left, right, bottom = Canvas(width, 196), 40, width - 12, 156
        x = Scale(first, first + width_steps * len(counts), left, right)
        y = Scale(0, max(counts), bottom, 22)
        canvas.y_axis(y, left, right, 3)
        for k, num in enumerate(counts):
            start = first + width_steps * k
            hint = f"{start} to {start + width_steps - 1} steps: {count(num, 'episode')}"
            canvas.rect(x(start) + 0.5, y(num), x(start + width_steps) - x(start) - 1, bottom - y(num), "bar s0", hint)
        canvas.x_axis(x, bottom, bottom, 5, "steps in an episode")
        canvas.text(0, 10, "episodes", "t u")
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [(first + width_steps * k, first + width_steps * (k + 1) - 1, num) for k, num in enumerate(counts)]
    table = Table(("from_steps", "to_steps", "episodes"), rows)
    return drawn(name, question, answer, origin(inputs, "dataset", "episodes"), draw, table, data.findings)


def action_spread(inputs: ReportInputs) -> Figure:
    """One row per action dimension: its histogram, or its range where nothing was counted."""
    name, question = "actions", "What do actions look like?"
    dims = inputs.data.actions if inputs.data else ()
    if not dims:
        return Figure(name, question, "No statistics of actions were computed.")
    flagged = [dim for dim in dims if dim.flag]
    shown = ([*flagged, *(dim for dim in dims if not dim.flag)] if len(dims) > MOST_ROWS else list(dims))[:MOST_ROWS]
    low, high = min(dim.low for dim in dims), max(dim.high for dim in dims)
    answer = f"{count(len(dims), 'dimension')}, from {short(low)} to {short(high)}."
    if flagged:
        answer += " " + ", ".join(f"{dim.name} is {dim.flag}" for dim in flagged[:4]) + "."

    def draw(width: int) -> str:
        pitch, left, right = 40, 96, width - 8
        canvas = Canvas(width, pitch * len(shown) + 8)
        for row, dim in enumerate(shown):
            base = pitch * (row + 1) - 10
            canvas.text(0, base - 8, clip_text(dim.name, left - 8), "t s")
            _draw_dimension(canvas, dim, base, left, right)
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [(d.name, d.low, d.q01, d.mean, d.q99, d.high, d.flag, " ".join(map(str, d.counts))) for d in dims]
    header = ("dimension", "min", "q01", "mean", "q99", "max", "flag", "counts_of_equal_bins")
    notes = ["Each row has its own range; the mark is the mean, the bar under it the middle 98%."]
    if len(shown) < len(dims):
        notes.append(f"{len(dims) - len(shown)} more dimensions are in the CSV.")
    return drawn(name, question, answer, origin(inputs, "dataset"), draw, Table(header, rows), notes)


def _draw_dimension(canvas: Canvas, dim: Dimension, base: float, left: float, right: float) -> None:
    if dim.high == dim.low:
        canvas.line(left, base, right, base, "a")
        canvas.text(left, base - 6, f"always {short(dim.low)}")
        return
    edge = 44
    x = Scale(dim.low, dim.high, left + edge, right - edge)
    canvas.text(left + edge - 6, base + 4, short(dim.low), anchor="end")
    canvas.text(right - edge + 6, base + 4, short(dim.high))
    if dim.counts:
        step, tallest = (x.end - x.start) / len(dim.counts), max(dim.counts)
        for k, num in enumerate(dim.counts):
            height = 22 * num / tallest
            canvas.rect(x.start + k * step, base - height, step * 0.92, height, "bar s0")
    canvas.line(x.start, base, x.end, base, "a")
    canvas.line(x(dim.q01), base + 3, x(dim.q99), base + 3, "w s0")
    canvas.marker(x(dim.mean), base + 3, 3, "s1", 3)


def _bins(lengths: Sequence[int]) -> tuple[int, int, list[int]]:
    """First edge, width in steps and counts of a histogram of whole numbers, at most about 24 bars."""
    low, high = min(lengths), max(lengths)
    width = max(1, -(-(high - low + 1) // 24))
    first = low - low % width
    seen = Counter((length - first) // width for length in lengths)
    return first, width, [seen[k] for k in range((high - first) // width + 1)]
