"""data.split_ratio and data.shuffle_episodes: MineStudio's division of episodes into train and val."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tendon.data.convert import ConversionOptions, convert
from tendon.data.dataset import open_dataset
from tendon.data.plan import plan_conversion, plan_digest
from tendon.data.sources import open_source
from tendon.data.sources.source import EpisodeInfo, SourceInfo
from tendon.errors import ConfigError
from tests.conftest import make_lift_like_hdf5


def info(folder: Path, names: list[str], splits: tuple[str, ...] = ("train",)) -> SourceInfo:
    schema = open_source(str(make_lift_like_hdf5(folder / "lift.hdf5"))).describe().schema
    return SourceInfo("x", "x", "0123", 1, schema, tuple(EpisodeInfo(name, 10, splits) for name in names))


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_division_is_minestudios(tmp_path: Path, shuffle: bool) -> None:
    names = [f"e{i:02d}" for i in range(23)]
    order = sorted(names)
    if shuffle:
        random.seed(0)  # what its RawDataset does
        random.shuffle(order)
    expected = set(order[: int(23 * 0.9)])
    given = info(tmp_path, list(reversed(names)))
    plan = plan_conversion(given, ConversionOptions(split_ratio=0.9, shuffle_episodes=shuffle))
    assert {one.episode_id for one in plan.episodes if one.splits == ("train",)} == expected
    assert {one.episode_id for one in plan.episodes if one.splits == ("valid",)} == set(names) - expected


def test_splits_of_the_source_are_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="divided already"):
        plan_conversion(info(tmp_path, ["a", "b"], ("train", "valid")), ConversionOptions(split_ratio=0.5))
    with pytest.raises(ConfigError, match="no episode is left"):
        plan_conversion(info(tmp_path, ["a", "b"]), ConversionOptions(split_ratio=0.4))


def test_the_usual_value_leaves_addresses_as_they_are() -> None:
    assert plan_digest("0123") == plan_digest("0123", ConversionOptions(split_ratio=1.0))
    assert plan_digest("0123") != plan_digest("0123", ConversionOptions(split_ratio=0.5))


def test_a_dataset_has_both_splits(tmp_path: Path) -> None:
    import h5py

    file = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    with h5py.File(file, "a") as content:
        content.pop("mask", None)
    convert(open_source(str(file)), str(tmp_path / "store"), "lift", ConversionOptions(split_ratio=0.7))
    (uri,) = (tmp_path / "store/datasets/lift").iterdir()
    splits = open_dataset(str(uri)).manifest.splits
    assert set(splits) == {"train", "valid"}
