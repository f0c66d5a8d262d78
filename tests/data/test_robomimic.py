"""The robomimic reader: what it takes over, and what the user reads when a file is broken."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tendon.data.plan import ConversionOptions, plan_conversion
from tendon.data.sources import SourceInfo, open_source
from tendon.errors import ConfigError, DataError
from tendon.storage import open_store

Maker = Callable[..., Path]


def describe(path: Path) -> SourceInfo:
    return open_source(str(path)).describe()


def test_describe(lift_like_hdf5: Maker) -> None:
    info = describe(lift_like_hdf5(episodes=12, images=True))
    assert [each.episode_id for each in info.episodes] == [f"demo_{i}" for i in range(12)]  # numeric, not lexical
    assert [each.length for each in info.episodes][:4] == [9, 10, 11, 9]
    assert info.splits["valid"] == ("demo_11",)
    assert info.splits["better"] == tuple(f"demo_{i}" for i in range(0, 12, 2))
    assert info.schema.dims == {
        "observation.object": 10, "observation.robot0_eef_pos": 3, "observation.robot0_eef_quat": 4,
        "observation.robot0_gripper_qpos": 2, "action": 7, "next.reward": 1, "next.done": 1,
    }  # fmt: skip
    assert {(each.dtype, each.source_dtype) for each in info.schema.columns if each.key != "next.done"} == {
        ("float32", "float64")
    }
    assert info.schema.fps == 20
    assert info.metadata["env_args"]["env_name"] == "Lift"
    assert "next_obs" in info.left_out


def test_values(lift_like_hdf5: Maker) -> None:
    path = lift_like_hdf5(images=True)
    episode = open_source(str(path)).read("demo_2")
    with h5py.File(path, locking=False) as file:
        demo = file["data/demo_2"]
        assert np.array_equal(episode.features["action"], demo["actions"][()].astype(np.float32))
        assert np.array_equal(episode.features["observation.object"], demo["obs/object"][()].astype(np.float32))
        assert np.array_equal(episode.features["next.done"], demo["dones"][()] != 0)
        images = episode.images["observation.images.agentview_image"]
        assert np.array_equal(images, demo["obs/agentview_image"][()])
    assert episode.success is True
    assert episode.task == "Lift"
    assert not open_source(str(path)).read("demo_2", images=False).images


def test_digest_is_of_the_content(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5()
    copy = tmp_path / "copy.without_suffix"
    copy.write_bytes(path.read_bytes())
    assert describe(copy).digest == describe(path).digest
    assert describe(lift_like_hdf5("other.hdf5", seed=1)).digest != describe(path).digest


def test_missing_rewards_dones_next_obs_and_masks(lift_like_hdf5: Maker) -> None:
    path = lift_like_hdf5(valid=0)
    with h5py.File(path, "a") as file:
        for name, demo in file["data"].items():
            del demo["dones"], demo["next_obs"]
            if name == "demo_1":
                del demo["rewards"], demo.attrs["num_samples"]
        del file["data"].attrs["env_args"]
    info = describe(path)
    assert "next.reward" not in info.schema.dims
    assert "next.done" not in info.schema.dims
    assert info.left_out["rewards"] == "only 5 of 6 demonstrations have it"
    assert set(info.splits) == {"train"}
    assert info.episodes[1].length == 10
    assert open_source(str(path)).read("demo_1").success is None
    assert not [problem for episode in info.episodes for problem in episode.problems]


def test_num_samples_counts_not_the_array(lift_like_hdf5: Maker) -> None:
    path = lift_like_hdf5()
    with h5py.File(path, "a") as file:
        file["data/demo_3"].attrs["num_samples"] = 7
    with pytest.raises(DataError, match="9 steps in demo_3, num_samples says 7") as error:
        plan_conversion(describe(path))
    assert len(error.value.problems) == 7  # one per array
    assert "data/demo_3/actions" in str(error.value)


def test_another_width(lift_like_hdf5: Maker) -> None:
    path = lift_like_hdf5()
    with h5py.File(path, "a") as file:
        for name in ("demo_0", "demo_4"):
            del file[f"data/{name}/actions"]
            file[f"data/{name}/actions"] = np.zeros((file[f"data/{name}"].attrs["num_samples"], 6))
    info = describe(path)
    with pytest.raises(DataError) as error:
        plan_conversion(info)
    assert [problem.what for problem in error.value.problems] == [
        "action has 6 values in demo_0, 7 values elsewhere",
        "action has 6 values in demo_4, 7 values elsewhere",
    ]
    text = str(error.value)
    assert str(path) in text
    assert "data.skip_episodes=[demo_4]" in text
    assert error.value.exit_code == 3
    plan = plan_conversion(info, ConversionOptions(skip_episodes=("demo_0", "demo_4")))
    assert [each.episode_id for each in plan.episodes] == ["demo_1", "demo_2", "demo_3", "demo_5"]
    with pytest.raises(ConfigError, match="write demo_5"):
        plan_conversion(info, ConversionOptions(skip_episodes=("demo_55",)))


def test_a_missing_observation(lift_like_hdf5: Maker) -> None:
    path = lift_like_hdf5()
    with h5py.File(path, "a") as file:
        del file["data/demo_2/obs/object"]
    with pytest.raises(DataError, match=r"observation\.object is missing in demo_2"):
        plan_conversion(describe(path))


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_broken_files(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    whole = lift_like_hdf5("whole.hdf5").read_bytes()
    with h5py.File(tmp_path / "nodata.hdf5", "w") as file:
        file["something"] = 1
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file.create_group("data")
    with h5py.File(tmp_path / "zero.hdf5", "w") as file:
        file.create_group("data/demo_0").attrs["num_samples"] = 0
    for path, says in [
        (tmp_path / "absent.hdf5", "does not exist"),
        (_write(tmp_path / "text.hdf5", b"<html>not found</html>"), "is not HDF5"),
        (_write(tmp_path / "nothing.hdf5", b""), "is not HDF5"),
        (_write(tmp_path / "cut.hdf5", whole[: len(whole) // 2]), "cut off or damaged"),
        (_write(tmp_path / "head.hdf5", whole[:100]), "cut off or damaged"),
        (tmp_path / "nodata.hdf5", "no group named data"),
        (tmp_path / "empty.hdf5", "dataset is empty"),
        (tmp_path / "zero.hdf5", "dataset is empty"),
    ]:
        with pytest.raises(DataError, match=says) as error:
            describe(path)
        assert [line.split(":")[0] for line in str(error.value).splitlines()] == ["error", "where", "why", "fix"]
        assert str(path) in str(error.value)


def test_a_damaged_array_is_named(lift_like_hdf5: Maker) -> None:
    path = lift_like_hdf5()
    with h5py.File(path, "a") as file:
        values = file["data/demo_1/obs/object"][()]
        del file["data/demo_1/obs/object"]
        packed = file["data/demo_1/obs"].create_dataset("object", data=values, compression="gzip")
        offset, size = packed.id.get_chunk_info(0).byte_offset, packed.id.get_chunk_info(0).size
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(DataError, match="data/demo_1/obs/object"):
        open_source(str(path)).read("demo_1")


def test_formats_and_sniffing(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write robomimic"):
        open_source(str(lift_like_hdf5()), "robomimc")
    with pytest.raises(DataError, match="not recognised"):
        open_source(str(tmp_path / "folder"))


def test_travels_to_another_process(lift_like_hdf5: Maker) -> None:
    source = open_source(str(lift_like_hdf5()))
    info = source.describe()
    copy = pickle.loads(pickle.dumps(source))
    assert copy.describe() == info
    assert np.array_equal(copy.read("demo_1").features["action"], source.read("demo_1").features["action"])


def test_from_s3(lift_like_hdf5: Maker, s3_uri: str) -> None:
    path = lift_like_hdf5()
    open_store(s3_uri).write("in/lift.hdf5", path.read_bytes())
    source = open_source(f"{s3_uri}/in/lift.hdf5")
    assert source.describe().digest == describe(path).digest
    assert source.read("demo_0").length == 9
    with pytest.raises(DataError, match=r"absent\.hdf5"):
        open_source(f"{s3_uri}/absent.hdf5")


def test_a_file_that_changes_after_its_digest_was_taken(lift_like_hdf5: Maker) -> None:
    path = lift_like_hdf5(episodes=3, length=4)
    source = open_source(str(path))
    source.describe()
    traveller = pickle.loads(pickle.dumps(source))
    with open(path, "ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="was changed while it was converted"):
        traveller.read("demo_0")


def test_arrays_in_one_piece(lift_like_hdf5: Maker) -> None:
    """Windows on the file, small arrays, an empty user block or none: the same values as HDF5 reads."""
    path = lift_like_hdf5(episodes=2, length=40, images=True)
    source = open_source(str(path))
    source.describe()
    key = "data/demo_1/obs/agentview_image"
    window = source.read("demo_1").images["observation.images.agentview_image"]
    with h5py.File(path, locking=False) as file:
        assert file[key].id.get_offset(), "it lies in one piece"
        assert np.array_equal(window, file[key][()])
        moved = path.with_name("moved.hdf5")
        with h5py.File(moved, "w", userblock_size=512) as other:
            for name in file:
                file.copy(name, other)
    again = open_source(str(moved)).read("demo_1")
    assert np.array_equal(again.images["observation.images.agentview_image"], window)
    assert np.array_equal(again.features["action"], source.read("demo_1").features["action"])
