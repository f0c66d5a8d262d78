"""Normalisation against the formulas of the projects that it follows, written out in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tendon.data.features import Feature
from tendon.data.normalize import denormalize, normalize
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.policies.processing.normalize import Normalize
from tendon.policies.processing.processing import Processing

Array = np.ndarray
RULES = ("tendon", "lerobot", "groot", "openpi")
MODES = ("mean_std", "min_max", "q99", "scale", "binary", "identity")


def stats_of(rows: Array) -> FeatureStats:
    low, high = np.quantile(rows, (0.01, 0.99), axis=0)
    numbers = (rows.mean(0), rows.std(0), rows.min(0), rows.max(0), low, high)
    return FeatureStats(len(rows), *(tuple(map(float, each)) for each in numbers))


ROWS = np.random.default_rng(3).normal([0, 5, -2, 0.75], [1, 0.1, 30, 0], (200, 4))  # the last one: constant
STATS = stats_of(ROWS)
MEAN, STD, MIN, MAX, Q01, Q99 = (np.array(getattr(STATS, name)) for name in ("mean", "std", "min", "max", "q01", "q99"))
ABS = np.maximum(np.abs(MIN), np.abs(MAX))


def of_groot(low: Array, high: Array, idle: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda x: np.where(low != high, 2 * (x - low) / np.where(low != high, high - low, 1) - 1, idle(x))


FORWARD: dict[tuple[str, str], Callable[[Array], Array]] = {
    ("lerobot", "mean_std"): lambda x: (x - MEAN) / (STD + 1e-8),
    ("lerobot", "min_max"): lambda x: 2 * (x - MIN) / np.where(MAX == MIN, 1e-8, MAX - MIN) - 1,
    ("lerobot", "q99"): lambda x: 2 * (x - Q01) / np.where(Q99 == Q01, 1e-8, Q99 - Q01) - 1,
    ("openpi", "mean_std"): lambda x: (x - MEAN) / (STD + 1e-6),
    ("openpi", "q99"): lambda x: (x - Q01) / (Q99 - Q01 + 1e-6) * 2 - 1,
    ("groot", "mean_std"): lambda x: np.where(STD != 0, (x - MEAN) / np.where(STD != 0, STD, 1), x),
    ("groot", "min_max"): of_groot(MIN, MAX, np.zeros_like),
    ("groot", "q99"): lambda x: np.clip(of_groot(Q01, Q99, lambda raw: raw)(x), -1, 1),
    ("groot", "scale"): lambda x: np.where(ABS != 0, x / np.where(ABS != 0, ABS, 1), 0),
    ("tendon", "mean_std"): lambda x: normalize(x, STATS, "mean_std"),
    ("tendon", "min_max"): lambda x: normalize(x, STATS, "min_max"),
}
BACK: dict[tuple[str, str], Callable[[Array], Array]] = {
    ("lerobot", "mean_std"): lambda y: y * STD + MEAN,
    ("lerobot", "min_max"): lambda y: (y + 1) / 2 * np.where(MAX == MIN, 1e-8, MAX - MIN) + MIN,
    ("lerobot", "q99"): lambda y: (y + 1) * np.where(Q99 == Q01, 1e-8, Q99 - Q01) / 2 + Q01,
    ("openpi", "mean_std"): lambda y: y * (STD + 1e-6) + MEAN,
    ("openpi", "q99"): lambda y: (y + 1) / 2 * (Q99 - Q01 + 1e-6) + Q01,
    ("groot", "mean_std"): lambda y: y * STD + MEAN,
    ("groot", "min_max"): lambda y: (y + 1) / 2 * (MAX - MIN) + MIN,
    ("groot", "q99"): lambda y: (y + 1) / 2 * (Q99 - Q01) + Q01,
    ("tendon", "mean_std"): lambda y: denormalize(y, STATS, "mean_std"),
    ("tendon", "min_max"): lambda y: denormalize(y, STATS, "min_max"),
}


def vector(dim: int = 4, key: str = "action", kind: Any = "action") -> dict[str, Feature]:
    return {key: Feature(key, kind, (dim,), "float32")}


def made(mode: Any, rules: Any, stats: FeatureStats = STATS) -> Processing:
    return Processing([Normalize(modes={"action": mode}, rules=rules)], vector(len(stats.mean)), {"action": stats})


@pytest.mark.parametrize(("rules", "mode"), list(FORWARD))
def test_every_mode_is_the_formula_of_its_project(rules: str, mode: str) -> None:
    raw = np.concatenate([ROWS[:50], ROWS[:5] * 1.5, [MIN, MAX, Q01, Q99, MEAN]])
    got = made(mode, rules)({"action": torch.tensor(raw[None], dtype=torch.float32)})["action"][0]
    expected = FORWARD[rules, mode](raw.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("rules", "mode"), list(BACK))
def test_the_way_back_is_the_formula_of_its_project(rules: str, mode: str) -> None:
    predicted = np.random.default_rng(1).normal(0, 0.7, (60, 4)).astype(np.float32)
    got = made(mode, rules).inverse({"action": torch.tensor(predicted[None])}, {})["action"][0]
    np.testing.assert_allclose(got, BACK[rules, mode](predicted.astype(np.float64)), rtol=1e-5, atol=1e-5)


def test_what_does_not_move_is_each_projects_own_case() -> None:
    constant = stats_of(np.full((9, 1), 0.7))
    same, other = torch.full((1, 1, 1), 0.7), torch.full((1, 1, 1), 0.9)

    def value(mode: str, rules: str, raw: torch.Tensor) -> float:
        return float(made(mode, rules, constant)({"action": raw})["action"])

    assert value("min_max", "groot", same) == value("min_max", "groot", other) == 0
    assert value("q99", "groot", other) == pytest.approx(0.9)
    assert value("mean_std", "groot", other) == pytest.approx(0.9)
    assert value("min_max", "lerobot", same) == pytest.approx(-1)
    assert value("mean_std", "lerobot", same) == pytest.approx(0)
    assert value("q99", "openpi", same) == pytest.approx(-1, abs=0.2)
    assert value("min_max", "tendon", same) == pytest.approx(0)
    assert abs(value("min_max", "tendon", other)) < 1  # centred, not blown up
    for mode in ("min_max", "q99", "mean_std"):
        back = made(mode, "groot", constant).inverse({"action": torch.full((1, 1, 1), 0.3)}, {})["action"]
        assert float(back) == pytest.approx(0.7)  # GR00T's inverse knows one value only
    zero = stats_of(np.zeros((9, 1)))
    assert float(made("scale", "groot", zero)({"action": other})["action"]) == 0
    assert float(made("scale", "groot", zero).inverse({"action": other}, {})["action"]) == 0


def test_q99_is_clipped_by_groots_rules_only() -> None:
    far = {"action": torch.full((1, 1, 4), 1e4)}
    assert made("q99", "groot")(far)["action"].max() <= 1
    assert made("q99", "lerobot")(far)["action"].max() > 1


def test_binary_is_more_than_a_half_both_ways() -> None:
    raw = {"action": torch.tensor([[[0.5, 0.51, -3.0, 9.0]]])}
    processing = made("binary", "groot")
    assert processing(raw)["action"].tolist() == [[[0, 1, 0, 1]]]
    assert processing.inverse(raw, {})["action"].tolist() == [[[0, 1, 0, 1]]]


@settings(max_examples=60, deadline=None)
@given(
    rules=st.sampled_from(RULES),
    mode=st.sampled_from(MODES),
    batch=st.integers(1, 4),
    times=st.integers(1, 5),
    dim=st.integers(1, 6),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16]),
    seed=st.integers(0, 1000),
)
def test_inverse_undoes_forward(
    rules: Any, mode: Any, batch: int, times: int, dim: int, dtype: torch.dtype, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(rng.normal(0, 3, dim), rng.uniform(0.1, 5, dim), (100, dim))
    stats = stats_of(rows)
    raw = rng.uniform(np.array(stats.q01), np.array(stats.q99), (batch, times, dim))
    if mode == "binary":
        raw = raw > 0
    tensor = torch.tensor(raw).to(dtype)
    processing = made(mode, rules, stats)
    seen = processing({"action": tensor})
    back = processing.inverse(seen, seen)["action"]
    assert back.shape == tensor.shape
    tolerance = 3e-2 if dtype == torch.float16 else 1e-4
    torch.testing.assert_close(back.double(), tensor.double(), rtol=tolerance, atol=tolerance)


def test_imagenet_is_by_channel() -> None:
    camera = {"observation.images.a": Feature("observation.images.a", "image", (4, 6, 3), "float32")}
    processing = Processing([Normalize(modes={"observation.images.a": "imagenet"})], camera)
    pixels = torch.rand(2, 3, 3, 4, 6)
    got = processing({"observation.images.a": pixels})["observation.images.a"]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (pixels.double().numpy() - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    torch.testing.assert_close(processing.inverse({"observation.images.a": got}, {})["observation.images.a"], pixels)


def test_statistics_can_be_given_instead() -> None:
    """LeRobot's override_dataset_stats: PushT's actions have fixed ends."""
    own = {"action": {"min": (12.0, 25.0), "max": (511.0, 511.0)}}
    processing = Processing(
        [Normalize(modes={"action": "min_max"}, statistics=own)], vector(2), {"action": stats_of(ROWS[:, :2])}
    )
    ends = processing({"action": torch.tensor([[[12.0, 25.0], [511.0, 511.0]]])})["action"]
    torch.testing.assert_close(ends, torch.tensor([[[-1.0, -1.0], [1.0, 1.0]]]))


@pytest.mark.parametrize(
    ("features", "modes", "stats", "words"),
    [
        (vector(3), {"action": "mean_std"}, STATS, "has 3 numbers, mean of the statistics 4"),
        (vector(4), {"other": "mean_std"}, STATS, "does not fit other"),
        (vector(4, "observation.label", "category"), {"observation.label": "q99"}, STATS, "number of a list"),
        (vector(4), {"action": "imagenet"}, STATS, "for cameras of three channels"),
        (
            vector(4, "observation.x", "state"),
            {"observation.x": "q99"},
            None,
            "needs q01, which these statistics do not",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(features: Any, modes: Any, stats: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Processing([Normalize(modes=modes)], features, {} if stats is None else dict.fromkeys(features, stats))
    assert next(iter(modes)) in caught.value.problems[0].where


def test_a_batch_of_another_width_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"action has the shape \(5,\) in a batch, the policy was made for \(4,\)"):
        made("mean_std", "tendon")({"action": torch.zeros(2, 1, 5)})
