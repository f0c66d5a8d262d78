"""The eight fixed plots, each a question with its answer in words, drawn twice (phone, desk), and its data as CSV.

ReportInputs come in, Figures go out; page.py places them. A plot without data says why and stays empty.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tendon.evaluate.confidence import LeaderboardRow
from tendon.report.summary import Curve, Dimension, Ending, ReportInputs, Timing
from tendon.report.svg import DASHES, Canvas, Scale, clip_text, short

PHONE_PX, DESK_PX = 328, 460
MOST_ROWS = 24
MOST_CURVES = 6
SLOW_FEED = 0.3
STEP_ORDER = ("plan", "convert", "stats", "train", "export", "evaluate", "select", "confirm", "report", "promote")


@dataclass(frozen=True)
class Figure:
    """A question, its answer, the drawing at two widths (empty: there is no data) and the numbers behind it."""

    name: str
    question: str
    answer: str
    source: str = ""
    phone: str = ""
    desk: str = ""
    csv: str = ""
    notes: tuple[str, ...] = ()


def figures(inputs: ReportInputs) -> tuple[Figure, ...]:
    """The eight, in the order of the page."""
    return (
        better_than_champion(inputs),
        where_it_fails(inputs),
        which_trial_won(inputs),
        training_converged(inputs),
        data_sane(inputs),
        action_spread(inputs),
        gpu_fed(inputs),
        what_it_cost(inputs),
    )


def better_than_champion(inputs: ReportInputs) -> Figure:
    """Both rates, and their difference with its interval."""
    name, question = "champion", "Is it better than the champion?"
    gap = inputs.difference
    if gap is None or len(inputs.rates) < 2:
        why = "There is no champion yet to compare with." if inputs.rates else "No policy was confirmed."
        return Figure(name, question, why)
    low, high = gap.interval_95
    answer = f"Winner minus champion: {100 * gap.value:+.0f} points, 95% {_points(low, high)}, on {gap.pairs:,} shared seeds."

    def draw(width: int) -> str:
        canvas, left, right = Canvas(width, 226), 84, width - 14
        floor = min(rate.interval_95.low for rate in inputs.rates)
        x = Scale(int(floor * 4) / 4, 1.0, left, right)
        canvas.x_axis(x, 10, 78, unit="success rate")
        for row, rate in enumerate(inputs.rates[:2]):
            y = 28 + 32 * row
            canvas.text(0, y + 4, rate.label, "t s")
            if rate.value is not None:
                canvas.whisker(x, y, rate.interval_95.low, rate.value, rate.interval_95.high, f"s{row}", row)
        ends = Scale(min(100 * low, -10) * 1.08, max(100 * high, 10) * 1.08, left, right)
        canvas.x_axis(ends, 134, 180, unit="points")
        canvas.line(ends(0), 128, ends(0), 180, "zero")
        canvas.text(0, 161, "difference", "t s")
        canvas.text(ends(0) - 6, 124, "champion better", anchor="end")
        canvas.text(ends(0) + 6, 124, "winner better")
        canvas.whisker(ends, 157, 100 * low, 100 * gap.value, 100 * high, "s2", 3)
        return canvas.svg(f"{name}-{width}", question, answer)

    rows: list[Sequence[object]] = [
        (rate.label, rate.name, rate.value, *rate.interval_95, rate.successes, rate.n, rate.crashed) for rate in inputs.rates
    ]
    rows.append(("difference", "", gap.value, low, high, "", gap.pairs, ""))
    header = ("what", "policy", "value", "low_95", "high_95", "successes", "n", "crashed")
    return _figure(name, question, answer, _confirmed_on(inputs), draw, header, rows)


def where_it_fails(inputs: ReportInputs) -> Figure:
    """One dot per episode at the step where it ended, in lanes by how it ended."""
    name, question = "endings", "Where does it fail?"
    endings = inputs.endings
    if not endings:
        return Figure(name, question, "No policy was confirmed, so there are no episodes to show.")
    lanes = [("success", 0, "s0"), ("failure", 4, "s1"), ("crashed", 2, "s6")]
    by_status = {status: [e for e in endings if e.status == status] for status, _, _ in lanes}
    answer = _failure_sentence(by_status["success"], by_status["failure"], by_status["crashed"])
    last = max(e.steps for e in endings)

    def draw(width: int) -> str:
        shown = [lane for lane in lanes if by_status[lane[0]] or lane[0] != "crashed"]
        canvas, left, right = Canvas(width, 40 + 62 * len(shown)), 84, width - 14
        x = Scale(0, max(1, last) * 1.02, left, right)
        bottom = 8 + 62 * len(shown)
        canvas.x_axis(x, 8, bottom, unit="step at which the episode ended")
        piles = {status: _columns(by_status[status], x) for status, _, _ in shown}
        tallest = max(len(column) for pile in piles.values() for column in pile.values())
        for row, (status, shape, kind) in enumerate(shown):
            base = 8 + 62 * (row + 1)
            canvas.line(0, base, right, base, "g")
            canvas.text(0, base - 30, status, "t s")
            canvas.text(0, base - 14, f"{len(by_status[status])} of {len(endings)}")
            _pile(canvas, x, base, piles[status], tallest, (shape, kind))
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [(e.seed, e.status, e.steps) for e in sorted(endings, key=lambda e: e.seed)]
    return _figure(name, question, answer, _confirmed_on(inputs), draw, ("seed", "status", "steps"), rows)


def _columns(endings: Sequence[Ending], x: Scale) -> dict[int, list[Ending]]:
    """Episodes by column of 8 px."""
    columns: dict[int, list[Ending]] = {}
    for ending in sorted(endings, key=lambda e: (e.steps, e.seed)):
        columns.setdefault(int((x(ending.steps) - x.start) // 8), []).append(ending)
    return columns


def _pile(canvas: Canvas, x: Scale, base: float, columns: dict[int, list[Ending]], tallest: int, style: tuple[int, str]) -> None:
    """Episodes piled up from the lane's floor: marks while they fit, else bars on one scale for all lanes."""
    shape, kind = style
    fits = tallest <= 6
    for at, column in columns.items():
        left = x.start + 8 * at
        if fits:
            for level, ending in enumerate(column):
                hint = f"seed {ending.seed}: {ending.status} at step {ending.steps}"
                canvas.marker(left + 4, base - 6 - 8 * level, shape, kind, 3, hint)
            continue
        height = max(3.0, 44 * len(column) / tallest)
        steps = f"{column[0].steps}" if len(column) == 1 else f"{column[0].steps} to {column[-1].steps}"
        canvas.rect(left + 1, base - height, 6, height, f"bar {kind}", f"{len(column)} {column[0].status} at step {steps}")
        if len(column) == max(map(len, columns.values())) and len(column) > 1:
            canvas.text(left + 4, base - height - 3, str(len(column)), anchor="middle")


def _failure_sentence(successes: Sequence[Ending], failures: Sequence[Ending], crashed: Sequence[Ending]) -> str:
    lost = f" {_count(len(crashed), 'episode')} crashed and counts as neither." if len(crashed) == 1 else ""
    lost = f" {len(crashed)} episodes crashed and count as neither." if len(crashed) > 1 else lost
    if not failures:
        return f"None of the {len(successes)} finished episodes failed.{lost}"
    limit = max(e.steps for e in (*successes, *failures))
    early = sorted(e.steps for e in failures if e.steps < limit)
    late = len(failures) - len(early)
    head = f"{len(failures)} of {len(successes) + len(failures)} finished episodes failed"
    if late == len(failures):
        return f"{head}, all at the last step ({limit}): out of time.{lost}"
    span = f"between step {early[0]} and {early[-1]}" if early[0] < early[-1] else f"at step {early[0]}"
    if late >= 2:
        return f"{head}: {late} ran out of time at step {limit}, {len(early)} ended {span}.{lost}"
    return f"{head}, {span}, half of them by step {early[(len(early) - 1) // 2]}.{lost}"


def which_trial_won(inputs: ReportInputs) -> Figure:
    """Rates with intervals, best first; failed trials named."""
    name, question = "trials", "Which trial won?"
    board = inputs.leaderboard
    if not board:
        return Figure(name, question, "No trial was evaluated.")
    ranked, failed = [row for row in board if row.rank], [row for row in board if not row.rank]
    if not ranked:
        return Figure(name, question, f"None: {_all_of(len(failed))} failed. The table above says where and why.")
    answer = _winner_sentence(ranked, failed)
    shown = board[:MOST_ROWS]

    def draw(width: int) -> str:
        stacked = width < 400
        pitch, left = (40, 4) if stacked else (28, 168)
        canvas, right = Canvas(width, pitch * len(shown) + 46), width - 42
        floor = min(row.interval_95.low for row in ranked if row.interval_95)
        x, bottom = Scale(int(floor * 4) / 4, 1.0, left, right), pitch * len(shown) + 8
        canvas.x_axis(x, 4, bottom, unit="success rate on the selection seeds")
        canvas.line(x(ranked[0].rate or 0), 4, x(ranked[0].rate or 0), bottom, "zero", "3 3")
        for row, trial in enumerate(shown):
            y = pitch * row + (30 if stacked else 20)
            words = clip_text(trial.name, width - 90 if stacked else left - 14)
            canvas.text(0, y - 13 if stacked else y + 4, words, "t s" if trial.rank == 1 else "t")
            if trial.rate is None or trial.interval_95 is None:
                canvas.marker(left + 8, y, 4, "s6", 3.5)
                canvas.text(left + 18, y + 4, f"failed in {trial.failed_step}")
                continue
            kind, shape = ("s0", 0) if trial.rank == 1 else ("s6", 1)
            canvas.whisker(x, y, trial.interval_95.low, trial.rate, trial.interval_95.high, kind, shape)
            canvas.text(width, y + 4, f"{trial.rate:.2f}", "t s" if trial.rank == 1 else "t", "end")
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [
        (r.rank or "", r.name, _blank(r.rate), *(r.interval_95 or ("", "")), r.successes, r.n, r.crashed,
         _blank(r.mean_steps), r.failed_step) for r in board
    ]  # fmt: skip
    header = ("rank", "trial", "rate", "low_95", "high_95", "successes", "n", "crashed", "mean_steps", "failed_step")
    left_out = len(board) - len(shown)
    notes = (f"{left_out} more trials are in the table and in the CSV.",) if left_out else ()
    return _figure(name, question, answer, _selected_on(inputs), draw, header, rows, notes)


def _winner_sentence(ranked: Sequence[LeaderboardRow], failed: Sequence[LeaderboardRow]) -> str:
    best = ranked[0]
    words = [f"{best.name} with {best.rate:.2f} ({best.successes}/{best.n})."]
    close = sum(1 for row in ranked[1:] if row.behind_95 and row.behind_95.high >= 0)
    if len(ranked) == 2 and close:
        words.append("The other one cannot be told from it on these seeds.")
    elif close:
        words.append(f"{close} of the {len(ranked) - 1} others cannot be told from it on these seeds.")
    elif len(ranked) > 1:
        words.append("It is told from every other one." if len(ranked) > 2 else "The other one is worse.")
    if failed:
        words.append(f"{_count(len(failed), 'trial')} failed.")
    return " ".join(words)


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
    runaway = [curve.trial for curve in curves if any(loss > high for _, loss in (*curve.train, *curve.valid))]
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
            canvas.path(_dots(curve.valid or curve.train, x, y, 60), "l thin s6")
        for k, curve in reversed(list(enumerate(bright))):
            _draw_curve(canvas, curve, k, x, y)
        for row, names in enumerate(legend):
            for at, k, label in names:
                canvas.line(at, 10 + 22 * row, at + 26, 10 + 22 * row, f"l s{k}", DASHES[k])
                canvas.marker(at + 13, 10 + 22 * row, k, f"s{k}", 3.5)
                canvas.text(at + 32, 14 + 22 * row, label)
        return canvas.svg(f"{name}-{width}", question, answer)

    both = any(curve.valid for curve in curves)
    notes = ["Line with marks: validation. Faint line: training."] if both else ["Training loss only: no validation split."]
    if grey:
        notes.append(f"{len(grey)} more trials in grey.")
    if runaway:
        notes.append(f"Beyond the top: {', '.join(runaway[:MOST_CURVES])}.")
    rows = [
        (curve.trial, split, step, loss)
        for curve in curves
        for split, points in (("train", _thin(curve.train, 300)), ("valid", _thin(curve.valid, 300)))
        for step, loss in points
    ]
    source = _source(inputs, "dataset", "training_seed", "code")
    return _figure(name, question, answer, source, draw, ("trial", "split", "step", "loss"), rows, tuple(notes))


def _draw_curve(canvas: Canvas, curve: Curve, k: int, x: Scale, y: Scale) -> None:
    faint = "faint " if curve.valid else ""
    canvas.path(_dots(curve.train, x, y, 160), f"l {faint}s{k}", "" if curve.valid else DASHES[k])
    points = _dots(curve.valid, x, y, 60)
    canvas.path(points, f"l s{k}", DASHES[k])
    marked = points or _dots(curve.train, x, y, 160)
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


def data_sane(inputs: ReportInputs) -> Figure:
    """Histogram of episode lengths, with the findings of the checks as notes."""
    name, question = "data", "Is the data sane?"
    data = inputs.data
    if data is None or not data.episode_lengths:
        return Figure(name, question, "No dataset was converted.")
    lengths = data.episode_lengths
    found = "; the checks found nothing" if not data.findings else f"; {_count(len(data.findings), 'finding')}"
    span = f"{min(lengths)} to {max(lengths)} steps long" if min(lengths) < max(lengths) else f"all {lengths[0]} steps long"
    answer = f"{_count(len(lengths), 'episode')}, {data.num_frames:,} frames, {span}{found}."
    first, width_steps, counts = _bins(lengths)

    def draw(width: int) -> str:
        canvas, left, right, bottom = Canvas(width, 196), 40, width - 12, 156
        x = Scale(first, first + width_steps * len(counts), left, right)
        y = Scale(0, max(counts), bottom, 22)
        canvas.y_axis(y, left, right, 3)
        for k, count in enumerate(counts):
            start = first + width_steps * k
            hint = f"{start} to {start + width_steps - 1} steps: {_count(count, 'episode')}"
            canvas.rect(x(start) + 0.5, y(count), x(start + width_steps) - x(start) - 1, bottom - y(count), "bar s0", hint)
        canvas.x_axis(x, bottom, bottom, 5, "steps in an episode")
        canvas.text(0, 10, "episodes", "t u")
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [(first + width_steps * k, first + width_steps * (k + 1) - 1, count) for k, count in enumerate(counts)]
    source = _source(inputs, "dataset", "episodes")
    return _figure(name, question, answer, source, draw, ("from_steps", "to_steps", "episodes"), rows, data.findings)


def action_spread(inputs: ReportInputs) -> Figure:
    """One row per action dimension: its histogram, or its range where nothing was counted."""
    name, question = "actions", "What do actions look like?"
    dims = inputs.data.actions if inputs.data else ()
    if not dims:
        return Figure(name, question, "No statistics of actions were computed.")
    flagged = [dim for dim in dims if dim.flag]
    shown = ([*flagged, *(dim for dim in dims if not dim.flag)] if len(dims) > MOST_ROWS else list(dims))[:MOST_ROWS]
    answer = f"{_count(len(dims), 'dimension')}, from {short(min(d.low for d in dims))} to {short(max(d.high for d in dims))}."
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
    source = _source(inputs, "dataset")
    return _figure(name, question, answer, source, draw, header, rows, tuple(notes))


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
        for k, count in enumerate(dim.counts):
            height = 22 * count / tallest
            canvas.rect(x.start + k * step, base - height, step * 0.92, height, "bar s0")
    canvas.line(x.start, base, x.end, base, "a")
    canvas.line(x(dim.q01), base + 3, x(dim.q99), base + 3, "w s0")
    canvas.marker(x(dim.mean), base + 3, 3, "s1", 3)


def gpu_fed(inputs: ReportInputs) -> Figure:
    """Share of each training step spent waiting for data."""
    name, question = "fed", "Was the GPU fed?"
    if not inputs.feeds:
        return Figure(name, question, "No trial measured where the time of a training step went.")
    order = {row.name: k for k, row in enumerate(inputs.leaderboard)}
    feeds = sorted(inputs.feeds, key=lambda feed: order.get(feed.trial, len(order)))
    worst = max(feeds, key=lambda feed: feed.wait_share)
    where = "" if any(feed.device != "cpu" for feed in feeds) else " (trained on the CPU)"
    fed = "Yes" if worst.wait_share <= SLOW_FEED else "No"
    answer = f"{fed}: at most {100 * worst.wait_share:.1f}% of a training step was spent waiting for data{where}."
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
            canvas.text(width, y + 9, f"{100 * feed.wait_share:.1f}%", "t s", "end")
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [(feed.trial, feed.device, feed.wait_s, feed.compute_s, feed.wait_share) for feed in feeds]
    header = ("trial", "device", "wait_s_per_step", "compute_s_per_step", "wait_share")
    notes = ["Dark: waiting for data. Pale: computing."]
    if worst.wait_share > SLOW_FEED:
        notes.append("Above 30%: give the loader more threads, or write larger shards.")
    return _figure(name, question, answer, _source(inputs, "code", "image"), draw, header, rows, tuple(notes))


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
    gpus = f"{gpu_hours:.2f} GPU-hours" if gpu_hours else "no GPU"
    answer = f"{duration(sum(seconds.values()))} of work, {gpus}; most of it in {max(steps, key=seconds.__getitem__)}."

    def draw(width: int) -> str:
        pitch, left, right = 26, 108, width - 70
        canvas = Canvas(width, pitch * len(steps) + 8)
        x = Scale(0, max(seconds.values()) or 1, left, right)
        for row, step in enumerate(steps):
            y = pitch * row + 6
            many = f" x {len(per_step[step])}" if len(per_step[step]) > 1 else ""
            canvas.text(0, y + 12, clip_text(step + many, left - 6), "t s")
            _draw_parts(canvas, x, y, per_step[step])
            canvas.text(x(seconds[step]) + 6, y + 12, duration(seconds[step]))
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [(t.step, t.trial, t.seconds, t.gpus, t.gpu_hours) for step in steps for t in per_step[step]]
    notes = ("Each block is one trial; trials may have run side by side.",) if any(t.trial for t in timings) else ()
    header = ("step", "trial", "seconds", "gpus", "gpu_hours")
    return _figure(name, question, answer, _source(inputs, "code", "image"), draw, header, rows, notes)


def _draw_parts(canvas: Canvas, x: Scale, y: float, parts: Sequence[Timing]) -> None:
    at = 0.0
    for part in parts:
        width = x(at + part.seconds) - x(at)
        hint = f"{part.step} {part.trial}: {duration(part.seconds)}".replace(" :", ":")
        canvas.rect(x(at), y, max(1.0, width - (1 if width > 4 else 0)), 16, "bar s0", hint)
        at += part.seconds


def duration(seconds: float) -> str:
    """A time as people say it: 0.4 s, 12 s, 2 min 05 s, 3 h 20 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _figure(
    name: str,
    question: str,
    answer: str,
    source: str,
    draw: Callable[[int], str],
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    notes: tuple[str, ...] = (),
) -> Figure:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([header, *rows])
    return Figure(name, question, answer, source, draw(PHONE_PX), draw(DESK_PX), table.getvalue(), notes)


def _source(inputs: ReportInputs, *fields: str) -> str:
    """``dataset 3f9a..., code 12ab...``: where the numbers of a figure come from."""
    named = ((field.replace("_", " "), getattr(inputs.provenance, field)) for field in fields)
    return ", ".join(f"{name} {value}" for name, value in named if value)


def _confirmed_on(inputs: ReportInputs) -> str:
    return _source(inputs, "confirmation_seeds", "policy", "code")


def _selected_on(inputs: ReportInputs) -> str:
    return _source(inputs, "selection_seeds", "dataset", "code")


def _in_board_order(inputs: ReportInputs) -> list[Curve]:
    order = {row.name: k for k, row in enumerate(inputs.leaderboard)}
    finite = [Curve(curve.trial, _finite(curve.train), _finite(curve.valid)) for curve in inputs.curves]
    drawn = [curve for curve in finite if curve.train or curve.valid]
    return sorted(drawn, key=lambda curve: order.get(curve.trial, len(order)))


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
    """Points in px; a curve that leaves the frame ends there."""
    inside = [point for point in points if y.low <= point[1] <= y.high]
    return [(x(step), y(loss)) for step, loss in _thin(inside, most)]


def _thin(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most ``most`` points, evenly picked, the last one kept."""
    every = -(-len(points) // most) if points else 1
    picked = list(points[::every])
    if points and picked[-1] != points[-1]:
        picked.append(points[-1])
    return picked


def _bins(lengths: Sequence[int]) -> tuple[int, int, list[int]]:
    """First edge, width in steps and counts of a histogram of whole numbers, at most about 24 bars."""
    low, high = min(lengths), max(lengths)
    width = max(1, -(-(high - low + 1) // 24))
    first = low - low % width
    seen = Counter((length - first) // width for length in lengths)
    return first, width, [seen[k] for k in range((high - first) // width + 1)]


def _place(step: str) -> int:
    return STEP_ORDER.index(step) if step in STEP_ORDER else len(STEP_ORDER)


def _points(low: float, high: float) -> str:
    return f"{100 * low:+.0f} to {100 * high:+.0f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _all_of(number: int) -> str:
    return "the only trial" if number == 1 else f"all {number} trials"


def _blank(value: float | None) -> float | str:
    return "" if value is None else value
