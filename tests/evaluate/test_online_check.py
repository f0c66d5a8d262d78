"""What keeps an online phase from being played is said at plan, and before the first update."""

from __future__ import annotations

from pathlib import Path

import pytest

from tendon.config.compose import compose
from tendon.data.features import Feature
from tendon.evaluate.online_check import online_problems
from tendon.evaluate.seeds import CONFIRMATION_BLOCKS, CONFIRMATION_FIRST, CONFIRMATION_SIZE, ONLINE, online

ONLINE_STEPS = "training.online_steps=5"
RECORDED = {
    "observation.image": Feature("observation.image", "image", (84, 84, 3), "uint8"),
    "next.reward": Feature("next.reward", "reward", (1,), "float32"),
}


def whats(*words: str, recorded: dict[str, Feature] | None = None, **images: str) -> list[str]:
    config = compose(["policy=tdmpc", "data.uri=x", *words])
    found = online_problems(config, recorded, plays_here=not images, **images)
    return [f"{one.what} | {one.why} | {one.fix}" for one in found]


def test_a_simulator_that_is_not_installed_where_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (what,) = whats("env=pusht_keypoints", ONLINE_STEPS)
    assert what.startswith("the simulator pusht is not installed")
    assert "tendon sims install pusht" in what
    assert whats("env=pusht_keypoints") == []
    assert whats("env=reach", ONLINE_STEPS) == []


def test_the_image_of_train_has_no_simulators() -> None:
    images = {"train_image": "registry.example/robots/tendon-train:0.1.0", "sim_image": "tendon-sim:0.1.0"}
    (what,) = whats("env=pusht_keypoints", ONLINE_STEPS, **images)
    assert "the image of train has no simulator pusht" in what
    assert "cluster_image_train=tendon-sim:0.1.0" in what
    assert whats("env=reach", ONLINE_STEPS, **images) == []
    assert whats("env=pusht_keypoints", **images) == []
    for name in ("tendon-sim:0.1.0", "lab/cuda-and-pusht:1"):
        assert whats("env=pusht_keypoints", ONLINE_STEPS, **images | {"train_image": name}) == []


def test_pictures_of_two_sizes_and_demonstrations_without_rewards() -> None:
    on = ("env=xarm_corrected", ONLINE_STEPS)
    images = {"train_image": "lab", "sim_image": "lab"}
    assert whats(*on, recorded=RECORDED, **images) == []
    (what,) = whats(*on, "env.cameras.camera0.height=64", "env.cameras.camera0.width=64", recorded=RECORDED, **images)
    assert "observation.image is 84 x 84 in the demonstrations and 64 x 64 in the simulator" in what
    (what,) = whats(*on, recorded={"observation.image": RECORDED["observation.image"]}, **images)
    assert "no next.reward" in what


def test_online_seeds_judge_nothing_and_begin_again_at_the_end_of_their_block() -> None:
    assert ONLINE.first > CONFIRMATION_FIRST + CONFIRMATION_SIZE * CONFIRMATION_BLOCKS
    assert online(10_000, 5) == ONLINE.first + 10_005
    assert online(2**32 - 1, 7) in range(ONLINE.first, ONLINE.last + 1)
    assert online(0, ONLINE.last - ONLINE.first + 1) == ONLINE.first
