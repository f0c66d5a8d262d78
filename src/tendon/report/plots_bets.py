"""The path of a test that looked after every pair: how the bets on better and on worse grew. Drawn only where there was one."""

from __future__ import annotations

from tendon.evaluate.betting import Path
from tendon.report.figure import Figure, Table, drawn, origin
from tendon.report.summary import ReportInputs
from tendon.report.svg import Canvas, Scale

LEAST = 1e-3  # the lowest wealth that is drawn
WORDS = {
    "better": "The bet on the winner reached its bar after {pairs} of at most {budget} pairs.",
    "worse": "The bet on the champion reached its bar after {pairs} of at most {budget} pairs.",
    "budget": "Neither bet could reach its bar any more after {pairs} of at most {budget} pairs.",
    "open": "Neither bet had reached its bar after {pairs} of at most {budget} pairs.",
}


def path_of_bets(inputs: ReportInputs) -> tuple[Figure, ...]:
    """The figure; none when all pairs were looked at once."""
    if not inputs.path or not inputs.path["looks"]:
        return ()
    path = Path.from_dict(inputs.path)
    name, question = "bets", "When could it be told?"
    answer = WORDS[path.decision].format(pairs=path.pairs, budget=path.budget)
    top = 2 * max(1.0, *(min(bar, 1e12) for bar in (path.bar_better, path.bar_worse)))

    def draw(width: int) -> str:
        canvas, left, right, bottom = Canvas(width, 240), 52, width - 12, 196
        x, y = Scale(0, path.budget, left, right), Scale(LEAST, top, bottom, 12, log=True)
        canvas.y_axis(y, left, right, 4)
        canvas.x_axis(x, bottom, bottom, 4, "pairs")
        for bar, words, kind, values in (
            (path.bar_better, "winner better", "s0", [(look.pairs, look.better) for look in path.looks]),
            (path.bar_worse, "champion better", "s1", [(look.pairs, look.worse) for look in path.looks]),
        ):
            points = [(x(pairs), y(min(top, max(LEAST, wealth)))) for pairs, wealth in [(0, 1.0), *values]]
            canvas.path(points, f"l {kind}")
            canvas.line(left, y(min(bar, top)), right, y(min(bar, top)), "zero", "3 3")
            canvas.text(points[-1][0] + 4 if points[-1][0] < (left + right) / 2 else left + 4, points[-1][1] - 5, words)
        return canvas.svg(f"{name}-{width}", question, answer)

    rows = [(look.pairs, f"{look.better:.6g}", f"{look.worse:.6g}") for look in path.looks]
    notes = (f"Bars: {path.bar_better:.4g} for better, {path.bar_worse:.4g} for worse; valid at every look.",)
    where = origin(inputs, "confirmation_seeds", "policy", "code")
    return (drawn(name, question, answer, where, draw, Table(("pairs", "better", "worse"), rows), notes),)
