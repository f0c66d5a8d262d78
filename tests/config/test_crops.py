"""Cameras that a policy cannot look at: a crop that is larger, a picture of which one cell is left for the keypoints."""

from __future__ import annotations

import pytest

from tendon.config.compose import compose
from tendon.config.crops import keypoint_problems
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
