"""Cameras that a policy cannot look at: a crop that is larger, a picture of which one cell is left for the keypoints."""

from __future__ import annotations

import pytest

from tendon.config.compose import compose
from tendon.config.crops import crop_problems, keypoint_problems
from tendon.config.schema import PolicyConfig


def policy(*overrides: str) -> PolicyConfig:
    return compose(["data.uri=x", "policy=bc", *overrides]).policy


@pytest.mark.parametrize(
    ("overrides", "size", "left"),
    [
        ((), (32, 32), (32, 32)),
        ((), (24, 32), (24, 32)),
        (("policy.crop_size=16",), (84, 84), (16, 16)),
        (("policy.resize=[20,30]",), (84, 84), (20, 30)),
        (("policy.resize=[64,64]", "policy.crop_size=32"), (84, 84), (32, 32)),
    ],
)
def test_keypoints_of_a_single_cell_are_refused(
    overrides: tuple[str, ...], size: tuple[int, int], left: tuple[int, int]
) -> None:
    """In a map of one cell every keypoint is its middle: the action does not follow the picture."""
    (problem,) = keypoint_problems(policy(*overrides), {"front": size})
    assert problem.what == f"front is too small for keypoints: {left[0]} x {left[1]} pixels reach the net"
    assert problem.where == "policy.num_keypoints"
    assert "policy.num_keypoints=0" in problem.fix
    assert not list(keypoint_problems(policy(*overrides, "policy.num_keypoints=0"), {"front": size}))


@pytest.mark.parametrize("overrides", [(), ("policy.crop_size=33",), ("policy.resize=[20,40]",)])
def test_two_cells_are_enough(overrides: tuple[str, ...]) -> None:
    assert not list(keypoint_problems(policy(*overrides), {"front": (84, 84), "wrist": (33, 8)}))


@pytest.mark.parametrize("policy", ["diffusion", "vqbet"])
def test_a_crop_with_height_and_width_fits_its_camera(policy: str) -> None:
    """Planning a run with LeRobot's policies failed: their crop is a pair."""
    config = compose([f"policy={policy}", "data.uri=x"]).policy
    assert [*crop_problems(config, {"top_image": (96, 96)})] == []
    assert [*keypoint_problems(config, {"top_image": (96, 96)})] == []
    (problem,) = crop_problems(config, {"top_image": (80, 96)})
    assert problem.what == "policy.crop_shape is [84, 84], top_image 80 x 96"
    assert problem.fix.startswith("policy.crop_shape=[80,84]")


@pytest.mark.parametrize("policy", ["act", "tdmpc", "diffusion_pusht_keypoints"])
def test_no_crop_is_no_problem(policy: str) -> None:
    config = compose([f"policy={policy}", "data.uri=x"]).policy
    assert [*crop_problems(config, {"top_image": (10, 10)}), *keypoint_problems(config, {"top_image": (10, 10)})] == []
