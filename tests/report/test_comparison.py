"""Bundles compared through the command's own function; tables are made of coins, bundles of nothing but a configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tendon.config.compose import compose
from tendon.errors import ConfigError
from tendon.evaluate.seeds import confirmation
from tendon.evaluate.table import Evaluation
from tendon.report.comparison import compare_bundles, short_names, split_bundles

RATES = {"a": 0.95, "b": 0.9, "c": 0.3}


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    monkeypatch.setattr("tendon.report.comparison.bundle_digest", lambda uri: uri.split("/")[-2])
    return []


def compared(uris: list[str], asked: list[Any], **changes: Any) -> Any:
    def evaluate(*, bundle_uri: str, config: Any, block: str, run_id: str) -> Evaluation:
        seeds = confirmation(run_id).take(config.eval.n_episodes)
        asked.append((bundle_uri, seeds))
        name = bundle_uri.split("/")[-2]
        won = np.random.default_rng(len(name) + ord(name[0])).random(len(seeds)) < RATES[name[0]]
        rows = tuple({"seed": s, "status": "success" if w else "failure"} for s, w in zip(seeds, won, strict=True))
        counts = {"successes": int(won.sum()), "n": len(seeds), "crashed": 0, "block": block}
        summary = counts | {"policy_digest": name, "seeds": {"first": seeds[0], "count": len(seeds)}}
        return Evaluation(f"tables/{name}", summary, rows, False)

    def config_of(uri: str) -> Any:
        name = uri.split("/")[-2]
        config = compose(["env=reach", "data.uri=x", "eval.n_episodes=150", f"seed={len(name)}"])
        width = (ord(name[0]),)
        config = replace(config, policy=replace(config.policy, hidden_dims=width))
        return replace(config, env=replace(config.env, **changes.get(name, {})))

    return compare_bundles(uris, config_of, evaluate)


def test_three_bundles_share_seeds_and_get_letters(evaluated: list[Any], tmp_path: Path) -> None:
    result = compared([f"s3://b/trials/{name}/bundle" for name in "cab"], evaluated)
    assert len({seeds for _, seeds in evaluated}) == 1
    assert [(one.name, one.letters) for one in result.comparison.standings] == [("a", "a"), ("b", "a"), ("c", "b")]
    assert "a leads, and cannot be told from b" in result.verdict
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["bundles"]["a"] == "s3://b/trials/a/bundle"
    assert "Every pair" in result.html
    assert "http" not in result.html.replace("http-equiv", "")
    again: list[Any] = []
    compared([f"s3://other/trials/{name}/bundle" for name in "abc"], again)
    assert again[0][1] == evaluated[0][1], "neither the order nor the address draws other seeds"


def test_trainings_with_other_seeds_are_one_configuration(evaluated: list[Any]) -> None:
    result = compared([f"s3://b/trials/{name}/bundle" for name in ("a", "aa", "aaa", "c", "cc", "ccc")], evaluated)
    assert [(one.name, one.trainings) for one in result.comparison.standings] == [
        ("a (mean of 3 trainings)", 3),
        ("c (mean of 3 trainings)", 3),
    ]
    assert result.comparison.duels[0].told_apart


def test_two_are_judged_as_the_gate_does(evaluated: list[Any]) -> None:
    result = compared(["s3://b/trials/a/bundle", "s3://b/trials/c/bundle"], evaluated)
    assert result.verdict.startswith("challenger beats champion by")


def test_other_tasks_and_one_alone_are_refused(evaluated: list[Any]) -> None:
    with pytest.raises(ConfigError, match="different tasks"):
        compared(["s3://b/trials/a/bundle", "s3://b/trials/c/bundle"], evaluated, c={"episode_length": 99})
    with pytest.raises(ConfigError, match="nothing to compare"):
        compared(["s3://b/trials/a/bundle"], evaluated)


def test_words_and_names() -> None:
    words = ["out/lr=1/bundle", "b", "eval.n_episodes=9", "+x=1", "./k=v"]
    assert split_bundles(words) == (["out/lr=1/bundle", "b", "./k=v"], ["eval.n_episodes=9", "+x=1"])
    assert list(short_names(["x/aa/bundle", "y/aa/bundle"])) == ["x/aa", "y/aa"]
    assert list(short_names(["/p/bundle", "/p/bundle/"])) == ["/p/bundle", "/p/bundle/"]


def test_the_page_shows_how_the_bets_grew_and_only_where_there_were_any() -> None:
    from tendon.evaluate.betting import bet
    from tendon.report.page import render
    from tendon.report.plots_bets import path_of_bets
    from tendon.report.summary import ReportInputs

    path = bet([1.0, 0.0, -1.0] + [1.0] * 20, 100)
    (figure,) = path_of_bets(ReportInputs("x", path=path.to_dict()))
    assert figure.answer == f"The bet on the winner reached its bar after {path.pairs} of at most 100 pairs."
    assert len(figure.csv.splitlines()) == 1 + path.pairs
    assert "When could it be told?" in render(ReportInputs("x", path=path.to_dict()))
    assert "When could it be told?" not in render(ReportInputs("x"))
    (stuck,) = path_of_bets(ReportInputs("x", path=bet([0.0] * 50, 50, alpha=0.0).to_dict()))
    assert "Neither bet could reach its bar" in stuck.answer
