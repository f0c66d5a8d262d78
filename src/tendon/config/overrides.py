"""Overrides as text: Hydra's own grammar reads them, the schema judges their keys.

``key=value`` sets a key, ``group=option`` picks a file; ``+`` and ``~`` only where they mean something: in free
mappings (env.options), and ``~`` for a key that a file has and the schema has not. ``++`` also sets a key that has no
effect beside the others: a translated configuration keeps such values for the way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tendon.config.keys import COMMAND_LINE, hint_of, is_section, nearest_keys, unknown_key
from tendon.config.override_text import quote, shown
from tendon.config.places import Places
from tendon.errors import Problem

_KINDS = {"CHANGE": "set", "FORCE_ADD": "set", "ADD": "add", "DEL": "drop"}


@dataclass(frozen=True)
class Change:
    """One override, read."""

    text: str
    key: str
    value: Any
    kind: Literal["set", "add", "drop"]


def parse_overrides(texts: Sequence[str]) -> tuple[list[Change], list[Problem]]:
    """Every override as a change; those that are no override as problems."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    changes, problems = [], []
    for text in texts:
        try:
            parsed = parser.parse_override(text)
        except HydraException as error:
            problems.append(_unreadable(text, str(error).splitlines()[0], parser))
            continue
        problem = _refused(text, parsed)
        if problem:
            problems.append(problem)
        else:
            kind = _KINDS[parsed.type.name]
            changes.append(Change(text, parsed.key_or_group, parsed.value(), kind))  # type: ignore[arg-type]
    return changes, problems


def _unreadable(text: str, why: str, parser: Any) -> Problem:
    key, equals, value = text.partition("=")
    if text.startswith("-"):
        what, why = f"{text} is not an override", "it looks like a flag"
        return Problem(what, COMMAND_LINE, why, "see --help for the flags of this command")
    if not equals:
        return Problem(f"{text} is not an override", COMMAND_LINE, "an override is KEY=VALUE", f"{text}=<value>")
    quoted = f"{key}={quote(value)}"
    try:
        parser.parse_override(quoted)
    except Exception:
        return Problem(f"{text} cannot be read", COMMAND_LINE, why, "write KEY=VALUE, with KEY like training.lr")
    return Problem(f"{text} cannot be read", COMMAND_LINE, f"{value} has characters that must be quoted", f'"{quoted}"')


def _refused(text: str, parsed: Any) -> Problem | None:
    key = parsed.key_or_group
    bare = text.lstrip("+~")
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        why = "Hydra only composes the configuration here: its own keys have no effect"
        fix = "leave it out; --store-uri says where things are kept"
        return Problem(f"{key} is not a key of tendon", COMMAND_LINE, why, fix)
    if key.startswith("defaults."):
        why = "the file of a group is picked by the bare name of the group"
        return Problem(f"unknown key {key}", COMMAND_LINE, why, bare.removeprefix("defaults."))
    if parsed.package is not None:
        fix = bare.replace(f"@{parsed.package}", "", 1)
        return Problem(f"{text} names a package", COMMAND_LINE, "the files of conf/ know their place", fix)
    if parsed.is_sweep_override():
        why = "one run has one value; several values are a sweep"
        values = bare.partition("=")[2]
        listed = f"[{values}]" if "(" not in values and "[" not in values else "[...]"
        fix = f"a sweep file with {{key: {key}, values: {listed}}}"
        return Problem(f"{text} gives several values", COMMAND_LINE, why, fix)
    return None


def apply(changes: Iterable[Change], tree: dict[str, Any], places: Places, policy: str | None) -> list[Problem]:
    """Set the keys in the tree (changed in place); what the schema does not have is a problem."""
    problems: list[Problem] = []
    for change in changes:
        problems += _apply_one(change, tree, places, policy)
    return problems


def _apply_one(change: Change, tree: dict[str, Any], places: Places, policy: str | None) -> list[Problem]:
    key, hint = change.key, hint_of(change.key, policy)
    free = _is_below_free(key, policy)
    if change.kind == "drop":
        return _drop(change, tree, known=hint is not None and not free)
    if hint is None:
        return [_unknown(change, policy)]
    if change.kind == "add" and not free:
        why = "+ appends a key, and this one is there already"
        return [Problem(f"+{key} cannot be appended", COMMAND_LINE, why, change.text.lstrip("+"))]
    if key == "policy.name":
        near = shown(change.value)
        return [Problem(f"{key} cannot be set", COMMAND_LINE, "a policy comes with its own keys", f"policy={near}")]
    if is_section(hint):
        if not isinstance(change.value, Mapping):
            why = f"{key} is a section of keys, and no group of files has its name"
            return [Problem(f"{key} is {shown(change.value)}", COMMAND_LINE, why, f"{key}.<key>={shown(change.value)}")]
        parts = {f"{key}.{name}": one for name, one in change.value.items()}
        inner = [Change(f"{name}={quote(one)}", name, one, "set") for name, one in parts.items()]
        return apply(inner, tree, places, policy)
    places.put(key, COMMAND_LINE, _set(tree, key.split("."), change.value))
    if not change.text.startswith("++"):
        places.chosen.add(key)
    return []


def _unknown(change: Change, policy: str | None) -> Problem:
    dotted = change.key.replace("/", ".")
    if "/" in change.key and hint_of(dotted, policy) is not None:
        fix = change.text.replace(change.key, dotted, 1)
        return Problem(f"unknown group {change.key}", COMMAND_LINE, "the parts of a key are joined by dots", fix)
    return unknown_key(change.key, COMMAND_LINE, policy, change.text.partition("=")[2])


def _is_below_free(key: str, policy: str | None) -> bool:
    return hint_of(key, policy) is Any


def _drop(change: Change, tree: dict[str, Any], *, known: bool) -> list[Problem]:
    *path, leaf = change.key.split(".")
    section: Any = tree
    for part in path:
        section = section.get(part) if isinstance(section, dict) else None
    if known:
        near = f"{change.key}=<value>"
        return [Problem(f"~{change.key} cannot be removed", COMMAND_LINE, "every key of the schema is needed", near)]
    if not isinstance(section, dict) or leaf not in section:
        near_keys = nearest_keys(change.key, None)
        why = "there is no such key to remove" + (f"; the nearest is {near_keys[0]}" if near_keys else "")
        return [Problem(f"~{change.key} removes nothing", COMMAND_LINE, why, f"leave ~{change.key} out")]
    del section[leaf]
    return []


def _set(tree: dict[str, Any], path: Sequence[str], value: Any) -> Any:
    """Set a key that may lie deeper than the tree does; the value it had."""
    for part in path[:-1]:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    old = tree.get(path[-1])
    tree[path[-1]] = {**old, **value} if isinstance(old, dict) and isinstance(value, Mapping) else value
    return old
