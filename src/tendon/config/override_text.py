"""Values as the text of an override and back: quoting that Hydra's grammar reads as the same value, cutting a line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SAFE = re.compile(r"^[A-Za-z_][A-Za-z0-9_./-]*$")
_WORDS = ("null", "true", "false", "nan", "inf")


def is_word(name: object) -> bool:
    """Whether a text can be a key of a mapping inside an override."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z_]\w*", name) is not None and name.lower() not in _WORDS


def quote(value: Any) -> str:
    """A value as the right-hand side of an override that reads back as the same value."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        if _SAFE.match(value) and value.lower() not in _WORDS:
            return value
        return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value) + "'"
    if isinstance(value, Mapping):
        if not all(is_word(name) for name in value):
            raise TypeError("Hydra takes no quotes around the keys of a mapping")
        return "{" + ",".join(f"{name}:{quote(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(quote(one) for one in value) + "]"
    raise TypeError(f"{type(value).__name__} has no text as an override")


def split_overrides(text: str) -> tuple[str, ...]:
    """A line of overrides, cut at the spaces outside of quotes and brackets; quotes stay, since Hydra reads them."""
    parts: list[str] = []
    current, depth, inside, escaped = "", 0, "", False
    for letter in text:
        if letter.isspace() and not inside and depth <= 0:
            parts, current = [*parts, current] if current else parts, ""
            continue
        current += letter
        if inside:
            inside = "" if letter == inside and not escaped else inside
            escaped = letter == "\\" and not escaped
        elif letter in "'\"":
            inside, escaped = letter, False
        else:
            depth += (letter in "[{(") - (letter in "]})")
    return (*parts, current) if current else tuple(parts)


def shown(value: Any) -> str:
    """A value as it would be typed, short enough for a message."""
    if isinstance(value, str):
        text = value if value and value.isprintable() and value == value.strip() else repr(value)
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {shown(one)}" for key, one in value.items()) + "}"
    elif isinstance(value, (list, tuple)):
        text = "[" + ", ".join(shown(one) for one in value) + "]"
    elif value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    else:
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
