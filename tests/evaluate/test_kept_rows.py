"""Rows are kept as they finish: a killed evaluation continues, and several machines make the table of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tendon.evaluate.actor import BatchCheck
from tendon.evaluate.kept_rows import KeptRows
from tendon.evaluate.rollout import EpisodeResult, Work, evaluate_policy
from tendon.export.bundle import export_bundle
from tendon.storage import open_store
from tests.evaluate.killed_evaluation import evaluate, table
from tests.evaluate.test_rollout import Towards
from tests.train.small_trial import run

EPISODES, GUESTS = 24, 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("policy")
    return export_bundle(run(folder).checkpoint_uri, str(folder / "bundle")).uri


@pytest.fixture(scope="module")
def whole(bundle: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, object]:
    out = tmp_path_factory.mktemp("whole")
    assert not evaluate(bundle, out, EPISODES, GUESTS)
    return table(out)


@pytest.mark.parametrize("kill_at", [pytest.param(1, marks=pytest.mark.long), 13])
def test_a_killed_evaluation_continues_to_the_same_table(
    bundle: str, whole: object, tmp_path: Path, kill_at: int
) -> None:
    """Before: it started over, and nothing of it was in the store."""
    assert evaluate(bundle, tmp_path, EPISODES, GUESTS, kill_at=kill_at)
    assert not list(tmp_path.glob("selection-*"))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("rows/*/0*.json")}
    assert len(kept) >= kill_at
    assert not evaluate(bundle, tmp_path, EPISODES, GUESTS)
    assert table(tmp_path) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "nothing finished was played again"


def test_shares_make_the_same_table(bundle: str, whole: object, tmp_path: Path) -> None:
    for share in (2, 0, 1):  # in any order
        assert not evaluate(bundle, tmp_path, EPISODES, GUESTS, share, 3)
    assert len(list(tmp_path.glob("rows/*/0*.json"))) == EPISODES
    assert not evaluate(bundle, tmp_path, EPISODES, GUESTS)
    assert table(tmp_path) == whole


def test_more_episodes_only_add_to_the_rows(bundle: str, tmp_path: Path) -> None:
    evaluate(bundle, tmp_path, 6, GUESTS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("rows/*/0*.json")}
    evaluate(bundle, tmp_path, 8, GUESTS)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("rows/*/0*.json")}
    assert (len(before), len(after)) == (6, 8)
    assert before.items() <= after.items()


def test_a_row_survives_the_store_and_damage_is_no_episode(tmp_path: Path) -> None:
    rows = KeptRows(open_store(str(tmp_path)), (7, 8, 9))
    result = EpisodeResult(8, "success", 2, 1.0, 1.0, 0.5, "", actions=np.arange(4.0).reshape(2, 2))
    rows.save(1, result)
    open_store(str(tmp_path)).write("000000.json", b"{")
    assert rows.load() == {1: result}
    assert np.array_equal(rows.load()[1].actions, result.actions)
    assert KeptRows(open_store(str(tmp_path)), (7, 70, 9)).load() == {}, "another seed stands there"
    check = BatchCheck(2, False, 1e-7, 1e-4, (1,))
    assert rows.load_check() is None
    rows.save_check(check)
    rows.save_check(replace(check, rows=1))
    assert rows.load_check() == check
    assert rows.load() == {1: result}


def test_every_share_is_played_once_and_the_check_is_that_of_the_first_episode(reach, evaluation) -> None:  # type: ignore[no-untyped-def]
    evaluation = replace(evaluation, batch_size=2)
    seeds, played, checks = range(7), [], []
    whole = evaluate_policy(Towards(), reach, evaluation, seeds, checked=checks.append)
    for share in (1, 0):
        work = Work(share=share, shares=2, keep=lambda index, _: played.append(index))
        part = evaluate_policy(Towards(), reach, evaluation, seeds, checked=checks.append, work=work)
        assert part == [whole[index] for index in work.mine(7, 2)]
    assert sorted(played) == list(range(7))
    assert checks == [checks[0]] * 3
    finished = Work(dict(enumerate(whole)))
    assert evaluate_policy(Towards(), reach, evaluation, seeds, work=finished) == whole
