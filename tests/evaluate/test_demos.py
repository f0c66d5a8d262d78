import json
from dataclasses import replace

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from tendon.errors import ConfigError, DataError, StorageError  # noqa: E402
from tendon.evaluate.demos import record_demos  # noqa: E402
from tendon.evaluate.guest import Guest  # noqa: E402


def test_the_file_is_laid_out_as_robomimic_reads_it(reach, tmp_path):
    report = record_demos(reach, 12, 1, tmp_path / "deep" / "reach.hdf5")
    assert report.episodes == 12
    with h5py.File(report.path) as file:
        data = file["data"]
        assert sorted(data, key=lambda name: int(name[5:])) == [f"demo_{index}" for index in range(12)]
        assert [data[f"demo_{index}"].attrs["seed"] for index in range(12)] == list(range(1, 13))
        assert json.loads(data.attrs["env_args"])["type"] == 2
        assert data.attrs["total"] == report.frames == sum(demo.attrs["num_samples"] for demo in data.values())
        masks = {name: set(file[f"mask/{name}"][:]) for name in ("train", "valid")}
        assert file["mask/train"].dtype.kind == "S"
        assert len(masks["valid"]) == 1
        assert masks["train"] | masks["valid"] == {name.encode() for name in data}
        assert not masks["train"] & masks["valid"]
        for demo in data.values():
            count = demo.attrs["num_samples"]
            assert demo["actions"].shape == (count, 2)
            assert demo["actions"].dtype == np.float64
            assert np.abs(demo["actions"][:]).max() <= 1
            assert sorted(demo["obs"]) == sorted(demo["next_obs"]) == ["agent_pos", "target_pos"]
            assert (demo["obs/agent_pos"][1:] == demo["next_obs/agent_pos"][:-1]).all()
            assert (demo["states"][:, :2] == demo["obs/agent_pos"][:]).all()
            assert demo["rewards"][:].tolist() == demo["dones"][:].tolist() == [0] * (count - 1) + [1]
            assert "model_file" not in demo.attrs


def test_the_recorded_actions_lead_to_the_recorded_observations(reach, tmp_path):
    record_demos(reach, 3, 5, tmp_path / "a.hdf5", noise=0.3)
    with h5py.File(tmp_path / "a.hdf5") as file, Guest(reach) as guest:
        demo = file["data/demo_2"]
        assert (guest.reset(7)["agent_pos"] == demo["obs/agent_pos"][0]).all()
        for action, expected in zip(demo["actions"][:], demo["next_obs/agent_pos"][:], strict=True):
            stepped = guest.step(action)
            assert (stepped.observation["agent_pos"] == expected).all()
        assert stepped.success


def test_same_seed_same_bytes_whatever_the_number_of_guests(reach, tmp_path):
    for index, num_guests in enumerate((1, 3, 3)):
        record_demos(reach, 8, 20, tmp_path / f"{index}.hdf5", noise=0.2, num_guests=num_guests)
    files = [(tmp_path / f"{index}.hdf5").read_bytes() for index in range(3)]
    assert files[0] == files[1] == files[2]
    record_demos(reach, 8, 21, tmp_path / "other.hdf5", noise=0.2)
    assert (tmp_path / "other.hdf5").read_bytes() != files[0]


def test_episodes_that_fail_or_crash_are_left_out_and_told(reach, troubled, tmp_path):
    short = replace(reach, episode_length=13)
    report = record_demos(short, 10, 1, tmp_path / "short.hdf5", num_guests=2)
    assert report.failed_seeds
    assert report.crashed_seeds == ()
    with h5py.File(report.path) as file:
        used = [demo.attrs["seed"] for demo in file["data"].values()]
    assert not set(used) & set(report.failed_seeds)
    assert sorted([*used, *report.failed_seeds]) == list(range(1, max(used) + 1))
    report = record_demos(troubled({"2": "exit", "3": "hang"}), 4, 1, tmp_path / "crash.hdf5", step_timeout_s=0.5)
    assert report.crashed_seeds == (2, 3)
    assert report.episodes == 4


def test_images_when_asked(reach, tmp_path):
    env = replace(reach, options={"image_size": 40})
    record_demos(env, 2, 1, tmp_path / "images.hdf5", images=True)
    with h5py.File(tmp_path / "images.hdf5") as file:
        images = file["data/demo_1/obs/top_image"]
        assert images.dtype == np.uint8
        assert images.shape == (file["data/demo_1"].attrs["num_samples"], 40, 40, 3)
        assert (images[0] != images[-1]).any()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"episode_length": 2}, DataError),
        ({"observation": ("agent_pos", "object")}, DataError),
        ({"task": "Grasp"}, ConfigError),
    ],
)
def test_nothing_is_left_behind_by_an_error(reach, tmp_path, change, error):
    with pytest.raises(error):
        record_demos(replace(reach, **change), 3, 1, tmp_path / "x.hdf5")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_storage_error(reach, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write demonstrations"):
        record_demos(reach, 1, 1, tmp_path / "file" / "x.hdf5")
    with pytest.raises(ConfigError, match="block"):
        record_demos(reach, 1, 10_000, tmp_path / "x.hdf5")
