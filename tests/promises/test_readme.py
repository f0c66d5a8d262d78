"""The README's commands run in its order, and its table of what works is the one that the measured rows make."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import by_hand, works
from tests.promises.conftest import Answer

SHORTER = {  # the same commands with less to compute
    "--episodes 40": "--episodes 4",
    "train experiment=reach_bc": "train experiment=reach_bc training.offline_steps=4 training.save_freq=2 training.valid_freq=2",
    "eval.n_episodes=50": "eval.n_episodes=2 eval.videos=0",
    "/000400": "/000002",
}


def test_by_hand_runs_in_its_order(
    tendon: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tendon run`` is left to tests/chain, and all of it as it stands to ``make faults ROWS=readme``."""
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(by_hand.block("sweep", "yaml"))
    variables: dict[str, str] = {}
    verbs = []
    for command in by_hand.commands():
        line = command.line
        for text, shorter in SHORTER.items():
            line = line.replace(text, shorter)
        assigned = re.fullmatch(r"(\w+)=\$\(echo (\S+)\)", line)
        if assigned:
            (variables[assigned[1]],) = map(str, Path().glob(assigned[2]))
            continue
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words = shlex.split(line)[1:]
        verbs.append(words[0])
        if words[0] == "run" and "--plan" not in words:
            continue
        answer = tendon(*words)
        assert answer.code == 0, f"{line}\n{answer.err}"
        assert command.seconds is not None, f"{line}: the README says no time"
    assert verbs == [
        "demo-data",
        "run",
        "run",
        "convert",
        "stats",
        "train",
        "train",
        "export",
        "evaluate",
        "compare",
        "weights",
    ]


def test_the_first_screen_shows_what_comes_out() -> None:
    first = works.README.read_text().split("\n<!-- dag -->")[0]
    assert len(first.splitlines()) < 40
    picture = re.search(r"!\[[^\]]*\]\(([^)]+)\)", first)
    assert picture is not None
    assert (works.ROOT / picture[1]).is_file()
    for word in (
        "make demo",
        "make test",
        "tendon run ",
        "pipelines/compiled/policy_pipeline.yaml",
        "tendon submit submit ",
    ):
        assert word in first, word


def test_the_table_of_what_works_is_made_of_the_measured_rows() -> None:
    rows, results = works.known_rows(), works.measured()
    assert works.in_readme(works.README.read_text()) == works.table(rows, results), "make works"
    assert works.EVERY_ROW.read_text() == works.every_row(rows, results), "make works"
    assert not set(results) - set(rows), (
        "measured once, and no rows any more: take them out of tests/benchmarks/results"
    )


def test_what_was_not_run_is_unverified(tmp_path: Path) -> None:
    rows = {
        "lerobot-a": ("parity", "values", "== 0"),
        "lerobot-b": ("parity", "values", "== 0"),
        "lerobot-c": ("parity", "values", "== 0"),
        "loader-d": ("bench", "speed", ">= 2 x"),
    }
    build = tmp_path / "build"
    build.mkdir()
    told = [
        {"id": "lerobot-a", "what": "values", "value": 0.0, "bound": "== 0", "holds": True, "seconds": 1},
        {"id": "lerobot-b", "what": "values", "value": 3.0, "bound": "== 0", "holds": False, "seconds": 1},
        {"id": "lerobot-c", "what": "values", "value": None, "bound": "== 0", "holds": None, "skipped": "no peer"},
    ]
    (build / "parity.json").write_text(json.dumps(told))
    assert works.keep(build, tmp_path / "results", "abc1234") == ["lerobot-a", "lerobot-b"]
    results = works.measured(tmp_path / "results")
    made = works.table(rows, results)
    assert "| LeRobot | 1 of 3 | `lerobot-b` | `lerobot-c` |" in made
    assert "| loader | 0 of 1 |  | `loader-d` |" in made
    assert "All 4 rows: 1 holds, 1 missed, 2 unverified." in made
    harder = rows | {"lerobot-a": ("parity", "values", "<= -1")}
    assert works.state_of("lerobot-a", harder["lerobot-a"][2], results) == "unverified", "it was held to another bound"
    assert "| 3 (abc1234) | missed |" in works.every_row(rows, results)
    (build / "parity.json").write_text(json.dumps([told[2], {**told[1], "value": 0.0, "holds": True}]))
    works.keep(build, tmp_path / "results", "def5678")
    assert works.measured(tmp_path / "results")["lerobot-a"]["commit"] == "abc1234", "what is not run again stays"
    assert works.measured(tmp_path / "results")["lerobot-b"]["holds"] is True
