"""How good it is: against the champion, against the other trials, and where episodes end.

ReportInputs come in, Figures go out; called by plots.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from tendon.evaluate.confidence import LeaderboardRow
from tendon.report.figure import MOST_ROWS, Figure, Table, count, drawn, origin
from tendon.report.summary import Ending, ReportInputs
from tendon.report.svg import Canvas, Scale, clip_text, whole


def better_than_champion(inputs: ReportInputs) -> Figure:
    """Both rates, and their difference with its interval."""
    name, question = "champion", "Is it better than the champion?"
    gap = inputs.difference
    if gap is None or len(inputs.rates) < 2:
        why = "There is no champion yet to compare with." if inputs.rates else "No policy was confirmed."
        return Figure(name, question, why)
    low, high = gap.interval_95
    middle, ends = whole(100 * gap.value, signed=True), [whole(100 * end, signed=True) for end in (low, high)]
    points = f"{middle} points, 95% {ends[0]} to {ends[1]}"
    answer = f"Winner minus champion: {points}, on {gap.pairs:,} shared seeds."

    def draw(width: int) -> str:
        canvas, left, right = Canvas(width, 234), 84, width - 14
        floor = min(rate.interval_95.low for rate in inputs.rates)
        x = Scale(int(floor * 4) / 4, 1.0, left, right)
        canvas.x_axis(x, 10, 78, unit="success rate")
        for row, rate in enumerate(inputs.rates[:2]):
            y = 28 + 32 * row
            canvas.text(0, y + 4, rate.label, "t s")
            if rate.value is not None:
                canvas.whisker(x, y, rate.interval_95.low, rate.value, rate.interval_95.high, f"s{row}", row)
        ends = Scale(min(100 * low, -10) * 1.08, max(100 * high, 10) * 1.08, left, right)
        canvas.x_axis(ends, 142, 188, unit="points")
        canvas.line(ends(0), 136, ends(0), 188, "zero")
        canvas.text(0, 169, "difference", "t s")
        canvas.text(ends(0) - 6, 132, "champion better", anchor="end")
        canvas.text(ends(0) + 6, 132, "winner better")
        canvas.whisker(ends, 165, 100 * low, 100 * gap.value, 100 * high, "s2", 3)
        return canvas.svg(f"{name}-{width}", question, answer)

    rows: list[Sequence[object]] = [
        (rate.label, rate.name, rate.value, *rate.interval_95, rate.successes, rate.n, rate.crashed)
        for rate in inputs.rates
    ]
    rows.append(("difference", "", gap.value, low, high, "", gap.pairs, ""))
    header = ("what", "policy", "value", "low_95", "high_95", "successes", "n", "crashed")
    return drawn(name, question, answer, _confirmed_on(inputs), draw, Table(header, rows))


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
    return drawn(name, question, answer, _confirmed_on(inputs), draw, Table(("seed", "status", "steps"), rows))


def _columns(endings: Sequence[Ending], x: Scale) -> dict[int, list[Ending]]:
    """Episodes by column of 8 px."""
    columns: dict[int, list[Ending]] = {}
    for ending in sorted(endings, key=lambda e: (e.steps, e.seed)):
        columns.setdefault(int((x(ending.steps) - x.start) // 8), []).append(ending)
    return columns


def _pile(
    canvas: Canvas, x: Scale, base: float, columns: dict[int, list[Ending]], tallest: int, style: tuple[int, str]
) -> None:
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
        canvas.rect(
            left + 1, base - height, 6, height, f"bar {kind}", f"{len(column)} {column[0].status} at step {steps}"
        )
        if len(column) == max(map(len, columns.values())) and len(column) > 1:
            canvas.text(left + 4, base - height - 3, str(len(column)), anchor="middle")


def _failure_sentence(successes: Sequence[Ending], failures: Sequence[Ending], crashed: Sequence[Ending]) -> str:
    lost = f" {count(len(crashed), 'episode')} crashed and counts as neither." if len(crashed) == 1 else ""
    lost = f" {len(crashed)} episodes crashed and count as neither." if len(crashed) > 1 else lost
    if not failures:
        return f"None of the {len(successes)} finished episodes failed.{lost}"
    limit = max(e.steps for e in (*successes, *failures))
    early = sorted(e.steps for e in failures if e.steps < limit)
    late = len(failures) - len(early)
    head = f"{len(failures)} of {len(successes) + len(failures)} finished episodes failed"
    if late == len(failures):
        return f"{head}, {'all ' if late > 1 else ''}at the last step ({limit}): out of time.{lost}"
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
        return Figure(name, question, "None: every trial failed. The table above says where and why.")
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
         _blank(r.mean_steps), r.letters, _blank(r.configuration_rate), r.failed_step) for r in board
    ]  # fmt: skip
    header = (
        *("rank", "trial", "rate", "low_95", "high_95", "successes", "n", "crashed", "mean_steps"),
        *("group", "configuration_rate", "failed_step"),
    )
    left_out = len(board) - len(shown)
    notes = (f"{left_out} more trials are in the table and in the CSV.",) if left_out else ()
    where = origin(inputs, "selection_seeds", "dataset", "code")
    return drawn(name, question, answer, where, draw, Table(header, rows), notes)


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
        words.append(f"{count(len(failed), 'trial')} failed.")
    return " ".join(words)


def _confirmed_on(inputs: ReportInputs) -> str:
    return origin(inputs, "confirmation_seeds", "policy", "code")


def _blank(value: float | None) -> float | str:
    return "" if value is None else value
