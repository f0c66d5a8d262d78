"""Rotations against matrices that numpy multiplies: Rodrigues' formula and turns about one axis after the other."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.policies.processing.normalize import Normalize
from tendon.policies.processing.processing import Processing
from tendon.policies.processing.rotations import EULER, KINDS, Rotation, convert, width_of

UNIT = {"x": np.array([1.0, 0, 0]), "y": np.array([0, 1.0, 0]), "z": np.array([0, 0, 1.0])}


def rodrigues(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def matrix_of(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "matrix":
        return values.reshape(3, 3)
    if kind == "rotation_6d":
        return np.stack([values[:3], values[3:], np.cross(values[:3], values[3:])])
    if kind == "axis_angle":
        angle = np.linalg.norm(values)
        return rodrigues(values / angle, angle) if angle else np.eye(3)
    if kind.startswith("quaternion"):
        w, vector = (values[0], values[1:]) if kind.endswith("wxyz") else (values[3], values[:3])
        sine = np.linalg.norm(vector)
        return rodrigues(vector / sine, 2 * np.arctan2(sine, w)) if sine else np.eye(3)
    axes = kind.removeprefix("euler_")
    turns = [rodrigues(UNIT[axis.lower()], angle) for axis, angle in zip(axes, values, strict=True)]
    moving = axes.isupper()  # about the moving axes: the first turn stands left; about the fixed ones: the last
    return reduce(np.matmul, turns if moving else turns[::-1])


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    axis = rng.normal(size=3)
    return rodrigues(axis / np.linalg.norm(axis), rng.uniform(-np.pi, np.pi))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_means_the_matrix_that_numpy_makes_of_it(kind: str) -> None:
    rng = np.random.default_rng(1)
    matrices = np.stack([random_rotation(rng) for _ in range(50)])
    written = convert(torch.tensor(matrices).flatten(1), "matrix", kind)
    assert written.shape == (50, width_of(kind))
    for values, matrix in zip(written.numpy(), matrices, strict=True):
        np.testing.assert_allclose(matrix_of(values, kind), matrix, atol=1e-9)
    back = convert(written, kind, "matrix")
    np.testing.assert_allclose(back, matrices.reshape(50, 9), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    source=st.sampled_from(KINDS),
    target=st.sampled_from(KINDS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    shape=st.lists(st.integers(1, 3), min_size=0, max_size=3),
    seed=st.integers(0, 10**6),
)
def test_there_and_back_is_the_same_rotation(
    source: str, target: str, dtype: torch.dtype, shape: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrices = np.stack([random_rotation(rng) for _ in range(int(np.prod(shape)))]).reshape(*shape, 9)
    first = convert(torch.tensor(matrices, dtype=dtype), "matrix", source)
    back = convert(convert(first, source, target), target, source)
    assert back.dtype == dtype
    tolerance = 2e-2 if dtype == torch.float32 else 1e-5  # beside a gimbal lock the angles of Euler are ill defined
    torch.testing.assert_close(
        convert(back, source, "matrix"), convert(first, source, "matrix"), rtol=0, atol=tolerance
    )


def test_quaternions_differ_by_their_order_only_and_have_a_real_part_that_is_not_negative() -> None:
    rng = np.random.default_rng(0)
    matrices = torch.tensor(np.stack([random_rotation(rng).ravel() for _ in range(30)]))
    xyzw, wxyz = convert(matrices, "matrix", "quaternion_xyzw"), convert(matrices, "matrix", "quaternion_wxyz")
    torch.testing.assert_close(xyzw[:, [3, 0, 1, 2]], wxyz)
    assert (xyzw[:, 3] >= 0).all()
    torch.testing.assert_close(convert(-xyzw, "quaternion_xyzw", "matrix"), matrices)


@pytest.mark.parametrize("kind", ["axis_angle", "quaternion_xyzw", "rotation_6d", "euler_XYZ"])
def test_no_turn_and_half_a_turn(kind: str) -> None:
    for matrix in (np.eye(3), np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])):
        written = convert(torch.tensor(matrix.ravel()), "matrix", kind)
        np.testing.assert_allclose(matrix_of(written.numpy(), kind), matrix, atol=1e-9)


def test_what_a_net_predicts_is_made_a_rotation() -> None:
    matrix = convert(torch.tensor([2.0, 0.1, 0, 0.3, 3, 0.5]), "rotation_6d", "matrix").reshape(3, 3).double().numpy()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-6)


def test_gradients_pass_at_the_identity() -> None:
    vector = torch.zeros(3, requires_grad=True)
    convert(vector, "axis_angle", "rotation_6d").sum().backward()
    assert vector.grad is not None
    assert vector.grad.isfinite().all()


def feature(dim: int = 7) -> dict[str, Feature]:
    return {"action": Feature("action", "action", (dim,), "float32", tuple("abcdefg"[:dim]))}


def test_part_of_a_vector_is_turned_and_the_rest_stays() -> None:
    processing = Processing([Rotation(keys=("action",), start=3, source="axis_angle", target="rotation_6d")], feature())
    assert processing.after["action"].shape == (10,)
    assert processing.after["action"].names == ("a", "b", "c", "", "", "", "", "", "", "g")
    raw = torch.rand(2, 5, 7) - 0.5
    seen = processing({"action": raw})
    assert torch.equal(seen["action"][..., :3], raw[..., :3])
    assert torch.equal(seen["action"][..., -1], raw[..., -1])
    torch.testing.assert_close(processing.inverse(seen, seen)["action"], raw, rtol=1e-5, atol=1e-5)


def test_turned_numbers_have_the_ends_of_their_kind_and_no_mean() -> None:
    stats: Any = {"action": FeatureStats(9, *((value,) * 7 for value in (0.5, 2.0, -3.0, 4.0, -2.0, 3.0)))}
    turn = Rotation(keys=("action",), start=3, source="axis_angle", target="rotation_6d")
    bounded = Processing([turn, Normalize(modes={"action": "min_max"})], feature(), stats)
    raw = torch.rand(2, 5, 7) - 0.5
    plain = Processing([turn], feature())({"action": raw})["action"]
    seen = bounded({"action": raw})["action"]
    torch.testing.assert_close(seen[..., 3:9], plain[..., 3:9])  # from -1 to 1 already
    torch.testing.assert_close(seen[..., 0], (raw[..., 0] - 0.5) / 3.5)
    with pytest.raises(ConfigError, match="needs mean, which is not known"):
        Processing([turn, Normalize(modes={"action": "mean_std"})], feature(), stats)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"start": 5}, "takes its numbers 5 to 7, it has 7"), ({"target": "euler_XYX"}, "there is no euler_XYX")],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    values: dict[str, Any] = {"keys": ("action",), "start": 3, "source": "axis_angle", "target": "matrix"} | change
    with pytest.raises(ConfigError, match=words):
        Processing([Rotation(**values)], feature())


def test_there_are_twelve_orders_of_euler() -> None:
    assert len(set(EULER)) == 12
