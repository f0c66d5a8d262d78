from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tendon.policies.parts.normalize import MIN_STD, Normalizer, affine

ROWS = np.random.default_rng(3).normal([0, 5, -2], [1, 0.1, 30], (200, 3))


def stats_of(rows: np.ndarray) -> Any:
    return SimpleNamespace(mean=rows.mean(0), std=rows.std(0), min=rows.min(0), max=rows.max(0))


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "identity"])
def test_inverse_undoes_forward(mode: Any) -> None:
    normalizer = Normalizer(mode, {"x": 3}, {"x": stats_of(ROWS)})
    raw = torch.tensor(ROWS, dtype=torch.float32)
    torch.testing.assert_close(normalizer.inverse(normalizer(raw)), raw, rtol=1e-6, atol=1e-5)


def test_mean_std_and_min_max_do_what_they_say() -> None:
    raw = torch.tensor(ROWS, dtype=torch.float32)
    standard = Normalizer("mean_std", {"x": 3}, {"x": stats_of(ROWS)})(raw)
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(standard.std(0, unbiased=False), 1, atol=1e-4)
    bounded = Normalizer("min_max", {"x": 3}, {"x": stats_of(ROWS)})(raw)
    np.testing.assert_allclose(bounded.min(0).values, -1, atol=1e-5)
    np.testing.assert_allclose(bounded.max(0).values, 1, atol=1e-5)


def test_constant_dimensions_do_not_explode() -> None:
    rows = np.full((10, 2), 0.7) + np.random.default_rng(0).normal(0, 1e-7, (10, 2))
    offset, scale = affine("mean_std", stats_of(rows))
    assert (scale == MIN_STD).all()
    offset, scale = affine("min_max", stats_of(rows))
    assert (scale == 1).all()
    np.testing.assert_allclose((rows - offset) / scale, 0, atol=1e-5)


def test_features_are_joined_in_the_order_given() -> None:
    stats = {"b": stats_of(ROWS[:, :1]), "a": stats_of(ROWS[:, 1:])}
    normalizer = Normalizer("mean_std", {"a": 2, "b": 1}, stats)
    expected = np.concatenate([ROWS[:, 1:].mean(0), ROWS[:, :1].mean(0)])
    np.testing.assert_allclose(normalizer.offset, expected, rtol=1e-6)


def test_buffers_travel_with_the_weights() -> None:
    fitted = Normalizer("mean_std", {"x": 3}, {"x": stats_of(ROWS)})
    empty = Normalizer("mean_std", {"x": 3}, None)
    empty.load_state_dict(fitted.state_dict())
    raw = torch.randn(4, 3)
    assert torch.equal(empty(raw), fitted(raw))
    assert not list(Normalizer("identity", {"x": 3}, None).state_dict())
