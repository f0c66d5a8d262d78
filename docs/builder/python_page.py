"""docs/python-reference: the public names, from their signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import tendon
from docs.builder import MADE


def page() -> str:
    """docs/reference/python.md."""
    lines = [
        "# Python API",
        "",
        MADE,
        "",
        f"`import tendon` costs nothing; these names are loaded when they are used: {', '.join(f'`{name}`' for name in public())}.",
    ]
    lines += ["The [Python page](../python.md) shows them at work."]
    for name in public():
        lines += ["", f"## {name}", "", *_of(name, getattr(tendon, name))]
    return "\n".join(lines) + "\n"


def public() -> list[str]:
    """What the package offers; functions first."""
    names = [name for name in tendon.__all__ if not name.startswith("__")]
    return sorted(names, key=lambda name: (inspect.isclass(getattr(tendon, name)), name))


def _of(name: str, thing: Any) -> list[str]:
    lines = []
    if inspect.isclass(thing):
        lines += [*_text(thing.__doc__ or "")]
        if issubclass(thing, Exception):
            return lines
        for method, value in vars(thing).items():
            if not method.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                lines += [
                    "",
                    f"### {name}.{method}",
                    "",
                    *_signature(f"{name}.{method}", value),
                    *_text(value.__doc__ or ""),
                ]
        return lines
    return [*_signature(f"tendon.{name}", thing), *_text(thing.__doc__ or "")]


def _signature(name: str, thing: Any) -> list[str]:
    if isinstance(thing, property):
        return []
    shown = re.sub(
        r"\b(numpy\.|collections\.abc\.|typing\.)",
        "",
        re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(thing))),
    )
    return ["```python-signature", f"{name}{shown.replace('(self, ', '(').replace('(self)', '()')}", "```", ""]


def _text(doc: str) -> list[str]:
    """A Google docstring as Markdown."""
    lines: list[str] = []
    section = ""
    for line in inspect.cleandoc(doc).splitlines():
        head = re.fullmatch(r"(Args|Returns|Raises|Example):(.*)", line)
        if head:
            section = head[1]
            lines += ["", f"**{section}**" + (f": {head[2].strip()}" if head[2].strip() else ""), ""]
        elif section in ("Args", "Raises") and (item := re.fullmatch(r"    (\w+): (.*)", line)):
            lines.append(f"- `{item[1]}`: {item[2]}")
        elif section == "Example" and line.strip() == "::":
            continue
        elif section in ("Args", "Raises", "Returns"):
            lines.append(f"  {line.strip()}" if line.strip() and section != "Returns" else line.strip())
        elif section == "Example" and line.strip():
            lines.append(f"    {line.strip() if not line.startswith('            ') else '    ' + line.strip()}")
        else:
            lines.append(line.replace("``", "`"))
    return [line.replace("``", "`") for line in lines]
