"""An expert's Episodes go into convert and every writer, and are the dataset that its robomimic file was."""

from dataclasses import replace

import numpy as np
import pytest

from tendon import steps
from tendon.cli import main
from tendon.data.convert import convert
from tendon.data.dataset import open_dataset
from tendon.data.sources import open_source
from tendon.errors import ConfigError, DataError
from tendon.evaluate.demo_episodes import expert_episodes
from tendon.evaluate.demo_files import write_demos
from tendon.evaluate.demo_uri import parse_demo
from tendon.evaluate.demos import record_demos
from tendon.evaluate.experts import ExpertSettings

pytest.importorskip("h5py")


@pytest.mark.parametrize("images", [False, True])
def test_the_dataset_is_that_of_the_recorded_file(reach, tmp_path, images):
    env = replace(reach, options={"image_size": 32})
    record_demos(env, 5, 3, tmp_path / "demos.hdf5", images=images)
    of_file = convert(open_source(str(tmp_path / "demos.hdf5")), str(tmp_path / "store"), "file")
    with expert_episodes(ExpertSettings(env, 5, 3, images=images, num_guests=3), "demo://reach", "d" * 64) as source:
        of_expert = convert(source, str(tmp_path / "store"), "expert")
        assert source.lost.failed == source.lost.crashed == []
    assert of_expert.digest == of_file.digest
    assert of_expert.splits == of_file.splits
    assert of_expert.metadata == of_file.metadata
    assert of_expert.format_version == 1


def test_a_demo_source_is_converted_with_no_file_in_between(tmp_path):
    uri = "demo://reach?episodes=4&seed=2"
    made = steps.convert(source_uri=uri, store_uri=str(tmp_path / "store"), dataset_name="demos")
    assert made.num_episodes == 4
    assert [path for path in (tmp_path / "store").rglob("*") if path.suffix in (".hdf5", ".h5")] == []
    assert open_dataset(made.dataset_uri).manifest.sources[0].uri == uri
    with pytest.raises(ConfigError, match="no file to copy exactly"):
        steps.convert(source_uri=uri, store_uri=str(tmp_path / "store"), dataset_name="demos", exact=True)


def test_every_kind_of_feature_is_recorded(rich, tmp_path):
    """Two cameras of two sizes, a category, a text per episode, an action of two parts; the adapter is outside of tendon."""
    with expert_episodes(ExpertSettings(rich, 3, 1), "demo://rich", "r" * 64) as source:
        convert(source, str(tmp_path), "rich")
    (manifest,) = tmp_path.rglob("manifest.json")
    dataset = open_dataset(str(manifest.parent))
    schema = dataset.manifest.schema
    assert {feature.key: (feature.kind, feature.shape) for feature in schema.features} == {
        "observation.state": ("state", (1,)),
        "observation.where": ("category", (1,)),
        "action.buttons": ("action", (3,)),
        "action.camera": ("action", (2,)),
        "next.reward": ("reward", ()),
        "next.done": ("flag", ()),
        "observation.images.front": ("image", (48, 64, 3)),
        "observation.images.wrist_image": ("image", (12, 20, 3)),
        "task": ("text", ()),
    }
    assert [row.task for row in dataset.rows] == ["walk 1 steps", "walk to the end", "walk 3 steps"]
    assert dataset.lowdim(dataset.rows[0])["action.buttons"].tolist() == [[1, 0, 0]] * 5
    assert dataset.frames(dataset.rows[0], "observation.images.front").shape == (5, 48, 64, 3)


FORMATS = ("robomimic", "lerobot", "modality")


@pytest.mark.parametrize("format", [*FORMATS, "shards"])
def test_demo_data_in_every_format(tmp_path, monkeypatch, format, capsys):
    monkeypatch.chdir(tmp_path)
    output = "demos.hdf5" if format == "robomimic" else "demos"
    overrides = ["env=reach", "env.options={image_size: 32}"]
    assert main(["demo-data", *overrides, "--episodes", "3", "--images", "--format", format, "-o", output]) == 0
    if format == "shards":
        (manifest,) = (tmp_path / output).rglob("manifest.json")
        assert open_dataset(str(manifest.parent)).manifest.episodes == 3
        assert str(manifest.parent.name) in capsys.readouterr().out
        return
    source = open_source(str(tmp_path / output))
    info = source.describe()
    assert info.format == format
    assert len(info.episodes) == 3
    assert info.schema.cameras
    episode = source.read(info.episodes[0].episode_id)
    action = episode.features["action.action" if format == "modality" else "action"]
    assert action.shape == (info.episodes[0].length, 2)
    assert np.isfinite(action).all()


def test_buttons_and_a_camera_angle_are_minestudios(rich, tmp_path):
    long = replace(rich, options={"end": 50}, episode_length=60)  # its files keep whole chunks of 32 steps
    settings = ExpertSettings(replace(long, action={"buttons": ["forward", "jump", "attack"], "camera": 2}), 3, 1)
    write_demos(settings, str(tmp_path / "walks"), "minestudio")
    info = open_source(str(tmp_path / "walks")).describe()
    assert (info.format, len(info.episodes)) == ("minestudio", 3)
    columns = {feature.key: feature for feature in info.schema.columns}
    assert columns["action.buttons"].names == ("forward", "jump", "attack")
    with pytest.raises(DataError, match=r"choose another format"):  # it needs the names
        write_demos(replace(settings, env=long), str(tmp_path / "others"), "minestudio")


def test_what_an_expert_is_known_by_follows_what_it_records():
    usual = parse_demo("demo://reach?episodes=4").digest
    assert usual == parse_demo("demo://reach?episodes=4&seed=1").digest
    assert usual != parse_demo("demo://reach?episodes=5").digest


@pytest.mark.parametrize(
    ("uri", "images"),
    [("pusht", True), ("pusht?images=0", False), ("pusht_keypoints", False), ("lift", False), ("lift?images=1", True)],
)
def test_pictures_are_recorded_where_the_env_reads_some(uri, images):
    assert parse_demo(f"demo://{uri}").images is images
