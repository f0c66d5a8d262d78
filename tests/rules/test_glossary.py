"""docs/glossary.md names files and symbols that exist, and no word twice."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
FOLDERS = ("components/", "docs/", "pipelines/", "tests/")  # paths that do not begin in the package


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table, without head and rule."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and not set(line) <= set("|-") and cells[0] != "word":
            yield cells


def references(cell: str) -> Iterator[tuple[str, list[str]]]:
    """Path and symbols of each reference, such as ``loader/loader.py: Loader``."""
    for reference in re.findall(r"`([^`]+)`", cell):
        path, _, symbols = reference.partition(": ")
        yield path, [symbol for symbol in symbols.split(", ") if symbol]


def symbols_of(source: str) -> set[str]:
    """What a file defines: classes, functions and constants at its top, and ``Class.member``."""
    tree = ast.parse(source)
    defined = set(_defined(tree.body))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            defined |= {f"{node.name}.{name}" for name in _defined(node.body)}
    return defined


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (name for target in targets for name in ast.walk(target)):
                if isinstance(name, ast.Name):
                    yield name.id


def missing(text: str) -> list[str]:
    """References of a glossary to files or symbols that do not exist."""
    wrong = []
    for word, _, *where in rows(text):
        for path, symbols in references(where[0] if where else ""):
            file = ROOT / path if path.startswith(FOLDERS) else ROOT / "src" / "tendon" / path
            if not file.is_file():
                wrong.append(f"{word}: there is no file {path}")
                continue
            defined = symbols_of(file.read_text()) if symbols else set()
            wrong += [f"{word}: {path} defines no {symbol}" for symbol in symbols if symbol not in defined]
    return wrong


def test_every_file_and_symbol_exists() -> None:
    assert not missing(GLOSSARY.read_text())


def test_every_word_has_one_meaning() -> None:
    words = [cells[0] for cells in rows(GLOSSARY.read_text())]
    assert len(words) > 80
    assert sorted(words) == sorted(set(words))
    assert all(len(cells) >= 2 and cells[1] for cells in rows(GLOSSARY.read_text()))


def test_what_does_not_exist_is_named() -> None:
    head = "| word | meaning | where |\n|---|---|---|\n"
    assert missing(head + "| attic | gone | `loader/attic.py: Attic` |") == ["attic: there is no file loader/attic.py"]
    assert missing(head + "| attic | gone | `loader/unit_cache.py: Attic, UnitCache, CachedUnit.pins` |") == [
        "attic: loader/unit_cache.py defines no Attic"
    ]
