from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tendon.data import stats as stats_module
from tendon.data.check import length_findings, span_findings
from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.normalize import MIN_STD, denormalize, normalize
from tendon.data.sources import open_source
from tendon.data.stats import DatasetStats, FeatureStats, Stats, compute_stats, merge_stats
from tendon.data.stats_files import FORMATS

Maker = Callable[..., Path]


def opened(path: Path, store: Path) -> Dataset:
    manifest = convert(open_source(str(path)), str(store), "lift")
    return open_dataset(dataset_uri(str(store), "lift", manifest.plan))


def test_against_numpy(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    dataset = opened(lift_like_hdf5(episodes=9, valid=3), tmp_path)
    stats = compute_stats(dataset)
    assert (stats.episodes, stats.split, stats.quantiles) == (6, "train", "exact")
    rows = [dataset.lowdim(row) for row in dataset.rows[:6]]
    assert stats.steps == sum(map(len, rows))
    for name, dim in dataset.manifest.schema.dims.items():
        values = np.concatenate([each[name].reshape(-1, dim) for each in rows]).astype(np.float64)
        own = stats.features[name]
        assert own.count == len(values)
        for got, wanted in [
            (own.mean, values.mean(0)), (own.std, values.std(0)), (own.min, values.min(0)), (own.max, values.max(0)),
            (own.q01, np.quantile(values, 0.01, axis=0)), (own.q99, np.quantile(values, 0.99, axis=0)),
        ]:  # fmt: skip
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-15)
    assert DatasetStats.from_json(stats.to_json()) == stats


@given(arrays(np.float32, (23, 2), elements=st.floats(-1e6, 1e6, width=32)), st.integers(1, 22), st.integers(1, 22))
def test_merge_is_exact(values: np.ndarray, a: int, b: int) -> None:
    a, b = min(a, b), max(a, b)
    parts = [Stats.of(part) for part in (values[:a], values[a:b], values[b:]) if len(part)]
    whole = Stats.of(values)
    for order in (parts, parts[::-1]):
        merged = order[0]
        for part in order[1:]:
            merged = merged.merge(part)
        assert merged.count == 23
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(merged.m2, whole.m2, rtol=1e-10, atol=1e-9)
        assert np.array_equal(merged.min, whole.min)
        assert np.array_equal(merged.max, whole.max)


def test_a_tiny_spread_far_from_zero_keeps_its_digits() -> None:
    values = 1000.0 + np.random.default_rng(0).normal(0, 1e-5, (5000, 1))
    parts = [Stats.of(part) for part in np.array_split(values, 50)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    np.testing.assert_allclose(merged.std, values.std(0), rtol=1e-6)


def test_findings(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5(episodes=9)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["obs/robot0_eef_pos"][:, 1] = 0.25
            demo["obs/robot0_eef_pos"][:, 2] = 0.5 + 1e-6 * np.arange(demo.attrs["num_samples"])
        file["data/demo_2/actions"][3, 6] = 1.5
        del file["data/demo_3"]
        file.copy("data/demo_0", "data/demo_3")
        del file["data/demo_4"]
        file["mask/valid"][0] = b"demo_1"
    dataset = opened(path, tmp_path)
    found = {(each.kind, each.where): each.message for each in compute_stats(dataset).findings}
    assert found["constant", "observation.robot0_eef_pos"] == "dimension 1 of 3 never changes"
    assert found["tiny_span", "observation.robot0_eef_pos"] == "dimension 2 of 3 spans less than 0.0001"
    assert "from" in found["action_range", "action"]
    assert found["duplicate", "demo_3"] == "has the same values as demo_0"
    assert "demo_1" in found["split_overlap", "train"]
    assert len(found) == 5


def test_length_outliers_are_bounded() -> None:
    lengths = np.array([50] * 100 + [200, 10] + [300] * 40)
    found = length_findings([f"demo_{i}" for i in range(len(lengths))], lengths)
    assert found[0].message == "200 steps, the median is 50"
    assert len(found) == 21
    assert found[-1].count == 22
    assert span_findings({"observation.x": [0.0, 1.0]}, {"observation.x": [5.0, 2.0]}) == []


def test_quantiles_of_a_histogram_keep_their_bound(
    lift_like_hdf5: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = opened(lift_like_hdf5(episodes=9, valid=0), tmp_path)
    exact = compute_stats(dataset)
    monkeypatch.setattr(stats_module, "QUANTILE_STEPS", 40)
    monkeypatch.setattr(stats_module, "QUANTILE_BINS", 512)
    near = compute_stats(dataset)
    assert near.quantiles == "within 1/1024 of the range of each dimension"
    for name, each in exact.features.items():
        span = np.array(each.max) - np.array(each.min)
        for key in ("q01", "q99"):
            wrong = np.abs(np.array(getattr(near.features[name], key)) - np.array(getattr(each, key)))
            assert (wrong <= span / 1024 + 1e-12).all(), (name, key)


def test_datasets_merge(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    parts = [
        compute_stats(opened(lift_like_hdf5(f"{seed}.hdf5", seed=seed, episodes=4 + seed), tmp_path / str(seed)), "all")
        for seed in (0, 3)
    ]
    merged = merge_stats(parts)
    assert (merged.episodes, merged.steps) == (11, sum(each.steps for each in parts))
    datasets = [opened(tmp_path / f"{seed}.hdf5", tmp_path / str(seed)) for seed in (0, 3)]
    rows = [dataset.lowdim(row) for dataset in datasets for row in dataset.rows]
    for name, each in merged.features.items():
        values = np.concatenate([one[name].reshape(len(one), -1) for one in rows]).astype(np.float64)
        for got, wanted in [
            (each.mean, values.mean(0)), (each.std, values.std(0)), (each.min, values.min(0)), (each.max, values.max(0))
        ]:  # fmt: skip
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)
        q01s, one_rank = np.array([one.features[name].q01 for one in parts]), 1 / min(one.steps for one in parts)
        assert (q01s.min(0) <= np.quantile(values, 0.01 + one_rank, axis=0)).all()
        assert (q01s.max(0) >= values.min(0)).all()
    assert merge_stats(parts[:1]).features.keys() == parts[0].features.keys()


def test_files_of_other_projects(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    dataset = opened(lift_like_hdf5(images=True), tmp_path)
    stats, manifest = compute_stats(dataset), dataset.manifest
    plain = FORMATS["lerobot"](stats, manifest)
    assert plain["action"]["mean"] == list(stats.features["action"].mean)
    assert plain["action"]["count"] == [stats.steps]
    groot = FORMATS["groot"](stats, manifest)["new_embodiment"]
    assert groot["statistics"]["state"]["robot0_eef_pos"]["q99"] == list(
        stats.features["observation.robot0_eef_pos"].q99
    )
    assert groot["modalities"]["video"]["agentview_image"] == {"resolution": [24, 24], "channels": 3, "fps": 20.0}
    told = {"absolute": True, "rotation_type": None, "shape": [7], "continuous": True}
    assert groot["modalities"]["action"]["action"] == told
    openpi = FORMATS["openpi"](stats, manifest)["norm_stats"]
    assert set(openpi) == {"state", "actions"}
    assert len(openpi["state"]["mean"]) == sum(
        dim for name, dim in manifest.schema.dims.items() if name.startswith("observation")
    )
    assert min(openpi["state"]["std"]) >= 1e-3
    json.dumps([plain, groot, openpi])


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "identity"])
def test_normalize_there_and_back(mode: str) -> None:
    raw = np.random.default_rng(1).normal(3, 2, (200, 4))
    raw[:, 2] = 7.0
    whole = Stats.of(raw)
    numbers = [tuple(each.tolist()) for each in (whole.mean, whole.std, whole.min, whole.max)]
    stats = FeatureStats(200, *numbers, numbers[2], numbers[3])
    normal = normalize(raw, stats, mode)  # type: ignore[arg-type]
    np.testing.assert_allclose(denormalize(normal, stats, mode), raw, rtol=1e-12)  # type: ignore[arg-type]
    if mode == "mean_std":
        np.testing.assert_allclose(normal.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(normal.std(0)[[0, 1, 3]], 1)
        assert np.allclose(normalize(np.full(4, 7.0 + MIN_STD), stats, "mean_std")[2], 1)
    if mode == "min_max":
        assert normal[:, [0, 1, 3]].min() == -1
        assert normal[:, [0, 1, 3]].max() == 1
        assert not normal[:, 2].any()


def test_sums_of_a_large_index_are_read_a_part_at_a_time(
    lift_like_hdf5: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lift_like_hdf5(episodes=11, valid=2)
    with h5py.File(path, "a") as file:
        file["data/demo_4/actions"][0] = 3.0
    dataset = opened(path, tmp_path)
    chosen = dataset.rows.chosen(np.array([8, 0, 4, 5]))
    whole, odd = stats_module.subset_stats(dataset, chosen), stats_module.find_odd(dataset, chosen)
    monkeypatch.setattr("tendon.data.index.BATCH_ROWS", 3)
    monkeypatch.setattr(stats_module, "STACKED_BYTES", 0)
    parts = stats_module.subset_stats(dataset, chosen)
    for name, each in whole.items():
        for kind in ("count", "mean", "m2", "min", "max"):
            np.testing.assert_allclose(getattr(parts[name], kind), getattr(each, kind), rtol=1e-12, atol=1e-15)
    assert stats_module.find_odd(dataset, chosen) == odd
    assert any("demo_4" in each.message for each in odd if each.kind == "action_range")
