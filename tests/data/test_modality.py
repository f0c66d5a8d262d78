"""modality.json in its three variants: named parts, text, cameras, and the vectors of a data configuration."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tendon.data.convert import convert
from tendon.data.dataset import open_dataset
from tendon.data.sources import open_source
from tendon.data.sources.modality import lenient_json
from tendon.data.stats import compute_stats
from tendon.data.stats_files import groot_metadata
from tendon.errors import ConfigError, DataError
from tendon.loader import Loader
from tests.data.lerobot_sets import CAMERA, make

PARTS = {"ee_pos": (0, 2), "ee_rot": (2, 3)}
TEXT = {"human.action.task_description": {}}


def with_columns(folder: Path, columns: dict[str, tuple[str, list[int]]]) -> None:
    """Adds columns of random numbers to every table, and to info.json."""
    info = json.loads((folder / "meta/info.json").read_text())
    for path in sorted(folder.glob("data/**/*.parquet")):
        table = pq.read_table(path)
        rng = np.random.default_rng(5)
        for name, (dtype, shape) in columns.items():
            values = (
                rng.normal(size=(len(table), *shape)) if dtype.startswith("f") else np.full((len(table), *shape), 1)
            )
            table = table.append_column(name, pa.array(values.astype(dtype).tolist()))
            info["features"][name] = {"dtype": dtype, "shape": shape or [1], "names": None}
        pq.write_table(table, path)
    (folder / "meta/info.json").write_text(json.dumps(info))


def write_modality(folder: Path, modality: dict[str, Any]) -> Path:
    (folder / "meta/modality.json").write_text(json.dumps(modality))
    return folder


def entry(start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Isaac's variant: ranges of observation.state and action, a new name for the camera, text by annotation."""
    path = make(tmp_path / "set", "v2.1")
    with_columns(path, {"annotation.human.action.task_description": ("int64", [])})
    return write_modality(path, {
        "state": {"ee_pos": entry(0, 2, absolute=True), "ee_rot": entry(2, 3, rotation_type="axis_angle")},
        "action": {"delta": entry(0, 1, absolute=False), "gripper": entry(1, 2)},
        "video": {"ego_view": {"original_key": CAMERA}}, "annotation": TEXT,
    })  # fmt: skip


def test_ranges(folder: Path, tmp_path: Path) -> None:
    source, plain = open_source(str(folder)), open_source(str(folder), "lerobot")
    info = source.describe()
    assert info.format == "modality"
    assert info.digest != plain.describe().digest
    dims = info.schema.dims
    assert {name: dims[name] for name in ("observation.ee_pos", "observation.ee_rot", "action.delta", "action.gripper")} == {
        "observation.ee_pos": 2, "observation.ee_rot": 1, "action.delta": 1, "action.gripper": 1,
    }  # fmt: skip
    assert not {"observation.state", "action"} & dims.keys()
    name = info.episodes[0].episode_id
    a, b = source.read(name), plain.read(name)
    assert np.array_equal(a.features["observation.ee_pos"], b.features["observation.state"][:, :2])
    assert np.array_equal(a.features["action.gripper"], b.features["action"][:, 1:])
    assert a.task == "task 1"  # by the annotation; the episode's own is "task 0"
    assert a.images["observation.images.ego_view"] == b.images[CAMERA]
    described = info.metadata["modality"]["parts"]
    assert described["state"]["ee_rot"]["rotation_type"] == "axis_angle"
    assert described["action"]["delta"]["absolute"] is False
    dataset = open_dataset(str(tmp_path / "store/datasets/m" / convert(source, str(tmp_path / "store"), "m").plan))
    assert np.array_equal(dataset.lowdim(dataset.rows[0])["action.delta"], a.features["action.delta"])
    groot = groot_metadata(compute_stats(dataset), dataset.manifest)["new_embodiment"]
    assert set(groot["statistics"]["state"]) == set(groot["modalities"]["state"]) == {"ee_pos", "ee_rot"}
    assert groot["modalities"]["state"]["ee_rot"]["rotation_type"] == "axis_angle"
    assert groot["modalities"]["action"]["delta"]["absolute"] is False
    assert list(groot["modalities"]["video"]) == ["ego_view"]
    again = pickle.loads(pickle.dumps(source)).read(name)
    assert np.array_equal(again.features["observation.ee_rot"], a.features["observation.ee_rot"])


def test_a_column_per_key(tmp_path: Path) -> None:
    """InternManip, July: no ranges, columns state.<key> and action.<key>."""
    path = make(tmp_path / "set", "v2.0")
    with_columns(
        path, {"state.joints": ("float32", [4]), "state.gripper": ("float32", []), "action.gripper": ("float64", [])}
    )
    write_modality(
        path, {"state": {"joints": {}, "gripper": None}, "action": {"gripper": {"absolute": False}}, "video": {}}
    )
    source = open_source(str(path))
    dims = source.describe().schema.dims
    assert (dims["observation.joints"], dims["observation.gripper"], dims["action.gripper"]) == (4, 1, 1)
    assert "state.joints" not in dims
    episode = source.read(source.describe().episodes[0].episode_id)
    plain = open_source(str(path), "lerobot").read(source.describe().episodes[0].episode_id)
    assert episode.features["observation.gripper"].shape == (episode.length, 1)
    assert np.array_equal(episode.features["observation.joints"], plain.features["state.joints"])
    assert episode.task == "task 0"


def test_optional_ranges_and_original_key(tmp_path: Path) -> None:
    """InternManip, later: start and end optional, columns by original_key."""
    path = make(tmp_path / "set", "v3.0")
    with_columns(path, {"states.arm": ("float32", [6])})
    write_modality(path, {
        "state": {"arm": {"original_key": "states.arm"}, "tip": {"original_key": "states.arm", "start": 4}},
        "action": {"all": {"original_key": "action", "start": None, "end": None}},
        "video": {"Front": {"original_key": CAMERA}},
    })  # fmt: skip
    dims = open_source(str(path)).describe().schema.dims
    assert (dims["observation.arm"], dims["observation.tip"], dims["action.all"]) == (6, 2, 2)
    assert dims["observation.state"] == 3  # no part is cut from it: kept


def test_data_config(tmp_path: Path) -> None:
    path = make(tmp_path / "set", "v2.1")
    with_columns(path, {"observation.other": ("float32", [3]), "moves": ("float32", [7])})
    write_modality(path, {
        "state": {"ee_rot": entry(0, 3), "ee_pos": entry(0, 3, original_key="observation.other"), "unused": entry(0, 1)},
        "action": {"gripper": entry(0, 1, original_key="moves"), "delta_ee_pos": entry(1, 4, original_key="moves"),
                   "delta_ee_rot": entry(4, 7, original_key="moves")},
        "video": {"image_base": {"original_key": CAMERA}, "image_wrist": {"original_key": CAMERA}},
    })  # fmt: skip
    source, plain = open_source(f"{path}?data_config=calvin-abc"), open_source(str(path), "lerobot")
    info = source.describe()
    name = info.episodes[0].episode_id
    a, b = source.read(name).features, plain.read(name).features
    assert np.array_equal(a["observation.state"], np.concatenate([b["observation.other"], b["observation.state"]], 1))
    assert np.array_equal(a["action"], b["moves"][:, [1, 2, 3, 4, 5, 6, 0]])
    assert info.metadata["modality"]["normalization"]["action.gripper"] == "binary"
    assert info.metadata["modality"]["order"]["action"] == ["delta_ee_pos", "delta_ee_rot", "gripper"]
    assert info.digest != open_source(str(path)).describe().digest
    dataset = open_dataset(str(tmp_path / "store/datasets/m" / convert(source, str(tmp_path / "store"), "m").plan))
    stats = compute_stats(dataset, "all")
    groot = groot_metadata(stats, dataset.manifest)["new_embodiment"]["statistics"]
    assert groot["state"]["ee_rot"]["mean"] == list(stats.features["observation.state"].mean[3:])
    assert groot["action"]["gripper"]["q99"] == [stats.features["action"].q99[6]]
    with pytest.raises(DataError, match="genmanip_v1 asks for ego_view"):
        open_source(f"{path}?data_config=genmanip_v1").describe()
    with pytest.raises(ConfigError, match="write data_config=calvin_abc"):
        open_source(f"{path}?data_config=calvin_ab")


def test_mistakes_are_named(folder: Path) -> None:
    write_modality(folder, {"state": {"x": entry(1, 9)}, "action": {}})
    with pytest.raises(DataError, match="it asks for 1 to 9"):
        open_source(str(folder)).describe()
    write_modality(folder, {"state": {"x": entry(0, 1, original_key="nothing")}})
    with pytest.raises(DataError, match="names a column that does not exist"):
        open_source(str(folder)).describe()
    write_modality(folder, {"video": {"x": {}}})
    with pytest.raises(DataError, match="names a camera that does not exist"):
        open_source(str(folder)).describe()


def test_lenient_json() -> None:
    text = b'{"a": "http://x", // a comment\n "b": [1, 2, /* two */ ], "c": "1,]"}'
    assert lenient_json(text, "here") == {"a": "http://x", "b": [1, 2], "c": "1,]"}
    with pytest.raises(DataError, match="here"):
        lenient_json(b"{nothing", "here")


def test_annotations_are_texts_in_windows(tmp_path: Path) -> None:
    """Columns of task numbers become indexes into the table of tasks, per step; the first of them is the task."""
    path = make(tmp_path / "set", "v2.1")
    with_columns(
        path,
        {"annotation.human.action.task_description": ("int64", []), "annotation.human.validity": ("int64", [])},
    )
    notes = {"human.action.task_description": {}, "human.validity": {}}
    state, action = {"all": entry(0, 3)}, {"all": entry(0, 2)}
    write_modality(path, {"state": state, "action": action, "video": {}, "annotation": notes})
    manifest = convert(open_source(str(path)), str(tmp_path / "store"), "m")
    dataset = open_dataset(str(tmp_path / "store/datasets/m" / manifest.plan))
    texts = [each.key for each in dataset.schema.features if each.kind == "text"]
    assert (manifest.format_version, texts) == (2, ["task", "annotation.human.validity"])
    loader = Loader(dataset, "all", {"task": (0, 1), "annotation.human.validity": (0,)}, 4, 1)
    batch = next(loader)
    assert loader.texts[:2] == ("task 0", "task 1")
    assert batch["task"].tolist() == [[1, 1]] * 4
    assert batch["annotation.human.validity"].tolist() == [[1]] * 4
