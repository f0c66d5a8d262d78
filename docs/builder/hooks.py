"""mkdocs: the mark of a snippet becomes a line that a reader sees, and signatures are Python."""

from __future__ import annotations

import re
from typing import Any

MARK = re.compile(r"^<!-- (runs|file|fake server|not run)(?:: (.+?))? -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **given: Any) -> str:
    """The words behind each mark."""
    return MARK.sub(_shown, markdown).replace("```python-signature", "```python")


def _shown(mark: re.Match[str]) -> str:
    kind, about = mark[1], mark[2] or ""
    words = {
        "runs": "a test runs this",
        "file": f"docs/{about}: a test runs this",
        "fake server": "a test runs this against a fake server",
        "not run": f"not run by a test: {about}",
    }[kind]
    return f"<small>{words}</small>\n"
