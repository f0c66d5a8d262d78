"""The page around every view: the report's style, one script, a policy that forbids every other host, and what is embedded.

Served, the script asks the small server that it came from; written to a file, all answers and pictures are inside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Protocol

from tendon.answers import plain
from tendon.report.style import CSS

ASSETS = Path(__file__).parent / "assets"
INLINE = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
SERVED = f"{INLINE}; img-src 'self' data:; media-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
IN_A_FILE = f"{INLINE}; img-src data:; media-src data:"


class NothingThere(Exception):  # noqa: N818 - an answer of the server, never seen by a user of the command line
    """A page asked for something that is not there; the text says what."""


@dataclass(frozen=True)
class Reply:
    """What the server answers with."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    location: str = ""
    policy: str = ""  # of the page itself, where it has its own


class View(Protocol):
    """One page and what its script asks for."""

    title: str

    def page(self, trail: Sequence[tuple[str, str]]) -> str:
        """The page; ``trail``: names and addresses of what stands above it."""

    def answer(self, path: str) -> Reply:
        """The answer to a path below the page; NothingThere where there is none."""

    def written(self) -> str:
        """The page with everything inside, for a file."""


@dataclass(frozen=True)
class Embedded:
    """What a page in a file carries: answers by path, and pictures and clips as data URIs."""

    answers: Mapping[str, Any] | None = None
    media: Mapping[str, str] = field(default_factory=dict)


def shell(
    kind: str, title: str, subtitle: str, trail: Sequence[tuple[str, str]] = (), embedded: Embedded | None = None
) -> str:
    """The page of a view of one ``kind``, which view.js knows."""
    content: dict[str, Any] = {"kind": kind, "answers": None, "media": {}}
    if embedded is not None:
        content |= {"answers": embedded.answers, "media": embedded.media}
    policy = SERVED if embedded is None else IN_A_FILE
    links = " / ".join(f'<a href="{escape(href, quote=True)}">{escape(name)}</a>' for name, href in trail)
    above = f'<nav class="trail" aria-label="above">{links}</nav>' if links else ""
    width = "" if kind == "index" else ' class="wide"'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy.replace("; frame-ancestors " + chr(39) + "none" + chr(39), "")}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{CSS}{asset('view.css')}</style></head>\n<body{width}>"
        f"<header><h1><b>{escape(title)}</b></h1><p>{escape(subtitle)}</p></header>\n<main>{above}"
        '<div id="view"><p class="empty">Loading.</p></div></main>\n'
        "<footer><p>Made by Tendon, on this machine; nothing was sent anywhere.</p></footer>\n"
        f'<script type="application/json" id="embedded">{script_json(content)}</script>\n'
        f"<script>{asset('view.js')}</script></body></html>\n"
    )


def asset(name: str) -> str:
    """The text of a file that pages are made of."""
    return (ASSETS / name).read_text(encoding="utf-8")


def script_json(value: Any) -> str:
    """JSON that no HTML parser ends early."""
    text = json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def as_json(value: Any, status: int = 200) -> Reply:
    """An answer of values."""
    return Reply(json.dumps(plain(value), separators=(",", ":")).encode(), status=status)
