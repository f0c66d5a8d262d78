"""Edits of demonstrations as a recipe: what comes out, what is named, and that the digest says which recipe it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from tendon import cli
from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.recipe import Recipe
from tendon.data.sources import open_source
from tendon.errors import ConfigError
from tests.conftest import make_lift_like_hdf5
from tests.data import lerobot_sets

EDITS: list[dict[str, Any]] = [
    {"skip": ["demo_5"]},
    {"cut": {"demo_0": [2, 7]}},
    {"split": {"demo_1": [4, 6]}},
    {"merge": {"joined": ["demo_2", "demo_3"]}},
    {"relabel": {"demo_4": "push the cube", "demo_1.1": "wait"}},
    {"weights": {"demo_4": 0.25}},
]


def converted(path: str, store: Path) -> Dataset:
    manifest = convert(open_source(path), str(store), "edited")
    return open_dataset(dataset_uri(str(store), "edited", manifest.plan))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_lift_like_hdf5(tmp_path / "lift.hdf5", images=True)


def written(tmp_path: Path, edits: Any, name: str = "recipe.yaml") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(edits) if name.endswith(".json") else yaml.safe_dump(edits))
    return path


def test_episodes_are_what_the_recipe_says(source: Path, tmp_path: Path) -> None:
    plain = converted(str(source), tmp_path / "store")
    edited = converted(f"{source}?recipe={written(tmp_path, EDITS)}", tmp_path / "store")
    steps = {row.episode_id: plain.lowdim(row)["action"] for row in plain.rows}
    pictures = {row.episode_id: plain.jpegs(row, plain.schema.cameras[0].name) for row in plain.rows}
    expected = {
        "demo_0": [("demo_0", 2, 7)],
        "demo_1.0": [("demo_1", 0, 4)],
        "demo_1.1": [("demo_1", 4, 6)],
        "demo_1.2": [("demo_1", 6, len(steps["demo_1"]))],
        "joined": [("demo_2", 0, len(steps["demo_2"])), ("demo_3", 0, len(steps["demo_3"]))],
        "demo_4": [("demo_4", 0, len(steps["demo_4"]))],
    }
    assert {row.episode_id for row in edited.rows} == expected.keys()
    for row in edited.rows:
        spans = expected[row.episode_id]
        assert (edited.lowdim(row)["action"] == np.concatenate([steps[i][b:e] for i, b, e in spans])).all()
        frames = edited.jpegs(row, edited.schema.cameras[0].name)
        assert frames == [each for i, b, e in spans for each in pictures[i][b:e]]
    tasks = {row.episode_id: row.task for row in edited.rows}
    assert (tasks["demo_4"], tasks["demo_1.1"]) == ("push the cube", "wait")
    assert tasks["demo_0"] == plain.rows[0].task
    assert edited.manifest.metadata["recipe"]["weights"] == {"demo_4": 0.25}


def test_the_digest_of_the_recipe_is_part_of_the_dataset_s(source: Path, tmp_path: Path) -> None:
    datasets = [
        converted(f"{source}?recipe={written(tmp_path, edits, f'{n}.yaml')}", tmp_path / "store").manifest
        for n, edits in enumerate([[{"skip": ["demo_5"]}], [{"skip": ["demo_5"]}, {"weights": {"demo_4": 0.5}}]])
    ]
    assert datasets[0].shards == datasets[1].shards  # the same bytes, and yet another dataset
    assert datasets[0].digest != datasets[1].digest
    assert datasets[0].plan != datasets[1].plan
    as_json = written(tmp_path, [{"skip": ["demo_5"]}], "same.json")
    again = converted(f"{source}?recipe={as_json}", tmp_path / "elsewhere").manifest
    assert (again.digest, again.plan) == (datasets[0].digest, datasets[0].plan)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_video_is_cut_and_joined_without_decoding(version: str, tmp_path: Path) -> None:
    root = lerobot_sets.make(tmp_path / "set", version, g=2)
    edits = [{"cut": {"episode_000001": [3, 20]}}, {"merge": {"both": ["episode_000000", "episode_000001"]}}]
    plain = converted(str(root), tmp_path / "store")
    edited = converted(f"{root}?recipe={written(tmp_path, edits)}", tmp_path / "store")
    rows = {row.episode_id: row for row in plain.rows}
    (row,) = [row for row in edited.rows if row.episode_id == "both"]
    wanted = np.concatenate(
        [
            plain.frames(rows["episode_000000"], lerobot_sets.CAMERA),
            plain.frames(rows["episode_000001"], lerobot_sets.CAMERA)[3:20],
        ]
    )
    assert (edited.frames(row, lerobot_sets.CAMERA) == wanted).all()
    times = edited.lowdim(row)["timestamp"].reshape(-1) if "timestamp" in edited.schema.dims else np.arange(35) / 10
    assert times == pytest.approx(np.arange(len(wanted)) / lerobot_sets.FPS, abs=1e-4)


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ({"skip": ["demo_0"]}, "a list of edits"),
        ([{"skip": ["demo_0"], "cut": {}}], "not one name"),
        ([{"skp": ["demo_0"]}], "did you mean skip"),
        ([{"skip": "demo_0"}], "they are [episodes]"),
        ([{"cut": {"demo_0": [1]}}], "[begin, end]"),
        ([{"cut": {"demo_0": [True, 3]}}], "[begin, end]"),
        ([{"cut": {"demo_0": [4, 2]}}], "kept would be 4 to 2"),
        ([{"cut": {"demo_0": [0, 100]}}], "kept would be 0 to 100"),
        ([{"split": {"demo_0": [0]}}], "would begin at [0]"),
        ([{"merge": {"a": ["demo_0", "demo_0"]}}], "named twice"),
        ([{"merge": {"demo_2": ["demo_0", "demo_1"]}}], "there already"),
        ([{"relabel": {"demo_0": " "}}], "{episode: text}"),
        ([{"weights": {"demo_0": float("nan")}}], "number from 0"),
        ([{"skip": ["demo_77"]}], "which is not there"),
        ([{"skip": ["demo_0"]}, {"cut": {"demo_0": [0, 2]}}], "which is not there"),
        ([{"skip": [f"demo_{i}" for i in range(6)]}], "leaves no episode"),
    ],
)
def test_what_cannot_be_done_is_named(
    edits: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    command = ["convert", "--source-uri", str(source), "--store-uri", str(tmp_path / "store")]
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--recipe", str(written(tmp_path, edits))])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert says in told
    assert "recipe.yaml" in told
    assert not list((tmp_path / "store").rglob("*.tar"))


def test_references_in_a_recipe_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("- skip: &a [demo_0]\n- skip: *a\n")
    with pytest.raises(ConfigError, match="references"):
        open_source(f"{make_lift_like_hdf5(tmp_path / 'lift.hdf5')}?recipe={path}")


def test_training_draws_as_often_as_the_recipe_says(tmp_path: Path) -> None:
    from tendon.config.compose import compose
    from tendon.loader.configured import ordering_of
    from tendon.policies.windows import Windows

    source = make_lift_like_hdf5(tmp_path / "lift.hdf5")
    with h5py.File(source, "a") as file:
        del file["mask"]
    dataset = converted(f"{source}?recipe={written(tmp_path, [{'weights': {'demo_1': 3.0, 'demo_2': 0.5}}])}", tmp_path)
    data = compose(["env=reach", "data.uri=x", "data.episode_weights={demo_2: 2.0}"]).data
    windows = Windows.of({"action": (0,)})
    assert ordering_of(data, windows, [dataset], "train").weights == {"demo_1": 3.0, "demo_2": 2.0}


def test_a_recipe_is_a_value() -> None:
    assert Recipe.of([{"skip": ["a"]}], "here") == Recipe.of([{"skip": ["a"]}], "there")
