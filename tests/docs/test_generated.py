"""What is generated is fresh; every verb, flag, key, exit code, variable and error is there once, and nothing that is gone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from docs.builder import DOCS, ROOT, commands, environment, errors, links, policies, snippets
from tendon.cli import parser
from tendon.config.keys import all_keys
from tendon.errors import EXIT_CODES
from tests.rules.test_help_texts import WRONG_ON_PURPOSE, examples, problems


def rows(text: str) -> list[str]:
    """The first cell of every row of a page's tables."""
    return re.findall(r"^\| `?([^|`]+?)`? \|", text, re.MULTILINE)


def once(names: list[str]) -> set[str]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    assert not twice, f"twice: {twice}"
    return set(names)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_verb_and_flag_is_there_once() -> None:
    sections = page("reference/commands.md").split("\n## ")[1:]
    written = once([section.partition("\n")[0] for section in sections])
    assert written == {verb for verb, _, _ in commands.parsers()}
    flags = {section.partition("\n")[0]: once(rows(section)[1:]) for section in sections}
    for verb, found, _ in commands.parsers():
        assert flags[verb] == {one.name for one in commands.flags(verb, found)}, verb
    listed = set(re.findall(r"^    ([a-z][\w-]*)", parser().format_help(), re.MULTILINE))
    assert {f"tendon {verb}" for verb in listed} <= written


def test_every_key_is_there_once() -> None:
    written = once(
        [name for name in rows(page("reference/configuration.md").split("\n## Everything")[1]) if name != "key"]
    )
    assert written == {key for key in all_keys() if not key.startswith("policy.")}
    for name in policies.names():
        text = page(f"policies/{name}.md").split("<!-- keys -->")[1].split("<!-- /keys -->")[0]
        keys = once([key for key in rows(text) if key != "key"])
        assert keys == {key for key in all_keys(name) if key.startswith("policy.")}, name


def test_every_exit_code_is_there_once() -> None:
    assert once(rows(page("reference/exit-codes.md"))[1:]) == {str(code) for code in EXIT_CODES}


def test_every_variable_that_is_read_is_there_once_and_no_other() -> None:
    read = environment.read_variables()
    assert set(read) - set(environment.MEANING) == set(), "docs/builder/environment.py says what it means"
    assert set(environment.MEANING) - set(read) <= set(), "nothing reads it any more"
    written = once([name for name in rows(page("reference/environment.md")) if name != "variable"])
    assert written == set(read)


def test_every_errors_headline_is_there() -> None:
    entries, unread = errors.entries()
    assert len(entries) > 600
    assert {place.rpartition(":")[0] for place in unread} <= set(errors.ELSEWHERE), (
        "docs/builder/errors.py cannot read this headline"
    )
    text = "\n".join(page(f"errors/{name}.md") for name, _, _ in errors.AREAS)
    for headline in (
        "there is no such champion",
        "the dataset has no feature named NAME",
        "the simulator file does not exist",
    ):
        assert f"### {headline}\n" in text
    assert text.count("\n### ") == len(entries)


def test_links_lead_somewhere(tmp_path: Path) -> None:
    assert not links.every_dead()
    wrong = DOCS / "start.md"
    assert links.slug("ACT on `PushT`, twice") == "act-on-pusht-twice"
    assert "one-key" in links.anchors(wrong.read_text())
    assert links.anchors("# A\n\n## B c\n\n## B c\n\n```text\n# no\n```\n") == {"a", "b-c", "b-c_1"}


def test_every_snippet_is_marked_and_counted() -> None:
    every = snippets.every()
    assert len(every) > 40
    assert not [problem for one in every if (problem := one.problem())]
    assert snippets.counts() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_snippet_without_a_mark_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(snippets, "DOCS", tmp_path)
    file = tmp_path / "a.md"
    file.write_text(
        "```console\n$ tendon\n```\n\n<!-- not run: a GPU -->\n```python\nx\n```\n\n<!-- runs: tests/none.py -->\n```sh\ny\n```\n"
    )
    first, second, third = snippets.snippets(file)
    assert "has no mark" in first.problem()
    assert (second.problem(), second.state) == ("", "not run")
    assert "there is no tests/none.py" in third.problem()


@pytest.mark.parametrize("path", snippets.pages(), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_every_key_and_value_of_a_page_is_one_we_take(path: Path) -> None:
    theirs = ("from-lerobot.md", "errors/", "reference/commands.md")  # LeRobot's own keys; names that stand for values
    if path.relative_to(DOCS).as_posix().startswith(theirs):
        pytest.skip("its keys are another system's, or placeholders")
    allowed = {*WRONG_ON_PURPOSE, ("training.lrr", "3e-4"), ("training.offline_steps", "{num_steps}")}
    plugins = {("policy", "chunk_mlp"), ("env", "crane"), ("experiment", "crane")}
    wrong = [
        text for key, value in examples(path) if (key, value) not in allowed | plugins for text in problems(key, value)
    ]
    assert not wrong, "\n".join(wrong)
