"""Faults that compressed video and partly turned actions hide from a look at single frames or whole episodes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tendon.data.quality import Trajectory
from tendon.data.quality.robust import best_stretch
from tendon.data.quality.timing import timing_findings
from tests.benchmarks.planted.defects import DEFECTS
from tests.benchmarks.planted.measure import measure

KEY_EVERY = 32


def drawn(position: np.ndarray) -> np.ndarray:
    """A bright blob where the robot is, 16 x 16 grey."""
    y, x = np.mgrid[0:16, 0:16] / 16
    squares = np.square(x - position[:, 0, None, None]) + np.square(y - position[:, 1, None, None])
    return (80 + 100 * np.exp(-squares / 0.02)).reshape(len(position), -1)


def compressed(rng: np.random.Generator, pictures: np.ndarray) -> np.ndarray:
    """What a codec leaves: errors that stay, a little refined by every frame, until the next key frame."""
    errors = np.empty(pictures.shape)
    for t in range(len(pictures)):
        new = rng.normal(0, 1.0, pictures.shape[1])
        errors[t] = new if t % KEY_EVERY == 0 else 0.9 * errors[t - 1] + 0.1 * new
    return (pictures + errors).astype(np.float32)


def recorded(rng: np.random.Generator, name: str, frozen: int = 0, late: int = 0) -> Trajectory:
    """A robot goes from place to place; its camera may freeze for some frames, or be late by some."""
    places = rng.uniform(0.2, 0.8, (7, 2))
    position = np.concatenate([a + (b - a) * np.linspace(0, 1, 16)[:, None] for a, b in pairwise(places)])
    pictures = drawn(position[np.maximum(np.arange(len(position)) - late, 0)])
    if frozen:
        pictures[40 : 40 + frozen] = pictures[40]
    state = position + rng.normal(0, 1e-3, position.shape)
    names = ("x", "y")
    return Trajectory(name, "", state, np.zeros((len(state), 1)), names, ("a",), {"eye": compressed(rng, pictures)})


def named(kind: str, trajectories: list[Trajectory]) -> set[str]:
    return {each.where for each in timing_findings(trajectories) if each.kind == kind}


@pytest.fixture(scope="module")
def clean() -> list[Trajectory]:
    rng = np.random.default_rng(3)
    return [recorded(rng, f"clean_{i}") for i in range(40)]


def test_clean_video_is_neither_frozen_nor_late(clean: list[Trajectory]) -> None:
    assert not timing_findings(clean)


def test_video_that_freezes_is_named_though_no_two_frames_are_equal(clean: list[Trajectory]) -> None:
    frozen = recorded(np.random.default_rng(4), "bad", frozen=20)
    assert (np.abs(np.diff(frozen.thumbs["eye"], axis=0)).mean(1) > 0.01).all()
    findings = [each for each in timing_findings([*clean, frozen]) if each.kind == "frozen"]
    assert [each.where for each in findings] == ["bad"]
    assert findings[0].frames is not None
    begin, end = findings[0].frames
    assert begin < 50 < end


@pytest.mark.parametrize("late", [1, 2])
def test_one_camera_that_is_late_by_a_frame_is_named(clean: list[Trajectory], late: int) -> None:
    assert named("camera_shift", [*clean, recorded(np.random.default_rng(5), "bad", late=late)]) == {"bad"}


def test_pictures_that_states_do_not_explain_say_nothing(clean: list[Trajectory]) -> None:
    rng = np.random.default_rng(6)
    blind = [replace(each, state=rng.normal(size=each.state.shape)) for each in clean]
    assert len(timing_findings(blind)) <= 1


def test_the_best_stretch_has_the_greatest_sum() -> None:
    assert best_stretch(np.array([-1.0, 2.0, -1.0, 3.0, -5.0, 1.0])) == (1, 4)
    assert best_stretch(np.array([-1.0, -2.0])) == (0, 0)
    assert best_stretch(np.empty(0)) == (0, 0)


@pytest.mark.parametrize(
    ("name", "form"), [("inverted_gripper", "lmdb"), ("late_gripper", ""), ("idle_tail", "lmdb")], ids=str
)
def test_weak_defects_are_found_by_their_own_kind(name: str, form: str) -> None:
    defect = next(each for each in DEFECTS if each.name == name)
    outcome = measure(defect, strong=False, seed=51, episodes=40, form=form)
    assert outcome.found == outcome.planted
    assert outcome.named <= 2
