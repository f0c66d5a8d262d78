"""Planted defects are found, each by its own kind of finding; the benchmarks measure the shares with other seeds."""

from __future__ import annotations

import pytest

from tests.benchmarks.planted.defects import DEFECTS, UNSEEN, Defect
from tests.benchmarks.planted.measure import findings_of, measure, plant


def test_there_are_enough_kinds() -> None:
    assert len(DEFECTS) >= 24
    assert all(len(reason) > 20 for reason in UNSEEN.values())


LOW_DIMENSIONAL = [each for each in DEFECTS if not each.images]


@pytest.mark.parametrize("defect", LOW_DIMENSIONAL, ids=lambda defect: defect.name)
def test_strong_defects_are_found(defect: Defect) -> None:
    outcome = measure(defect, strong=True, seed=21, episodes=40)
    assert outcome.found >= outcome.planted - 1
    assert outcome.named <= 4


def test_findings_name_frames_and_draw_the_evidence() -> None:
    spike = next(each for each in DEFECTS if each.name == "spike")
    recordings, planted = plant(spike, True, 22, 40)
    findings = [each for each in findings_of(recordings) if each.kind == "spike"]
    assert planted == {each.where for each in findings} & planted
    assert all(each.frames and each.frames[1] == each.frames[0] + 1 for each in findings)
    assert all(2 <= len(each.picture) <= 32 for each in findings)


def test_cameras_are_looked_at_where_that_is_wanted() -> None:
    for name in ("swapped_cameras", "frozen_frames", "black_frames"):
        defect = next(each for each in DEFECTS if each.name == name)
        outcome = measure(defect, strong=True, seed=23, episodes=30)
        assert outcome.found == outcome.planted


@pytest.mark.parametrize("form", ["", "lmdb"])
def test_an_end_that_is_missing_is_found_though_the_episode_is_hardly_shorter(form: str) -> None:
    cut_short = next(each for each in DEFECTS if each.name == "cut_short")
    outcomes = [measure(cut_short, strong=False, seed=seed, episodes=60, form=form) for seed in (31, 32)]
    assert sum(each.found for each in outcomes) >= 9  # of 12
    assert all(each.named <= 2 for each in outcomes)
