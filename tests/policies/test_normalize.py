from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tendon.data.normalize import normalize
from tendon.data.stats import FeatureStats
from tendon.policies.parts.normalize import Normalizer

ROWS = np.random.default_rng(3).normal([0, 5, -2], [1, 0.1, 30], (200, 3))


def stats_of(rows: np.ndarray) -> FeatureStats:
    numbers = (rows.mean(0), rows.std(0), rows.min(0), rows.max(0), rows.min(0), rows.max(0))
    return FeatureStats(len(rows), *(tuple(map(float, each)) for each in numbers))


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


@pytest.mark.parametrize("mode", ["mean_std", "min_max"])
def test_constant_dimensions_do_not_explode(mode: Any) -> None:
    rows = np.full((10, 2), 0.7) + np.random.default_rng(0).normal(0, 1e-7, (10, 2))
    normalizer = Normalizer(mode, {"x": 2}, {"x": stats_of(rows)})
    assert normalizer(torch.tensor(rows, dtype=torch.float32)).abs().max() < 1e-3


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "identity"])
def test_agrees_with_the_numpy_of_data(mode: Any) -> None:
    got = Normalizer(mode, {"x": 3}, {"x": stats_of(ROWS)})(torch.tensor(ROWS, dtype=torch.float32))
    np.testing.assert_allclose(got, normalize(ROWS, stats_of(ROWS), mode), rtol=1e-5, atol=1e-5)


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
