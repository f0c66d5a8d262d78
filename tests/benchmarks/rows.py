"""One form for every long check: a row measures one thing, says its bound, and whether it holds.

A row is a function registered with ``@row``; it returns the value, or raises Skip with the reason.
``python -m tests.benchmarks bench|parity|faults|results [id ...]`` prints the table and writes build/<suite>.json,
a list of {id, what, value, bound, holds}.
"""

from __future__ import annotations

import importlib
import json
import math
import operator
import pkgutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BUILD = Path("build")
FURTHEST = 5
RELATIONS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "==": operator.eq}


class Skip(Exception):
    """The row cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``bound`` reads like "<= 0.3 s" or ">= 150 x"; the unit is that of the value."""

    id: str
    what: str
    bound: str
    measure: Callable[[], float]

    def holds(self, value: float) -> bool:
        """Whether the value keeps the bound."""
        relation, limit = self.bound.split()[:2]
        return RELATIONS[relation](value, float(limit))

    def behind(self, value: float) -> float:
        """How many times the value is worse than the bound; below 1 where it is better."""
        relation, limit = self.bound.split()[0], float(self.bound.split()[1])
        if relation == "==":
            return 1.0 if value == limit else math.inf
        worse, better = (value, limit) if relation in ("<=", "<") else (limit, value)
        return worse / better if better > 0 else (1.0 if worse <= better else math.inf)


SUITES: dict[str, list[Row]] = {"bench": [], "parity": [], "faults": [], "results": []}


def row(suite: str, id: str, what: str, bound: str) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Register a measurement."""

    def register(measure: Callable[[], float]) -> Callable[[], float]:
        if any(known.id == id for known in SUITES[suite]):
            raise ValueError(f"{suite} has two rows called {id}")
        SUITES[suite].append(Row(id, what, bound, measure))
        return measure

    return register


def run_suite(suite: str, chosen: list[str]) -> int:
    """Measure the chosen rows (all when none is named; a prefix chooses too); 0 when every measured bound holds."""
    rows = [r for r in SUITES[suite] if not chosen or any(r.id.startswith(name) for name in chosen)]
    if not rows:
        print(f"no row of {suite} starts with {' '.join(chosen)}; known: {' '.join(r.id for r in SUITES[suite])}")
        return 2
    results: list[dict[str, object]] = []
    BUILD.mkdir(exist_ok=True)
    written = BUILD / f"{suite}.json"
    print(f"{'id':<28} {'value':>12}  {'bound':<14} {'holds':<6} what")
    for r in rows:
        started = time.monotonic()
        result: dict[str, object] = {"id": r.id, "what": r.what, "value": None, "bound": r.bound, "holds": None}
        try:
            value = float(r.measure())
            result |= {"value": value, "holds": r.holds(value)}
        except Skip as reason:
            result["skipped"] = str(reason)
        except Exception as error:
            traceback.print_exc()
            result |= {"holds": False, "error": f"{type(error).__name__}: {error}"}
        result["seconds"] = round(time.monotonic() - started, 1)
        results.append(result)
        shown = "-" if result["value"] is None else f"{result['value']:.4g}"
        word = {True: "yes", False: "NO", None: "skip"}[result["holds"]]  # type: ignore[index]
        print(f"{r.id:<28} {shown:>12}  {r.bound:<14} {word:<6} {r.what} {result.get('skipped', '')}", flush=True)
        written.write_text(json.dumps(results, indent=1) + "\n")  # whoever stops here keeps what was measured
    if suite == "bench":
        _show_furthest([(r, result["value"]) for r, result in zip(rows, results, strict=True)])
    print(f"written: {written}")
    return 1 if any(result["holds"] is False for result in results) else 0


def _show_furthest(measured: list[tuple[Row, object]]) -> None:
    """Print the rows that are furthest behind their bounds: where there is most to win."""
    behind = sorted(
        ((r.behind(value), r) for r, value in measured if isinstance(value, float)), key=lambda each: -each[0]
    )
    if behind:
        print(f"\nfurthest from their bounds ({FURTHEST} at most; 1 is the bound):")
    for times, r in behind[:FURTHEST]:
        print(f"{r.id:<28} {times:>12.3g}  {r.bound:<14} {r.what}")


def main() -> int:
    """Command line of the suites; every module of this folder is imported, which registers its rows."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "__main__":
            importlib.import_module(f"tests.benchmarks.{module.name}")
    if len(sys.argv) < 2 or sys.argv[1] not in SUITES:
        print(f"usage: python -m tests.benchmarks {'|'.join(SUITES)} [row ...]")
        return 2
    return run_suite(sys.argv[1], sys.argv[2:])
