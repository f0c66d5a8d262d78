"""Every kind of feature into a dataset and out of it, from every source and to every writer that can hold it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.episode import Episode, Schema
from tendon.data.features import Feature, column
from tendon.data.inspect import inspect_uri
from tendon.data.inspect_text import draw
from tendon.data.manifest import KEY, Manifest
from tendon.data.masks import RunLengths
from tendon.data.sources.episodes import EpisodesSource
from tendon.data.sources.minestudio import BUTTONS, INTERACTION, TARGET
from tendon.data.sources.source import Source, open_source
from tendon.data.stats import compute_stats
from tendon.data.verify import find_damage
from tendon.data.writers import write_dataset
from tendon.errors import DataError
from tests.conftest import make_lift_like_hdf5
from tests.data.everything import AIM, FRONT, REWARD, STATE, TASK, TEXTS, WRIST, episode, schema, source, without_frames
from tests.data.lerobot_sets import make
from tests.loader.coded import Coded


def converted(origin: Source, folder: Path, name: str = "x") -> Dataset:
    manifest = convert(origin, str(folder / "store"), name)
    return open_dataset(dataset_uri(str(folder / "store"), name, manifest.plan))


# Taken before features had kinds: datasets that format version 1 can say are what they were.
KEPT = {
    "coded": ("acea8e93df7db843", "61fee60117e13155"),
    "robomimic": ("6a03d0b04adb12ec", ""),  # the plan is that of the file's bytes, which h5py decides
    "lerobot": ("7713d6052875da53", ""),
}


def of_kind(name: str, folder: Path) -> Source:
    if name == "coded":
        return Coded(codecs=())
    if name == "robomimic":
        return open_source(str(make_lift_like_hdf5(folder / "lift.hdf5")))
    return open_source(str(make(folder / "set", "v2.1", video=False)))


@pytest.mark.parametrize("name", KEPT)
def test_version_1_is_kept(name: str, tmp_path: Path) -> None:
    dataset = converted(of_kind(name, tmp_path), tmp_path)
    digest, plan = KEPT[name]
    assert dataset.manifest.format_version == 1
    assert dataset.manifest.digest[:16] == digest
    assert not plan or dataset.manifest.plan == plan
    text = (Path(dataset.uri) / KEY).read_text()
    assert Manifest.from_json(text).to_json() == text
    assert "kind" not in text
    assert "masks" not in dataset.manifest.schema.to_json()


def test_a_kind_is_stored_and_never_guessed() -> None:
    kinds = {each.key: each.kind for each in schema().features}
    assert kinds == {
        STATE: "state", INTERACTION: "category", BUTTONS: "action", AIM: "action", REWARD: "reward", TASK: "text",
        FRONT: "image", WRIST: "image", TARGET: "mask",
    }  # fmt: skip
    again = Schema.from_json(schema().to_json())
    assert again == schema()
    assert again.format_version == 2
    # what a key ends with, and how long a shape is, means nothing
    odd = Schema(
        (column("observation.x_image", "float32", (3, 4, 3)), column("observation.mask", "uint8", (8, 8))), (), 10
    )
    assert [each.kind for each in odd.columns] == ["state", "state"]
    assert odd.format_version == 1
    with pytest.raises(ValueError, match="the kinds are state"):
        Feature("x", "picture", (), "uint8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("columns", "texts", "version"),
    [
        ((column("action", "float32", (2,)),), (), 1),
        ((column("action.arm", "float32", (2,)),), (), 1),
        ((column("action.arm", "float32", (2,)), column("action.hand", "float32", (1,))), (), 2),
        ((column("observation.mode", "int64", kind="category"),), (), 2),
        ((column("task", "int64", kind="text"),), ("a",), 2),
    ],
)
def test_the_oldest_version_that_can_say_it(columns: tuple[Feature, ...], texts: tuple[str, ...], version: int) -> None:
    made = Schema(columns, (), 10.0, texts=texts)
    assert made.format_version == version
    assert [each.kind for each in Schema.from_json(made.to_json()).columns] == [each.kind for each in columns]


def test_everything_in_a_dataset(tmp_path: Path) -> None:
    origin = source()
    dataset = converted(origin, tmp_path)
    manifest = dataset.manifest
    assert manifest.format_version == 2
    assert manifest.schema == origin.schema
    assert [row.splits for row in dataset.rows] == [("train",), ("train",), ("valid",)]
    for row in dataset.rows:
        same_values(dataset, row.index, origin.read(row.episode_id))
        assert dataset.frames(row, FRONT).shape == (row.length, 480, 640, 3)
        assert dataset.frames(row, WRIST).shape == (row.length, 96, 128, 3)
    assert dataset.texts == TEXTS
    assert dataset.task_numbers.tolist() == [0, 0, 0]
    assert list(find_damage(dataset)) == []
    stats = compute_stats(dataset)
    assert TASK not in stats.features
    assert {STATE, BUTTONS, AIM, REWARD, INTERACTION} <= stats.features.keys()
    shown = draw(inspect_uri(dataset.uri))
    for words in (
        "observation.interaction",
        "category",
        "observation.masks.target: 360 x 640, bits",
        "chop it",
        "find a tree",
    ):
        assert words in shown
    assert "3 episodes, 12 steps" in shown  # of 24 steps, 12 say find a tree


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    dataset = converted(source((8,)), tmp_path)
    at = int(dataset.table.array("target.bits/offset")[0]) + 200
    path = Path(dataset.uri) / dataset.manifest.shards[0].key
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.chmod(0o644)
    path.write_bytes(content)
    assert "ep_00000000.target.bits" in next(iter(find_damage(dataset))).where
    with pytest.raises(DataError, match=r"target\.bits"):
        dataset.masks(dataset.rows[0], TARGET)


FORMATS = {
    "robomimic": "out.hdf5",
    "lerobot-v2.1": "out21",
    "lerobot-v3.0": "out30",
    "modality": "out",
}


@pytest.mark.parametrize("through", ["a dataset", "nothing"])
@pytest.mark.parametrize("format", FORMATS)
def test_out_and_in_again(format: str, through: str, tmp_path: Path) -> None:
    """All of it, through a dataset or from Episodes in memory at once."""
    origin = source()
    given = converted(origin, tmp_path) if through == "a dataset" else origin
    target = str(tmp_path / FORMATS[format])
    write_dataset(given, target, format)
    back = open_source(target)
    again = converted(back, tmp_path, "again")
    kinds = {each.key: each.kind for each in again.schema.features if each.key != "timestamp"}  # LeRobot adds that
    assert kinds == {each.key: each.kind for each in origin.schema.features}
    names = {each.key: each.names for each in origin.schema.columns}
    assert {each.key: each.names for each in again.schema.columns if each.key != "timestamp"} == names
    for row, theirs in zip(again.rows, origin.describe().episodes, strict=True):
        episode = origin.read(theirs.episode_id)
        same_values(again, row.index, episode)
        if format != "modality":  # its readers know videos only
            encoded = (
                given.frames(given.rows[row.index], FRONT) if isinstance(given, Dataset) else episode.images[FRONT]
            )
            exact = format == "robomimic" and through == "nothing"
            tolerance = 12 if format == "robomimic" or through == "nothing" else 0  # JPEG, once more
            error = np.abs(back.read(row.episode_id).images[FRONT].astype(int) - encoded) if exact else None  # type: ignore[union-attr]
            assert error is None or not error.any()
            assert np.abs(again.frames(row, FRONT).astype(int) - encoded).max() <= tolerance


def test_minestudio_holds_one_camera_actions_and_the_target(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It has no place for a second camera, a reward, a state and a text, and says so."""
    pytest.importorskip("lmdb")
    origin = source((32, 64), steps_have_texts=False)
    write_dataset(origin, str(tmp_path / "out"), "minestudio-v1.1")
    for lost in (WRIST, REWARD, STATE, TASK):
        assert lost in caplog.text
    again = converted(open_source(str(tmp_path / "out")), tmp_path)
    assert {each.key: each.kind for each in again.schema.features} == {
        INTERACTION: "category", BUTTONS: "action", AIM: "action", FRONT.replace("front", "image"): "image",
        TARGET: "mask", TASK: "text",
    }  # fmt: skip
    for row in again.rows:
        same_values(again, row.index, origin.read(row.episode_id), (INTERACTION, BUTTONS, AIM))


def test_what_does_not_fit_its_schema_is_named() -> None:
    good = episode(0, 8)
    short = Episode("demo_1", 8, {**good.features, STATE: np.zeros((7, 3), np.float32)}, good.images)
    origin = EpisodesSource("demo://x", schema(), [good, short], "d")
    problems = [each.what for each in origin.describe().episodes[1].problems]
    assert problems == [
        "observation.state has the shape (7, 3) in demo_1",
        "observation.masks.target is missing in demo_1",
    ]
    with pytest.raises(DataError, match="missing in demo_1"):
        convert(origin, "/nowhere", "x")


def test_raw_frames_become_what_their_camera_says(tmp_path: Path) -> None:
    """Videos of Episodes in memory: they were refused, because only a source's own chunks were taken."""
    origin = source((5,))
    cameras = tuple(replace(each, codec="mp4", encoding="h264", fps=20.0, chunk=4) for each in origin.schema.cameras)
    videos = EpisodesSource("demo://videos", replace(origin.schema, cameras=cameras), [origin.read("demo_0")], "videos")
    dataset = converted(videos, tmp_path)
    chunks = dataset.video_chunks(dataset.rows[0], WRIST)
    assert [(each.first_frame, each.num_frames) for each in chunks] == [(0, 4), (4, 1)]
    shown = dataset.frames(dataset.rows[0], WRIST).astype(int)
    assert np.abs(shown - origin.read("demo_0").images[WRIST]).mean() < 6


def test_a_number_that_points_at_no_text_is_refused(tmp_path: Path) -> None:
    wrong = without_frames(source((8,)))
    wrong.read("demo_0").features[TASK][3] = 7
    with pytest.raises(DataError, match="task of demo_0 points at no text"):
        convert(wrong, str(tmp_path / "store"), "x")


def test_masks_as_runs_and_as_bits() -> None:
    rng = np.random.default_rng(1)
    masks = (rng.random((5, 7, 11)) > 0.6).astype(np.uint8)
    masks[2] = 0
    runs = RunLengths.of(masks)
    assert np.array_equal(runs.decoded(7, 11), masks)
    assert np.array_equal(RunLengths.of_text([runs.text(t) for t in range(5)]).decoded(7, 11), masks)
    assert runs.text(2) == ""
    assert RunLengths.of_text(["1 3 9 1"]).decoded(3, 4).reshape(-1).tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="starts"):
        RunLengths.of_text(["0 3"])


def same_values(dataset: Dataset, index: int, truth: Episode, keys: tuple[str, ...] = ()) -> None:
    row = dataset.rows[index]
    values = dataset.lowdim(row)
    for key in keys or [key for key in truth.features if key != TASK]:
        assert values[key].reshape(-1).tolist() == truth.features[key].reshape(-1).tolist(), key
    if TASK in truth.features and not keys:
        said = [dataset.texts[number] for number in values[TASK].reshape(-1)]
        assert said == [TEXTS[number] for number in truth.features[TASK]]
        assert row.task == truth.task
    assert np.array_equal(dataset.masks(row, TARGET), truth.masks[TARGET])
