"""YAML in and out: reading keeps the line and the comment of every key, writing round-trips under YAML 1.1 and 1.2.

Numbers read as a person means them: 1e-5 is a float (YAML 1.1 alone makes it text), dates stay text. A key given twice
is a problem.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tendon.config.resolvers import size_problem
from tendon.errors import Problem

_FLOAT = re.compile(
    r"""^[-+]?(?: [0-9][0-9_]*\.[0-9_]* (?:[eE][-+]?[0-9]+)?   # 1. 1.5 1.0e-4 1.5e3
                | [0-9][0-9_]* [eE][-+]?[0-9]+                 # 1e-4
                | \.[0-9][0-9_]* (?:[eE][-+]?[0-9]+)?          # .5
                | \.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN) )$""",
    re.VERBOSE,
)
_REPLACED = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_PLAIN = re.compile(r"^[A-Za-z_/][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*$")


@dataclass(frozen=True)
class Mark:
    """Where a key stands and what its comment says."""

    line: int
    comment: str


@dataclass(frozen=True)
class YamlFile:
    """A file as values; ``marks`` holds a Mark per dotted key."""

    path: Path
    tree: Any
    marks: dict[str, Mark]
    problems: tuple[Problem, ...]
    lines: tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader whose floats are YAML 1.2's and whose dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [(tag, regexp) for tag, regexp in resolvers if tag not in _REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_yaml(path: Path, name: str | None = None) -> YamlFile:
    """A YAML file as values with the place of each key; what cannot be read is a problem, not an exception.

    Args:
        path: the file.
        name: how to call it in a message; its path by default.
    """
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
        too_large = size_problem(text, name)
        if too_large is not None:
            return YamlFile(path, {}, {}, (too_large,), ())
        loader = _Loader(text)
        node = loader.get_single_node()
        lines = tuple(text.splitlines())
        walk = _Walk(loader, name, lines)
        tree = walk.value(node, "") if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{name}:{mark.line + 1}" if mark else name
        why = getattr(error, "problem", None) or str(error).splitlines()[0]
        return YamlFile(path, {}, {}, (Problem("this is not YAML", place, why, "mend that line"),), ())
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem("a file cannot be read", name, str(error), "check the path and its permissions")
        return YamlFile(path, {}, {}, (problem,), ())
    return YamlFile(path, tree, walk.marks, tuple(walk.problems), lines)


class _Walk:
    def __init__(self, loader: _Loader, name: str, lines: tuple[str, ...]) -> None:
        self.loader, self.name, self.lines = loader, name, lines
        self.marks: dict[str, Mark] = {}
        self.problems: list[Problem] = []

    def value(self, node: yaml.Node, prefix: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self.loader.construct_object(node, deep=True)
        self.loader.flatten_mapping(node)
        tree: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(self.loader.construct_object(key_node, deep=True))
            full, line = f"{prefix}{key}", key_node.start_mark.line
            if key in tree:
                first = self.marks[full].line
                place, why = f"{self.name}:{line + 1}", f"line {first} has it too"
                self.problems.append(Problem(f"{full} is given twice", place, why, "keep one of them"))
            comment = self.lines[line].partition(" #")[2].strip() if line < len(self.lines) else ""
            self.marks[full] = Mark(line + 1, comment)
            tree[key] = self.value(value_node, f"{full}.")
        return tree


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Plain only when every YAML reads it back as text."""
    word = value.lower() not in ("nan", "inf", "infinity", "y", "n")
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if word and _PLAIN.match(value) else '"')


_Dumper.add_representer(str, _text)
_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)
)


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """Block mappings in the given order, lists on one line, floats that are floats for every reader (1.0e-05)."""
    layout: dict[str, Any] = {"sort_keys": False, "default_flow_style": False, "width": 120, "allow_unicode": True}
    text: str = yaml.dump(dict(tree), Dumper=_Dumper, **layout)
    return text
