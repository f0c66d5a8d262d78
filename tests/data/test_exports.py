"""Exports as their tools want them; ``make parity PEER=export`` opens them there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tendon.data.convert import ConversionOptions, convert, dataset_uri
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


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_an_episode_of_many_frames_counts_by_them_in_a_camera_s_statistics(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tendon.data.writers.lerobot_stats import AllStats

    def episode(value: float) -> dict[str, dict[str, np.ndarray]]:
        numbers = {name: np.full((1, 1, 1), value) for name in ("min", "max", "mean", "q50")}
        return {"camera": numbers | {"std": np.zeros((1, 1, 1)), "count": np.array([8])}}

    monkeypatch.setattr("tendon.data.writers.lerobot_stats.STACKED_AT_ONCE", at_once)
    stats = AllStats()
    for value in (0.0, 1.0):
        stats.add(episode(value))
    whole = stats.merged([100, 300])["camera"]
    assert whole["mean"].item() == pytest.approx(0.75)
    assert whole["std"].item() == pytest.approx(np.sqrt(0.75 * 0.25))


def test_videos_of_v21_show_every_frame_equally_long(tmp_path: Path) -> None:
    """A file of many episodes is cut where one ends: whatever the muxer said of that frame, no other is doubled."""
    import struct

    from tendon.data import mp4
    from tests.data import lerobot_sets

    root = lerobot_sets.make(tmp_path / "set", "v2.1", g=2)
    for path in sorted(root.rglob("*.mp4")):  # the last frame of every file twice as long, as some muxers write it
        content = path.read_bytes()
        durations = mp4.read_track(content).durations
        at = content.index(b"stts") + 8
        num, step = len(durations), int(durations[0])
        if struct.unpack_from(">I", content, at)[0] == 1:
            longer = mp4.read_track(content)
            longer.durations[-1] = 2 * step
            path.write_bytes(mp4.join([mp4.Piece(content, longer, 0, num)]))
    manifest = convert(open_source(str(root)), str(tmp_path / "store"), "videos")
    dataset = open_dataset(dataset_uri(str(tmp_path / "store"), "videos", manifest.plan))
    write_dataset(dataset, str(tmp_path / "out"), "lerobot-v2.1")
    paths = sorted((tmp_path / "out").rglob("*.mp4"))
    assert len(paths) == 3
    for path in paths:
        assert len(set(mp4.read_track(path.read_bytes()).durations.tolist())) == 1


def test_statistics_for_openpi_are_in_the_order_of_modality(tmp_path: Path) -> None:
    from tendon.data.stats import DatasetStats, compute_stats
    from tendon.data.stats_files import openpi_norm_stats

    dataset = modality_set(tmp_path)
    stored = DatasetStats.from_json(compute_stats(dataset, "train").to_json())  # which sorts by name
    told = openpi_norm_stats(stored, dataset.manifest)["norm_stats"]
    parts = {"state": ["z", "pose"], "action": ["wrist", "arm"]}
    for kind, name, prefix in (("state", "state", "observation."), ("action", "actions", "action.")):
        joined = [
            np.concatenate([np.asarray(dataset.lowdim(row)[f"{prefix}{key}"]) for row in dataset.episodes("train")])
            for key in parts[kind]
        ]
        assert told[name]["mean"] == pytest.approx(np.concatenate(joined, 1).mean(0).tolist())


def modality_set(tmp_path: Path) -> Dataset:
    """Parts whose order is not that of their names, and what only modality.json says of them."""
    from tests.data import lerobot_sets

    root = lerobot_sets.make(tmp_path / "set", "v2.1", video=False)
    state = {
        "z": {"start": 2, "end": 3},
        "pose": {"start": 0, "end": 2, "absolute": False, "rotation_type": "euler_angles_rpy"},
    }
    action = {"wrist": {"start": 1, "end": 2, "range": [-1, 1]}, "arm": {"start": 0, "end": 1, "absolute": False}}
    (root / "meta/modality.json").write_text(json.dumps({"state": state, "action": action, "video": {}}))
    manifest = convert(open_source(str(root)), str(tmp_path / "store"), "modality")
    return open_dataset(dataset_uri(str(tmp_path / "store"), "modality", manifest.plan))


def test_what_modality_json_says_of_parts_and_the_numbers_of_tasks_are_kept(tmp_path: Path) -> None:
    write_dataset(modality_set(tmp_path), str(tmp_path / "out"), "modality")
    entries = json.loads((tmp_path / "out/meta/modality.json").read_text())
    assert list(entries["state"]) == ["z", "pose"]
    assert entries["state"]["pose"]["rotation_type"] == "euler_angles_rpy"
    assert entries["state"]["pose"]["absolute"] is entries["action"]["arm"]["absolute"] is False
    assert entries["action"]["wrist"]["range"] == [-1, 1]
    theirs, ours = (
        [json.loads(line) for line in (tmp_path / folder / "meta/tasks.jsonl").read_text().splitlines()]
        for folder in ("set", "out")
    )
    assert ours == theirs


def test_a_modality_export_has_the_statistics_and_vectors_that_groot_asks_for(tmp_path: Path) -> None:
    path = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            steps = len(demo["actions"])
            demo["obs/matrix"] = np.arange(4.0 * steps).reshape(steps, 2, 2)
    manifest = convert(open_source(str(path)), str(tmp_path / "store"), "lift")
    dataset = open_dataset(dataset_uri(str(tmp_path / "store"), "lift", manifest.plan))
    write_dataset(dataset, str(tmp_path / "out"), "modality")
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    values = np.concatenate([dataset.lowdim(row)["observation.matrix"].reshape(-1, 4) for row in dataset.rows])
    assert stats["observation.matrix"]["mean"] == pytest.approx(values.mean(0).tolist())
    assert stats["observation.matrix"]["q99"] == pytest.approx(np.quantile(values, 0.99, axis=0).tolist())
    first = pq.read_table(sorted((tmp_path / "out").glob("data/*/*.parquet"))[0])
    assert first.column("observation.matrix").to_pylist() == values[: len(first)].tolist()
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["features"]["observation.matrix"]["shape"] == [4]


def test_an_empty_mask_is_no_mask(tmp_path: Path) -> None:
    path = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        del file["mask"]
        file["mask/train"], file["mask/valid"] = np.array([], "S8"), np.array([b"demo_0"])
    manifest = convert(open_source(str(path)), str(tmp_path / "store"), "lift")
    assert manifest.splits["train"].episodes == manifest.episodes - 1
    assert manifest.splits["valid"].episodes == 1


def test_the_advice_of_convert_is_an_option_of_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tendon import cli

    path = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_1/actions"][3, 0] = np.nan
    command = ["convert", "--source-uri", str(path), "--store-uri", str(tmp_path / "store")]
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    assert ended.value.code == 3
    fix = capsys.readouterr().err.rpartition("fix:   ")[2].strip()
    assert fix == "--skip-episodes demo_1, or record it again"
    assert cli.main([*command, *fix.partition(",")[0].split()]) == 0


NOTES = ("pick it up", "", "\u7f6e\u304f\n\u00e9", None, "task 1")


def with_texts(root: Path, kind: pa.DataType) -> list[str]:
    """A column of texts that changes from step to step stands between the others; what a reader gets of it."""
    told: list[str] = []
    for path in sorted(root.glob("data/**/*.parquet")):
        table = pq.read_table(path)
        notes = [NOTES[(step + len(told)) % len(NOTES)] for step in range(len(table))]
        column = pa.array(notes, pa.string()).cast(kind)
        pq.write_table(table.set_column(table.column_names.index("note"), "note", column), path)
        told += [note or "" for note in notes]
    return told


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_texts_of_steps_are_kept_in_their_place(version: str, kind: pa.DataType, tmp_path: Path) -> None:
    from tests.data import lerobot_sets

    root = lerobot_sets.make(tmp_path / "set", version, video=False)
    told = with_texts(root, kind)
    manifest = convert(open_source(str(root)), str(tmp_path / "store"), "texts")
    dataset = open_dataset(dataset_uri(str(tmp_path / "store"), "texts", manifest.plan))
    assert "note" in dataset.schema.text_keys
    assert [row.task for row in dataset.rows] == ["task 0", "task 1", "task 0"]
    order = list(json.loads((root / "meta/info.json").read_text())["features"])
    for other in ("v2.1", "v3.0"):
        out = tmp_path / f"out-{other}"
        write_dataset(dataset, str(out), f"lerobot-{other}")
        tables = [pq.read_table(path) for path in sorted(out.glob("data/**/*.parquet"))]
        assert [text for table in tables for text in table.column("note").to_pylist()] == told
        assert list(json.loads((out / "meta/info.json").read_text())["features"]) == order
        tasks = out / "meta/tasks.jsonl"
        if tasks.exists():
            assert [json.loads(line)["task"] for line in tasks.read_text().splitlines()] == ["task 0", "task 1"]
        again = convert(open_source(str(out)), str(tmp_path / "store"), f"again-{other}")
        assert again.schema == manifest.schema


def test_a_text_that_never_changes_changes_no_dataset_and_is_written_again(tmp_path: Path) -> None:
    from tests.data import lerobot_sets

    root = lerobot_sets.make(tmp_path / "set", "v3.0", video=False)
    manifest = convert(open_source(str(root)), str(tmp_path / "store"), "texts")
    assert manifest.format_version == 1
    dataset = open_dataset(dataset_uri(str(tmp_path / "store"), "texts", manifest.plan))
    write_dataset(dataset, str(tmp_path / "out"), "lerobot-v3.0")
    (path,) = (tmp_path / "out").glob("data/**/*.parquet")
    assert set(pq.read_table(path).column("note").to_pylist()) == {"x"}
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["features"]["note"]["dtype"] == "string"


@pytest.mark.parametrize("kind", ["lerobot", "modality"])
@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_modality_json_is_kept_by_a_plain_export(kind: str, version: str, tmp_path: Path) -> None:
    modality_set(tmp_path)
    origin = open_source(str(tmp_path / "set"), kind)
    manifest = convert(origin, str(tmp_path / "store"), kind)
    dataset = open_dataset(dataset_uri(str(tmp_path / "store"), kind, manifest.plan))
    write_dataset(dataset, str(tmp_path / "out"), f"lerobot-{version}")
    theirs, ours = ((tmp_path / folder / "meta/modality.json").read_text() for folder in ("set", "out"))
    if kind == "lerobot":
        assert ours == theirs
    assert list(json.loads(ours)["state"]) == list(json.loads(theirs)["state"])
    back = open_source(str(tmp_path / "out"), "modality")
    first = open_source(str(tmp_path / "set"), "modality")
    for episode in first.describe().episodes:
        before, after = first.read(episode.episode_id), back.read(episode.episode_id)
        for key in ("observation.z", "observation.pose", "action.wrist", "action.arm"):
            assert np.array_equal(before.features[key], after.features[key])


@pytest.mark.parametrize("options", [{"exact": True}, {"codec": "npy"}], ids=str)
def test_frames_that_are_kept_raw_are_trained_on(options: dict[str, Any], tmp_path: Path) -> None:
    from tendon.config.compose import compose
    from tendon.data.stats import compute_stats
    from tendon.train.loop.training import train

    size = 72 if "exact" in options else 40
    path = make_lift_like_hdf5(tmp_path / "lift.hdf5", images=True, size=size, episodes=3, length=6)
    manifest = convert(open_source(str(path)), str(tmp_path / "store"), "lift", ConversionOptions(**options))
    uri = dataset_uri(str(tmp_path / "store"), "lift", manifest.plan)
    assert {each.codec for each in manifest.schema.cameras} == {"npy"}
    words = ["env=lift", "policy=bc", "env.observation=[agentview_image,object]", f"data.uri={uri}", "device=cpu"]
    words += ["policy.hidden_dims=[8]", "policy.num_keypoints=4", "policy.feature_dim=8", "training.batch_size=4"]
    words += ["training.offline_steps=2", "training.save_freq=2", "training.valid_freq=2", "training.eval_freq=0"]
    config = compose([*words, "training.num_threads=1"])
    assert train(config, uri, compute_stats(open_dataset(uri), "train"), str(tmp_path / "trial")).step == 2
