"""Links between pages: dead ones and dead anchors, without building anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from docs.builder import DOCS, ROOT
from docs.builder.snippets import pages

LINK = re.compile(r"(?<!\!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`[^`\n]*`")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown makes them."""
    made: set[str] = set()
    for line in FENCED.sub("", text).splitlines():
        head = re.match(r"^#{1,6} +(.*?)(?: +\{ ?#([\w-]+) ?\})?$", line)
        if head:
            name = head[2] or slug(head[1])
            number, unique = 1, name
            while unique in made:
                unique, number = f"{name}_{number}", number + 1
            made.add(unique)
    return made | set(re.findall(r'<a id="([\w-]+)"', text))


def slug(heading: str) -> str:
    """The anchor of one heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("\\", "")
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def dead(path: Path, known: dict[Path, set[str]] | None = None) -> Iterator[str]:
    """Links of a page that lead nowhere."""
    text = path.read_text(encoding="utf-8")
    for first, second in LINK.findall(INLINE.sub("", FENCED.sub("", text))):
        target = first or second
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        shown = f"{path.relative_to(ROOT)}: {target}"
        if not file.exists() and not (file.suffix == ".md" and file.with_suffix(".ipynb").exists()):
            yield f"{shown}: there is no such file"
        elif path.is_relative_to(DOCS) and not file.is_relative_to(DOCS):
            yield f"{shown}: it leads out of docs/"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"{shown}: there is no such heading"


def every_dead() -> list[str]:
    """Of the guide and the README."""
    return [one for path in (*pages(), ROOT / "README.md") for one in dead(path)]
