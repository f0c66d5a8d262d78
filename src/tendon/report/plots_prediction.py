"""Does validation loss predict success? Every checkpoint and trial that has both; drawn where there are two or more."""

from __future__ import annotations

from collections.abc import Sequence

from tendon.evaluate.rank_correlation import RankCorrelation, rank_correlation
from tendon.report.figure import Figure, Table, drawn, origin
from tendon.report.prediction import Predicted
from tendon.report.summary import ReportInputs
from tendon.report.svg import Canvas, Scale

SHAPES = {"end": (0, "s0"), "rung": (3, "s1"), "training": (5, "s6")}
CLEAR = 0.05  # p below which an order is not chance


def loss_and_success(inputs: ReportInputs) -> tuple[Figure, ...]:
    """The figure; none for a run of one policy, of which nothing can be ordered."""
    points = inputs.predictions
    if len(points) < 2:
        return ()
    name, question = "predicts", "Does validation loss predict success?"
    kinds = [
        ("validation loss", [point for point in points if point.loss is not None]),
        ("open-loop action error", [point for point in points if point.action_error is not None]),
    ]
    found = {words: correlation(shown, words) for words, shown in kinds if len(shown) > 1}
    answer = " ".join(_sentence(words, one) for words, one in found.items())

    def draw(width: int) -> str:
        canvas, left, right = Canvas(width, 250 * len(found)), 44, width - 12
        for place, words in enumerate(found):
            top, bottom = 250 * place + 12, 250 * place + 200
            shown = dict(kinds)[words]
            values = [_value(point, words) for point in shown]
            low, high = min(values), max(values)
            room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
            x, y = Scale(low - room, high + room, left, right), Scale(0, 1, bottom, top)
            canvas.y_axis(y, left, right, 4)
            canvas.x_axis(x, bottom, bottom, 4, f"{words}; upwards: success rate")
            for point, value in zip(shown, values, strict=True):
                shape, kind = SHAPES[point.where]
                hint = f"{point.trial}, step {point.step}: {words} {value:.4g}, success {point.rate:.2f} of {point.n}"
                canvas.marker(x(value), y(point.rate), shape, kind, 4, hint)
        return canvas.svg(f"{name}-{width}", question, answer)

    header = ("trial", "step", "valid_loss", "action_l1", "success_rate", "n", "where")
    rows = [(p.trial, p.step, _blank(p.loss), _blank(p.action_error), p.rate, p.n, p.where) for p in points]
    marks = {
        "end": "disc: end of a trial",
        "rung": "diamond: rung of a sweep",
        "training": "ring: rollouts in training",
    }
    notes = [
        "; ".join(marks[where] for where in marks if any(point.where == where for point in points)) + ".",
        "Spearman's rank correlation; interval: bootstrap over trials (over points, of fewer than 5 trials); p: permutations.",
    ]
    where = origin(inputs, "selection_seeds", "dataset", "code")
    return (drawn(name, question, answer, where, draw, Table(header, rows), notes),)


def correlation(points: Sequence[Predicted], words: str) -> RankCorrelation:
    """Of one of the two numbers with the success rate; a good one is near -1."""
    values = [_value(point, words) for point in points]
    return rank_correlation(values, [point.rate for point in points], [point.trial for point in points])


def _value(point: Predicted, words: str) -> float:
    value = point.loss if words == "validation loss" else point.action_error
    assert value is not None
    return value


def _sentence(words: str, found: RankCorrelation) -> str:
    said = f"{words[:1].upper()}{words[1:]}"
    if found.rho is None:
        return f"{said}: {found.points} policies are too few, or too alike, to say."
    if found.p > CLEAR:
        return f"{said}: it cannot be told; {found}."
    return f"{said}: {'yes, less is better' if found.rho < 0 else 'no, less is worse'}; {found}."


def _blank(value: float | None) -> float | str:
    return "" if value is None else value
