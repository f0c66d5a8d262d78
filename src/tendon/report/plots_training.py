"""How it was trained: whether the loss settled, whether data kept up, and what each step took.

ReportInputs come in, Figures go out; called by plots.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tendon.logs import duration
from tendon.report.figure import MOST_ROWS, Figure, Table, board_place, drawn, origin
from tendon.report.summary import Curve, ReportInputs, Timing
from tendon.report.svg import DASHES, Canvas, Scale, clip_text, short

MOST_CURVES = 6
MOST_CSV_POINTS = 6_000
SLOW_FEED = 0.3
STEP_ORDER = ("plan", "convert", "stats", "train", "export", "evaluate", "select", "confirm", "report", "promote")


def training_converged(inputs: ReportInputs) -> Figure:
    """Losses over steps; the best trials in colour, the rest in grey."""
    name, question = "curves", "Did training converge?"
    curves = _in_board_order(inputs)
    if not curves:
        return Figure(name, question, "No trial wrote a training loss.")
    answer = _convergence_sentence(curves[0])
    bright, grey = curves[:MOST_CURVES], curves[MOST_CURVES:]
    dead = {row.name for row in inputs.leaderboard if not row.rank}
    framing = [curve for curve in curves if curve.trial not in dead] or curves
    values = [loss for curve in framing for _, loss in (*curve.train, *curve.valid)]
    low, high = min(values), max(values)
    losses = {curve.trial: [loss for _, loss in (*curve.train, *curve.valid)] for curve in curves}
    above = [trial for trial, values in losses.items() if max(values) > high]
    below = [trial for trial, values in losses.items() if min(values) < low]
    last = max(step for curve in curves for step, _ in (*curve.train, *curve.valid))

    def draw(width: int) -> str:
        legend = _legend_rows([curve.trial for curve in bright], width)
        top = 22 * len(legend) + 26
        canvas, left, right, bottom = Canvas(width, top + 230), 46, width - 12, top + 190
        log = low > 0 and high > 20 * low
        pad = 0 if log else 0.04 * (high - low or abs(high) or 1)
        x, y = Scale(0, max(1, last), left, right), Scale(low - pad, high + pad, bottom, top, log)
        canvas.y_axis(y, left, right, 4)
        canvas.x_axis(x, bottom, bottom, 4, "training step")
        canvas.text(0, top - 10, "loss, logarithmic" if log else "loss", "t u")
        for curve in grey:
            _draw_line(canvas, curve.valid or curve.train, x, y, 60, "l thin s6")
        for k, curve in reversed(list(enumerate(bright))):
            _draw_curve(canvas, curve, k, x, y)
        for row, names in enumerate(legend):
            for at, k, label in names:
                canvas.line(at, 10 + 22 * row, at + 26, 10 + 22 * row, f"l s{k}", DASHES[k])
                canvas.marker(at + 13, 10 + 22 * row, k, f"s{k}", 3.5)
                canvas.text(at + 32, 14 + 22 * row, label)
        return canvas.svg(f"{name}-{width}", question, answer)

    both = any(curve.valid for curve in curves)
    notes = (
        ["Line with marks: validation. Faint line: training."] if both else ["Training loss only: no validation split."]
    )
    if grey:
        notes.append(f"{len(grey)} more trials in grey.")
    notes += [f"Beyond the {edge}: {_some(trials)}." for edge, trials in (("top", above), ("bottom", below)) if trials]
    broken = [
        f"{curve.trial} from step {step:,}" for curve in inputs.curves if (step := _first_broken(curve)) is not None
    ]
    if broken:
        notes.append(f"Cut where the loss is no number: {_some(broken)}.")
    each = max(20, MOST_CSV_POINTS // len(curves))
    rows = [
        (curve.trial, split, step, f"{loss:.6g}")
        for curve in curves
        for split, points in (("train", _thin(curve.train, each)), ("valid", _thin(curve.valid, each)))
        for step, loss in points
    ]
    if any(len(points) > each for curve in curves for points in (curve.train, curve.valid)):
        notes.append(f"The data hold about {each} points of each curve.")
    where, table = origin(inputs, "dataset", "training_seed", "code"), Table(("trial", "split", "step", "loss"), rows)
    return drawn(name, question, answer, where, draw, table, notes)


def _draw_curve(canvas: Canvas, curve: Curve, k: int, x: Scale, y: Scale) -> None:
    faint = "faint " if curve.valid else ""
    _draw_line(canvas, curve.train, x, y, 160, f"l {faint}s{k}", "" if curve.valid else DASHES[k])
    _draw_line(canvas, curve.valid, x, y, 60, f"l s{k}", DASHES[k])
    marked = _dots(curve.valid, x, y, 60) or _dots(curve.train, x, y, 160)
    for at, value in marked[:: max(1, len(marked) // 8)]:
        canvas.marker(at, value, k, f"s{k}", 3.2)


def _convergence_sentence(curve: Curve) -> str:
    if not curve.valid:
        if not curve.train:
            return "The winner wrote no training loss."
        (first, start), (last, end) = curve.train[0], curve.train[-1]
        return f"{curve.trial}: training loss from {short(start)} at step {first:,} to {short(end)} at step {last:,}."
    start, (last, end) = curve.valid[0][1], curve.valid[-1]
    best_step, best = min(curve.valid, key=lambda point: point[1])
    words = f"{curve.trial}: validation loss from {short(start)} to {short(end)} at step {last:,}"
    if best_step == last:
        return f"{words}, its lowest: it may not have converged yet."
    rise = (end - best) / abs(best) if best else 0.0
    worse = f", and has risen {100 * rise:.0f}% since: overfitting" if rise > 0.1 else ", and flat since"
    return f"{words}; lowest ({short(best)}) at step {best_step:,}{worse}."


def gpu_fed(inputs: ReportInputs) -> Figure:
    """Share of each training step spent waiting for data."""
    name, question = "fed", "Was the GPU fed?"
    if not inputs.feeds:
        return Figure(name, question, "No trial measured where the time of a training step went.")
    order = board_place(inputs)
    feeds = sorted(inputs.feeds, key=lambda feed: order.get(feed.trial, len(order)))
    worst = max(feeds, key=lambda feed: feed.wait_share)
    fed = "Yes" if worst.wait_share <= SLOW_FEED else "No"
    if all(feed.device == "cpu" for feed in feeds):
        fed = "There was no GPU, it was trained on the CPU"
    answer = f"{fed}: at most {100 * worst.wait_share:.1f}% of a training step was spent waiting for data."
    shown = feeds[:MOST_ROWS]

    def draw(width: int) -> str:
        pitch, left, right = 38, 4, width - 60
        canvas = Canvas(width, pitch * len(shown) + 40)
        x, bottom = Scale(0, 100, left, right), pitch * len(shown) + 4
        canvas.x_axis(x, 4, bottom, 4, "% of a training step")
        for row, feed in enumerate(shown):
            y = pitch * row + 20
            canvas.text(left, y - 4, clip_text(f"{feed.trial} ({feed.device})", right - left))
            waited = x(100 * feed.wait_share)
            canvas.rect(left, y, right - left, 10, "bar pale", f"computing {1000 * feed.compute_s:.2f} ms")
            canvas.rect(left, y, max(1.5, waited - left), 10, "bar s1", f"waiting {1000 * feed.wait_s:.2f} ms")
            canvas.line(x(100 * SLOW_FEED), y - 2, x(100 * SLOW_FEED), y + 12, "zero")
            canvas.text(width, y + 9, f"{100 * feed.wait_share:.1f}%", "t s", "end")
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [(feed.trial, feed.device, feed.wait_s, feed.compute_s, feed.wait_share) for feed in feeds]
    header = ("trial", "device", "wait_s_per_step", "compute_s_per_step", "wait_share")
    notes = ["Dark: waiting for data. Pale: computing. Beyond the line (30%) the loader is too slow."]
    if worst.wait_share > SLOW_FEED:
        notes.append("Give the loader more threads, or write larger shards.")
    return drawn(name, question, answer, origin(inputs, "code", "image"), draw, Table(header, rows), notes)


def what_it_cost(inputs: ReportInputs) -> Figure:
    """Wall time per step, trials added up."""
    name, question = "cost", "What did it cost?"
    timings = inputs.timings
    if not timings:
        return Figure(name, question, "No step recorded its time.")
    steps = sorted({timing.step for timing in timings}, key=lambda step: (_place(step), step))
    per_step = {step: [timing for timing in timings if timing.step == step] for step in steps}
    seconds = {step: sum(timing.seconds for timing in per_step[step]) for step in steps}
    gpu_hours = sum(timing.gpu_hours for timing in timings)
    gpus = f", {gpu_hours:.2f} GPU-hours" if gpu_hours else ""
    if all(timing.gpus == 0 for timing in timings):
        gpus = ", no GPU"
    answer = f"{duration(sum(seconds.values()))} of work{gpus}; most of it in {max(steps, key=seconds.__getitem__)}."

    def draw(width: int) -> str:
        pitch, left, right = 26, 108, width - 70
        canvas = Canvas(width, pitch * len(steps) + 8)
        x = Scale(0, max(seconds.values()) or 1, left, right)
        for row, step in enumerate(steps):
            y = pitch * row + 6
            many = f" \u00d7 {len(per_step[step])}" if len(per_step[step]) > 1 else ""
            canvas.text(0, y + 12, clip_text(step + many, left - 6), "t s")
            _draw_parts(canvas, x, y, per_step[step])
            canvas.text(x(seconds[step]) + 6, y + 12, duration(seconds[step]))
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [(t.step, t.trial, t.seconds, *_gpu_cells(t)) for step in steps for t in per_step[step]]
    side_by_side = "Each block is one trial; trials may have run side by side."
    notes = [
        *([side_by_side] if any(t.trial for t in timings) else []),
        *(f"Planned, {line}." for line in inputs.forecast),
    ]
    header = ("step", "trial", "seconds", "gpus", "gpu_hours")
    return drawn(name, question, answer, origin(inputs, "code", "image"), draw, Table(header, rows), notes)


def _gpu_cells(timing: Timing) -> tuple[float | str, float | str]:
    return ("", "") if timing.gpus is None else (timing.gpus, timing.gpu_hours)


def _draw_parts(canvas: Canvas, x: Scale, y: float, parts: Sequence[Timing]) -> None:
    at = 0.0
    for part in parts:
        width = x(at + part.seconds) - x(at)
        hint = f"{part.step} {part.trial}: {duration(part.seconds)}".replace(" :", ":")
        canvas.rect(x(at), y, max(1.0, width - (1 if width > 4 else 0)), 16, "bar s0", hint)
        at += part.seconds


def _in_board_order(inputs: ReportInputs) -> list[Curve]:
    order = board_place(inputs)
    finite = [Curve(curve.trial, _finite(curve.train), _finite(curve.valid)) for curve in inputs.curves]
    seen = [curve for curve in finite if curve.train or curve.valid]
    return sorted(seen, key=lambda curve: order.get(curve.trial, len(order)))


def _finite(points: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    return tuple(point for point in points if math.isfinite(point[1]))


def _legend_rows(names: Sequence[str], width: int) -> list[list[tuple[float, int, str]]]:
    """Entries (x, series, label) packed into as few lines as fit."""
    rows: list[list[tuple[float, int, str]]] = [[]]
    at = 0.0
    for k, name in enumerate(names):
        label = clip_text(name, width - 40)
        need = 32 + 7 * len(label) + 18
        if rows[-1] and at + need > width + 18:
            rows.append([])
            at = 0.0
        rows[-1].append((at, k, label))
        at += need
    return rows


def _dots(points: Sequence[tuple[int, float]], x: Scale, y: Scale, most: int) -> list[tuple[float, float]]:
    """The points inside the frame, in px."""
    return [(x(step), y(loss)) for step, loss in _thin(points, most) if y.low <= loss <= y.high]


def _draw_line(
    canvas: Canvas, points: Sequence[tuple[int, float]], x: Scale, y: Scale, most: int, kind: str, dash: str = ""
) -> None:
    """A curve; where it leaves the frame it is drawn up to the edge, and it goes on where it comes back."""
    least = y.low / 10 if y.log else -math.inf  # a logarithm takes nothing below zero
    placed = [(x(step), y(max(loss, least))) for step, loss in _thin(points, most)]
    for piece in pieces_inside(placed, y.end, y.start):
        canvas.path(piece, kind, dash)


def pieces_inside(points: Sequence[tuple[float, float]], top: float, bottom: float) -> list[list[tuple[float, float]]]:
    """The parts of a line through ``points`` between two heights, in px (``top`` is the smaller)."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for number, (at, height) in enumerate(points):
        before = points[number - 1] if number else (at, height)
        crossed = [edge for edge in (top, bottom) if min(before[1], height) < edge < max(before[1], height)]
        for edge in sorted(crossed, reverse=height < before[1]):
            pieces[-1].append((before[0] + (at - before[0]) * (edge - before[1]) / (height - before[1]), edge))
        if top <= height <= bottom:
            pieces[-1].append((at, height))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if len(piece) > 1]


def _first_broken(curve: Curve) -> int | None:
    """The first step whose loss is no number."""
    return min((step for step, loss in (*curve.train, *curve.valid) if not math.isfinite(loss)), default=None)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_CURVES} more" if len(names) > MOST_CURVES else ""
    return ", ".join(names[:MOST_CURVES]) + more


def _thin(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most ``most`` points, evenly picked, the last one kept."""
    every = -(-len(points) // most) if points else 1
    picked = list(points[::every])
    if points and picked[-1] != points[-1]:
        picked.append(points[-1])
    return picked


def _place(step: str) -> int:
    return STEP_ORDER.index(step) if step in STEP_ORDER else len(STEP_ORDER)
