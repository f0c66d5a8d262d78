"""Every ``key=value`` that a help text, an error, a comment of the tree or a page of documentation shows is one we take.

Docstrings and comments of Python count too. A value that is a placeholder (TEXT, N, <value>, a braced expression) is not
judged, its key is; a whole value must be one that the key takes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tendon.config.keys import hint_of, is_section
from tendon.config.overrides import parse_overrides
from tendon.config.places import Places
from tendon.config.schema import TrainConfig
from tendon.config.tree import search_path
from tendon.config.typed import ValueReader

ROOT = Path(__file__).parents[2]
TEXTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("src/**/*.md"),
        *ROOT.glob("pipelines/*.md"),
        *ROOT.glob("docker/*.md"),
        *ROOT.glob("k8s/**/*.md"),
    ]
)
THEIRS = ("page.py", "today.py")  # of lerobot/: they show LeRobot's keys, which tests/lerobot types
CODE = sorted([*ROOT.glob("src/tendon/**/*.py"), *ROOT.glob("pipelines/*.py"), *ROOT.glob("docker/*.py")])
TREE = sorted(ROOT.glob("src/tendon/conf/**/*.yaml"))
SECTIONS = [one.name for one in fields(TrainConfig) if is_section(hint_of(one.name))]
GROUPS = search_path(None).groups()
HOLE = "\0"  # what a braced expression of an f-string puts there
VALUE = r"\[[^\]]*\]|\{(?:[^{}]|\{[^{}]*\})*\}|'[^']*'|[^\s`'\",;:()|]*"
DOTTED = re.compile(rf"(?<![\w./-])((?:{'|'.join(SECTIONS)})(?:\.\w+)+)=({VALUE})")
CHOICE = re.compile(rf"(?<![\w./-])({'|'.join(GROUPS)})=([a-z]\w*)(?![\w.(\[])")
WRONG_ON_PURPOSE = {("training.offline_stepz", "5")}  # the README shows what the answer to a mistake looks like
PLACEHOLDER = re.compile(rf"^$|{HOLE}|<|>|\.\.\.|^[A-Z_]+$|\$|://")


def texts_of(path: Path) -> Iterator[str]:
    """The strings of a Python file with holes for their expressions, or a text as it is."""
    if path.suffix != ".py":
        yield path.read_text()
        return
    tree = ast.parse(path.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def examples(path: Path) -> list[tuple[str, str]]:
    """Keys and values that a file shows."""
    found = [pair for text in texts_of(path) for rule in (DOTTED, CHOICE) for pair in rule.findall(text)]
    return list(dict.fromkeys((key, value.rstrip(".,")) for key, value in found))


def problems(key: str, value: str) -> list[str]:
    """What is wrong with an example."""
    if key in GROUPS:
        return [] if value in GROUPS[key] or value == "null" else [f"{key}={value}: there is no such option"]
    if hint_of(key) is None:
        return [f"{key}={value}: there is no such key"]
    if PLACEHOLDER.search(value):
        return []
    changes, wrong = parse_overrides([f"{key}={value}"])
    reader = ValueReader(Places("example"))
    for change in changes:
        reader.value(hint_of(key), change.value, key)
    return [one.what for one in (*wrong, *reader.problems)]


@pytest.mark.parametrize(
    "path",
    [*(path for path in CODE if path.parent.name != "lerobot" or path.name not in THEIRS), *TREE, *TEXTS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_example_is_one_we_take(path: Path) -> None:
    wrong = [
        problem
        for key, value in examples(path)
        if (key, value) not in WRONG_ON_PURPOSE
        for problem in problems(key, value)
    ]
    assert not wrong, "\n".join(wrong)


def test_examples_are_found_and_wrong_ones_are_seen() -> None:
    count = sum(len(examples(path)) for path in (*CODE, *TREE, *TEXTS))
    assert count > 80
    assert problems("env.horizon", "200")
    assert problems("training.optimizer", "sgd")
    assert problems("policy.num_modes", "[5]")
    assert problems("env", "lifft")
    assert not problems("policy.num_modes", "5")
    assert not problems("policy.context_length", "5")
    assert not problems("training.lr", "1e-3")
