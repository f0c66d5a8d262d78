"""Makes what of the guide is not written by hand, and checks the rest: ``python -m docs.builder`` (``--check`` writes nothing)."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MADE = "<!-- Made by `python -m docs.builder`; do not edit. -->"


def between(text: str, name: str, new: str) -> str:
    """A page with another text between ``<!-- name -->`` and ``<!-- /name -->``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"no {begin} ... {end}")
    return f"{before}{begin}\n{new.strip()}\n{end}{rest.partition(end)[2]}"


def cell(text: object) -> str:
    """A text that may stand in a cell of a table."""
    return str(text).replace("\n", " ").replace("|", "\\|").replace("<", "&lt;").strip()


def code(text: object) -> str:
    """A text as code in a cell of a table."""
    shown = str(text).replace("|", "\\|")
    return f"`{shown}`" if shown else ""
