"""Demonstrations of LeRobot's simulators: every feature that a policy of its family reads, in any format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tendon.cli import main
from tendon.config.compose import compose
from tendon.data.sources import open_source
from tendon.evaluate import sims

pytestmark = pytest.mark.sim
STATE, WORLD = "observation.state", "observation.environment_state"


def recorded(env: str, format: str, folder: Path, *more: str) -> Path:
    simulator = compose([f"env={env}", "data.uri=x"]).env.simulator
    if not sims.installed(simulator):
        pytest.skip(f"{simulator} is missing: tendon sims install {simulator}")
    output = folder / f"{env}-{format}"
    assert main(["demo-data", f"env={env}", "--episodes", "2", "--format", format, "-o", str(output), *more]) == 0
    return output


@pytest.mark.parametrize(
    ("env", "sizes", "images"),
    [
        ("pusht", {STATE: 2, WORLD: 16, "action": 2}, {"observation.image": (96, 96, 3)}),
        ("pusht_keypoints", {STATE: 2, WORLD: 16, "action": 2}, {}),
        ("pusht_state", {STATE: 5, "action": 2}, {}),
        ("aloha_state", {STATE: 14, WORLD: 7, "action": 14}, {}),
        ("aloha_insertion_state", {STATE: 14, WORLD: 14, "action": 14}, {}),
        ("xarm_corrected", {STATE: 4, WORLD: 28, "action": 4}, {"observation.image": (84, 84, 3)}),
        ("xarm_corrected_state", {STATE: 4, WORLD: 28, "action": 4}, {}),
    ],
)
def test_a_lerobot_dataset_has_every_feature(
    tmp_path: Path, env: str, sizes: dict[str, int], images: dict[str, tuple[int, ...]]
) -> None:
    folder = recorded(env, "lerobot", tmp_path)
    source = open_source(str(folder))
    info = source.describe()
    assert info.schema.fps == compose([f"env={env}", "data.uri=x"]).env.fps
    shapes = {feature.key: feature.shape for feature in info.schema.features}
    drawn = {feature.key: feature.shape for feature in info.schema.features if feature.kind == "image"}
    assert {key: shapes[key] for key in sizes} == {key: (size,) for key, size in sizes.items()}
    assert drawn == images
    episode = source.read(info.episodes[0].episode_id)
    assert episode.success
    for key in ("next.done", "next.success"):
        assert np.flatnonzero(episode.features[key]).tolist() == [episode.length - 1]
    assert len(np.unique(episode.features["next.reward"])) > 2  # shaped, not success alone
    assert "**Scripted.**" in (folder / "README.md").read_text()


@pytest.mark.parametrize("format", ["robomimic", "modality", "shards"])
def test_pusht_with_pictures_in_other_formats(tmp_path: Path, format: str) -> None:
    output = recorded("pusht_keypoints", format, tmp_path, "--images")
    if format == "shards":
        output = next(output.rglob("manifest.json")).parent
        from tendon.data.dataset import open_dataset

        schema = open_dataset(str(output)).manifest.schema
    else:
        schema = open_source(str(output)).describe().schema
    assert [(camera.height, camera.width) for camera in schema.cameras] == [(96, 96)]
    assert schema.fps == 10


def test_one_guest_and_two_record_the_same_bytes(tmp_path: Path) -> None:
    from tendon.evaluate.demos import record_demos

    if not sims.installed("pusht"):
        pytest.skip("pusht is missing: tendon sims install pusht")
    env = compose(["env=pusht_keypoints", "data.uri=x"]).env
    files = [record_demos(env, 3, 5, tmp_path / f"{num}.hdf5", num_guests=num).path for num in (1, 2)]
    assert files[0].read_bytes() == files[1].read_bytes()
