"""``make faults``, planted defects: recall at both severities, and clean episodes that are named."""

from __future__ import annotations

from functools import cache

from tests.benchmarks.planted.defects import DEFECTS
from tests.benchmarks.planted.measure import Outcome, measure
from tests.benchmarks.rows import row

SEEDS = (11, 12)


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Every kind at both severities, with every seed."""
    measured = tuple(measure(defect, strong, seed) for defect in DEFECTS for strong in (True, False) for seed in SEEDS)
    for defect in DEFECTS:
        print(
            f"{defect.name:<22} strong {recall(measured, defect.name, True):.2f}  weak {recall(measured, defect.name, False):.2f}"
        )
    return measured


def recall(measured: tuple[Outcome, ...], name: str, strong: bool) -> float:
    """Share of the planted episodes of a kind that are found."""
    of_kind = [each for each in measured if (each.name, each.strong) == (name, strong)]
    return sum(each.found for each in of_kind) / sum(each.planted for each in of_kind)


@row(
    "faults",
    "planted-strong",
    f"lowest recall of {len(DEFECTS)} kinds of planted defects at strong severity",
    ">= 0.95",
)
def strong() -> float:
    """The worst kind counts."""
    return min(recall(outcomes(), defect.name, True) for defect in DEFECTS)


@row("faults", "planted-weak", f"lowest recall of {len(DEFECTS)} kinds of planted defects at weak severity", ">= 0.7")
def weak() -> float:
    """The worst kind counts."""
    return min(recall(outcomes(), defect.name, False) for defect in DEFECTS)


@row("faults", "planted-false", "share of clean episodes that any finding names, over all those sets", "<= 0.02")
def false_alarms() -> float:
    """Of all sets together."""
    return sum(each.named for each in outcomes()) / sum(each.clean for each in outcomes())


@row("faults", "planted-seconds", "CPU seconds to look at 1,000 low-dimensional episodes", "<= 60 s")
def seconds() -> float:
    """One set of that size."""
    action_shift = next(each for each in DEFECTS if each.name == "action_shift")
    return measure(action_shift, True, 3, episodes=1000).seconds
