"""The snippets of the guide and how each is marked: run by a test, run against a fake server, or not run, and why.

A mark is a comment in front of a fence: ``<!-- runs -->`` (tests/docs runs it), ``<!-- runs: tests/x.py -->`` (that test does),
``<!-- fake server: tests/x.py -->``, ``<!-- not run: reason -->``, ``<!-- file: examples/x.py -->`` (the very file, which a
test runs). A fence of ``text`` is output, a picture or a tree, and no snippet.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.builder import DOCS, ROOT

SPOKEN = ("console", "sh", "bash", "python", "yaml", "toml", "json")
MARK = re.compile(r"^<!-- (?P<kind>runs|fake server|not run|file)(?:: (?P<about>.+))? -->$")
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*).*$")
KINDS = {"runs": "runs", "file": "runs", "fake server": "fake server", "not run": "not run"}


@dataclass(frozen=True)
class Snippet:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    kind: str  # of MARK; empty: it is not marked
    about: str

    @property
    def state(self) -> str:
        """runs, fake server, not run; empty where it is not marked."""
        return KINDS.get(self.kind, "")

    def commands(self) -> list[str]:
        """The commands of a console, without what they printed; a backslash joins lines."""
        joined = self.text.replace("\\\n", " ")
        return [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]

    def problem(self) -> str:
        """What is wrong with its mark."""
        place = f"{self.page}:{self.line}"
        if not self.kind:
            return f"{place}: a snippet in {self.language} has no mark"
        if self.kind in ("not run", "fake server") and not self.about:
            return f"{place}: {self.kind}, and no reason or test is named"
        if self.about.startswith("tests/") and not (ROOT / self.about.split()[0].split("::")[0]).exists():
            return f"{place}: there is no {self.about}"
        if self.kind == "file" and (DOCS / self.about).read_text(encoding="utf-8").strip() != self.text.strip():
            return f"{place}: it is not what stands in docs/{self.about}"
        return ""


def pages() -> list[Path]:
    """Every page of the guide."""
    return sorted(path for path in DOCS.rglob("*.md") if "builder" not in path.parts and "examples" not in path.parts)


def snippets(path: Path) -> Iterator[Snippet]:
    """The marked languages of one page, in their order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    mark, number = None, 0
    while number < len(lines):
        line = lines[number]
        fence = FENCE.match(line)
        if fence is None:
            mark = MARK.match(line.strip()) or (mark if not line.strip() else None)
            number += 1
            continue
        end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == "```")
        if fence["language"] in SPOKEN:
            cut = len(fence["indent"])
            text = "\n".join(one[cut:] for one in lines[number + 1 : end]) + "\n"
            kind, about = (mark["kind"], mark["about"] or "") if mark else ("", "")
            yield Snippet(path.relative_to(DOCS).as_posix(), number + 1, fence["language"], text, kind, about)
        mark, number = None, end + 1


def every() -> list[Snippet]:
    """All of the guide."""
    return [one for path in pages() for one in snippets(path)]


def with_files(path: Path) -> str:
    """A page whose blocks of files are what the files hold."""
    text = path.read_text(encoding="utf-8")

    def filled(found: re.Match[str]) -> str:
        return f"{found[1]}{(DOCS / found[2]).read_text(encoding='utf-8').rstrip()}\n```"

    return re.sub(r"(<!-- file: (\S+) -->\n```\w+\n).*?^```", filled, text, flags=re.MULTILINE | re.DOTALL)


def counts() -> str:
    """For the table of what works."""
    found = Counter(one.state for one in every())
    reasons = Counter(one.about for one in every() if one.state == "not run")
    told = "; ".join(f"{reason} ({number})" for reason, number in reasons.most_common())
    total = sum(found.values())
    lines = ["| the guide's snippets | |", "|---|---|", f"| run by a test | {found['runs']} of {total} |"]
    lines += [f"| run against a fake server | {found['fake server']} |", f"| not run | {found['not run']}: {told} |"]
    return "\n".join(lines)
