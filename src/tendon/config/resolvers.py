"""What a configuration may not do: read the environment, or grow without end.

``${a.b}`` points at another key. ``${name:...}`` calls a resolver, which can read this process's environment and files:
every one is refused, but ``now`` in hydra.run.dir, which Hydra's own trees have. Called by compose, tree and sweep.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from tendon.errors import Problem

RESOLVER = re.compile(r"\$\{[^}]*?:")
NOW = re.compile(r"\$\{now:[^${}]*\}")
TOO_LARGE = "a file of YAML is too large"
MAX_BYTES = 1 << 20  # of a file of YAML
MAX_DEPTH = 40
MAX_VALUES = 100_000  # with every alias written out


def resolver_problems(tree: Any, where: Callable[[str], str], path: str = "") -> list[Problem]:
    """One problem for each text of the tree (its keys too) that calls a resolver; ``where`` gives the place of a key."""
    if isinstance(tree, Mapping):
        problems = []
        for key, value in tree.items():
            dotted = f"{path}.{key}" if path else str(key)
            problems += _of_text(str(key), dotted, where) + resolver_problems(value, where, dotted)
        return problems
    if isinstance(tree, (list, tuple)):
        return [one for i, value in enumerate(tree) for one in resolver_problems(value, where, f"{path}[{i}]")]
    return _of_text(tree, path, where) if isinstance(tree, str) else []


def _of_text(text: str, path: str, where: Callable[[str], str]) -> list[Problem]:
    if path == "hydra.run.dir":
        text = NOW.sub("", text)
    called = RESOLVER.search(text)
    if called is None:
        return []
    name = called[0][2:-1].rpartition("${")[2].strip()
    why = f"the resolver {name} would be run: a configuration may point at its own keys, not at the environment"
    return [
        Problem(f"{path or 'a value'} calls a resolver", where(path), why, "write the value itself, or ${section.key}")
    ]


def size_problem(text: str, name: str) -> Problem | None:
    """What is wrong with the size of a YAML text, found before any of it is built; syntax errors are left to others."""
    what, fix = TOO_LARGE, "write out what is needed, without aliases of aliases"
    if len(text) > MAX_BYTES:
        return Problem(what, name, f"it has {len(text):,} characters, at most {MAX_BYTES:,} are read", fix)
    sizes: dict[str, int] = {}  # of what each anchor stands for
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            mark = event.start_mark
            place = f"{name}:{mark.line + 1}" if mark is not None else name
            if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                open_nodes.append((event.anchor, total))
                if len(open_nodes) > MAX_DEPTH:
                    return Problem(what, place, f"it is nested more than {MAX_DEPTH} deep", fix)
                total += 1
            elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                anchor, before = open_nodes.pop()
                if anchor:
                    sizes[anchor] = total - before
            elif isinstance(event, yaml.ScalarEvent):
                total += 1
                if event.anchor:
                    sizes[event.anchor] = 1
            elif isinstance(event, yaml.AliasEvent):
                if any(anchor == event.anchor for anchor, _ in open_nodes):
                    return Problem(what, place, f"the alias {event.anchor} is inside of itself", fix)
                total += sizes.get(str(event.anchor), 1)
            if total > MAX_VALUES:
                return Problem(what, place, f"with its aliases written out it has more than {MAX_VALUES:,} values", fix)
    except yaml.YAMLError:
        return None
    return None
