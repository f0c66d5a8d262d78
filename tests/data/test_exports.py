"""Exports as their tools want them; ``make parity PEER=export`` opens them there."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.data.writers import write_dataset
from tests.conftest import make_lift_like_hdf5


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    path = make_lift_like_hdf5(tmp_path / "lift.hdf5", images=True)
    with h5py.File(path, "a") as file:
        for i, demo in enumerate(file["data"].values()):
            demo["obs/one"] = np.full((len(demo["actions"]), 1), i, np.float32)
    manifest = convert(open_source(str(path)), str(tmp_path / "store"), "lift")
    return open_dataset(dataset_uri(str(tmp_path / "store"), "lift", manifest.plan))


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_column_of_one_value_is_no_list(version: str, dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, str(tmp_path / "out"), f"lerobot-{version}")
    table = pq.read_table(next(iter(sorted((tmp_path / "out/data").rglob("*.parquet")))))
    assert table.schema.field("observation.one").type == pa.float32()
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["features"]["observation.one"]["shape"] == [1]
    again = convert(open_source(str(tmp_path / "out")), str(tmp_path / "again"), "lift")
    assert again.steps == dataset.manifest.steps


def test_pictures_of_v21_are_pictures_to_datasets(dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(dataset, str(tmp_path / "out"), "lerobot-v2.1")
    schema = pq.read_schema(next(iter(sorted((tmp_path / "out/data").rglob("*.parquet")))))
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(described) == schema.names
    assert {described[each.name]["_type"] for each in dataset.schema.cameras} == {"Image"}


def test_an_episode_of_many_frames_counts_by_them_in_a_camera_s_statistics() -> None:
    from tendon.data.writers.lerobot_stats import merged_all

    def episode(value: float) -> dict[str, dict[str, np.ndarray]]:
        numbers = {name: np.full((1, 1, 1), value) for name in ("min", "max", "mean", "q50")}
        return {"camera": numbers | {"std": np.zeros((1, 1, 1)), "count": np.array([8])}}

    whole = merged_all([episode(0.0), episode(1.0)], [100, 300])["camera"]
    assert whole["mean"].item() == pytest.approx(0.75)
    assert whole["std"].item() == pytest.approx(np.sqrt(0.75 * 0.25))
