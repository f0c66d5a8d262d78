"""A figure of the report: a question, its answer in words, the drawing at two widths, the numbers as CSV.

plots_*.py make them from ReportInputs, page.py places them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tendon.report.summary import ReportInputs

PHONE_PX, DESK_PX = 328, 460
MOST_ROWS = 24  # of trials, dimensions, ...: the CSV has them all


@dataclass(frozen=True)
class Figure:
    """What page.py needs to know of a plot; without drawings the answer says why there is no data."""

    name: str
    question: str
    answer: str
    source: str = ""
    phone: str = ""
    desk: str = ""
    csv: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The numbers behind a drawing."""

    header: Sequence[str]
    rows: Iterable[Sequence[object]]

    def csv(self) -> str:
        """As comma-separated text."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()


def drawn(
    name: str,
    question: str,
    answer: str,
    source: str,
    draw: Callable[[int], str],
    table: Table,
    notes: Sequence[str] = (),
) -> Figure:
    """A figure with data, drawn for a phone and for a desk."""
    return Figure(name, question, answer, source, draw(PHONE_PX), draw(DESK_PX), table.csv(), tuple(notes))


def origin(inputs: ReportInputs, *fields: str) -> str:
    """``dataset 3f9a..., code 12ab...``: where the numbers of a figure come from."""
    named = ((field.replace("_", " "), getattr(inputs.provenance, field)) for field in fields)
    return ", ".join(f"{name} {value}" for name, value in named if value)


def count(number: int, noun: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def board_place(inputs: ReportInputs) -> dict[str, int]:
    """Trial name to its place on the leaderboard."""
    return {row.name: place for place, row in enumerate(inputs.leaderboard)}
