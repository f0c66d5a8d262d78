"""docs/where.md: each job begins in a file that exists and holds the word."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHERE = ROOT / "docs" / "where.md"
ROW = re.compile(r"^\| (?P<job>[^|]+) \| `(?P<path>[^`]+)` \| (?P<word>[^|]+) \|$", re.MULTILINE)


def wrong_rows(text: str, root: Path) -> list[str]:
    """What is not as it says."""
    wrong = []
    for row in ROW.finditer(text):
        file = root / row["path"]
        if not file.is_file():
            wrong.append(f"{row['job']}: there is no {row['path']}")
        elif not re.search(rf"\b{re.escape(row['word'].strip())}\b", file.read_text(encoding="utf-8")):
            wrong.append(f"{row['job']}: {row['path']} does not hold {row['word']}")
    return wrong


def test_every_job_begins_in_a_file_that_holds_the_word() -> None:
    text = WHERE.read_text(encoding="utf-8")
    rows = list(ROW.finditer(text))
    assert len(rows) >= 20
    assert len(rows) == len([line for line in text.splitlines() if line.startswith("| ")]) - 1, "a row that is not read"
    assert len({row["job"] for row in rows}) == len(rows)
    assert len({row["path"] for row in rows}) == len(rows), "one file each"
    assert not wrong_rows(text, ROOT)


def test_a_wrong_row_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class Shelves: ...")
    text = "| one | `a.py` | Shelf |\n| two | `b.py` | x |\n| three | `a.py` | Shelves |\n"
    assert wrong_rows(text, tmp_path) == ["one: a.py does not hold Shelf", "two: there is no b.py"]
