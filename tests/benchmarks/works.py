"""The table of what works, of every row of bench, parity and faults, as it was last measured.

    python -m tests.benchmarks.works          writes the table into README.md and every row into results/README.md
    python -m tests.benchmarks.works keep     takes what make bench, parity and faults left in build/ into results/ first

A row that nobody ran, or that could not be measured where it was run, is unverified. A test holds the README to this.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import BUILD, SUITES

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
README = ROOT / "README.md"
EVERY_ROW = RESULTS / "README.md"
MARKS = ("<!-- works -->", "<!-- /works -->")
AREAS = (  # the first whose pattern an id matches
    ("Python", r"python-"),
    ("robomimic", r"(train-)?robomimic"),
    ("LeRobot", r"(train-)?lerobot|video-|loader-7|vqbet|tdmpc|act|diffusion"),
    ("MineStudio", r"minestudio|loader-6-minestudio|rocket|vizdoom"),
    ("InternManip", r"internmanip|groot|pi0|openpi|gr00t|clip(?!s-)|vla|dp_"),
    ("simulators", r"expert-|rollout-|clips-|sim|metaworld|calvin"),
    ("training", r"train-|checkpoint|weights-|start-"),
    ("datasets", r"data-|convert|\d+-(convert|stats)|million"),
    ("stores", r"s3-|store|\d+-upload"),
    ("loader", r"loader-"),
    ("pipelines and nodes", r"dag-|rerun|nodes|waiters|help"),
    ("everything else", r""),
)


def known_rows() -> dict[str, tuple[str, str, str]]:
    """Of every registered row: its suite, what it measures, its bound."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name not in ("__main__", "works"):
            importlib.import_module(f"tests.benchmarks.{module.name}")
    known = {row.id: (suite, row.what, row.bound) for suite, rows in SUITES.items() for row in rows}
    return dict(sorted(known.items()))  # not in the order in which somebody imported the modules


def measured(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """What the committed files say, by row."""
    found: dict[str, dict[str, Any]] = {}
    for suite in SUITES:
        path = folder / f"{suite}.json"
        if path.is_file():
            found |= json.loads(path.read_text())
    return found


def state_of(id: str, bound: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """``holds``, ``missed``, or ``unverified``: never run, not measurable there, or run against another bound."""
    result = results.get(id)
    if result is None or result["holds"] is None or result["bound"] != bound:
        return "unverified"
    return "holds" if result["holds"] else "missed"


def area_of(id: str) -> str:
    """The part of the project that a row is about."""
    return next(area for area, pattern in AREAS if re.match(pattern, id))


def table(rows: Mapping[str, tuple[str, str, str]], results: Mapping[str, Mapping[str, Any]]) -> str:
    """The README's: one line for each area, its rows by state."""
    lines = ["| | rows that hold | missed | unverified |", "|---|---|---|---|"]
    for area, _ in AREAS:
        mine = {id: state_of(id, bound, results) for id, (_, _, bound) in rows.items() if area_of(id) == area}
        if not mine:
            continue
        cells = [[id for id, state in mine.items() if state == wanted] for wanted in ("holds", "missed", "unverified")]
        lines.append(f"| {area} | {len(cells[0])} of {len(mine)} | {_names(cells[1])} | {_names(cells[2])} |")
    states = [state_of(id, bound, results) for id, (_, _, bound) in rows.items()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("holds", "missed", "unverified"))
    return "\n".join([*lines, "", f"All {len(states)} rows: {counts}."])


def every_row(rows: Mapping[str, tuple[str, str, str]], results: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each row with its value, and which commit it was measured on."""
    lines = ["# Every row, as it was last measured", "", "Made by `make works`; do not edit.", ""]
    lines += ["| row | suite | what | bound | measured | state |", "|---|---|---|---|---|---|"]
    for id, (suite, what, bound) in sorted(rows.items()):
        state, result = state_of(id, bound, results), results.get(id)
        value = ""
        if result is not None and state != "unverified":
            number = "an error" if result["value"] is None else f"{result['value']:.4g}"
            value = f"{number} ({result['commit']})"
        lines.append(f"| `{id}` | {suite} | {what.replace('|', '/')} | {bound} | {value} | {state} |")
    return "\n".join(lines) + "\n"


def keep(build: Path = BUILD, folder: Path = RESULTS, commit: str = "") -> list[str]:
    """Take what was measured into the committed files; the ids of the rows. What was skipped stays as it was."""
    commit = commit or _commit()
    taken: list[str] = []
    for suite in SUITES:
        path, kept = build / f"{suite}.json", folder / f"{suite}.json"
        if not path.is_file():
            continue
        results = json.loads(kept.read_text()) if kept.is_file() else {}
        when = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).date().isoformat()
        for row in json.loads(path.read_text()):
            if row["holds"] is None:
                continue
            fields = {key: row.get(key) for key in ("value", "bound", "holds")}
            results[row["id"]] = fields | {"when": when, "commit": commit}
            taken.append(row["id"])
        folder.mkdir(exist_ok=True)
        kept.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    return taken


def in_readme(text: str) -> str:
    """The table that a README holds."""
    return text.split(MARKS[0])[1].split(MARKS[1])[0].strip()


def with_table(text: str, new: str) -> str:
    """A README with another table."""
    before, _, rest = text.partition(MARKS[0])
    return f"{before}{MARKS[0]}\n{new}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


def _names(ids: list[str]) -> str:
    """Ids in a cell; those with one beginning together, so that a long list can be read."""
    families: dict[str, list[str]] = {}
    for id in ids:
        families.setdefault(id.partition("-")[0], []).append(id)
    many = [
        f"`{name}-*` ({len(of)})" if len(of) > 3 else ", ".join(f"`{id}`" for id in of) for name, of in families.items()
    ]
    return ", ".join(many)


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def main(words: list[str]) -> int:
    """Write both tables."""
    if words == ["keep"]:
        print(f"taken: {' '.join(keep()) or 'nothing'}")
    elif words:
        print(__doc__)
        return 2
    rows, results = known_rows(), measured()
    README.write_text(with_table(README.read_text(), table(rows, results)))
    RESULTS.mkdir(exist_ok=True)
    EVERY_ROW.write_text(every_row(rows, results))
    gone = sorted(set(results) - set(rows))
    if gone:
        print(f"measured once, and no rows any more: {' '.join(gone)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
