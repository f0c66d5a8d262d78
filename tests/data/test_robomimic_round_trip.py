"""robomimic -> shards -> robomimic: every array byte for byte when converted exactly, and close to it otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tendon.data.convert import ConversionOptions, convert
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.data.writers import write_dataset
from tendon.errors import DataError
from tendon.storage import open_store

Maker = Callable[..., Path]


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every array of a file by path: dtype, shape, bytes."""
    found: dict[str, tuple[str, tuple[int, ...], bytes]] = {}

    def visit(name: str, each: Any) -> None:
        if isinstance(each, h5py.Dataset):
            values = np.asarray(each[()])
            found[name] = (values.dtype.str, values.shape, values.tobytes())

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def attributes(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, each: found.update({f"{name}@{k}": v for k, v in each.attrs.items()}))
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in found.items()}


def converted(path: Path, tmp_path: Path, exact: bool) -> Dataset:
    manifest = convert(open_source(str(path)), str(tmp_path / "store"), "d", ConversionOptions(exact=exact))
    return open_dataset(str(tmp_path / "store" / "datasets" / "d" / manifest.plan))


def with_everything(path: Path) -> Path:
    """Adds what later versions and other makers of such files add."""
    rng = np.random.default_rng(7)
    with h5py.File(path, "a") as file:
        file["data"].attrs["date"] = "2026-01-02"
        for i, (name, demo) in enumerate(file["data"].items()):
            T = int(demo.attrs["num_samples"])
            demo.attrs["ep_meta"] = json.dumps({"lang": "lift the cube", "layout": i})
            demo.attrs["camera_info"] = json.dumps({"agentview": {"intrinsics": [[1.0, 0.0], [0.0, 1.0]]}})
            demo["actions_abs"] = rng.normal(size=(T, 7))
            demo["action_dict/rel_pos"] = rng.normal(size=(T, 3)).astype(np.float32)
            demo["obs/agentview_depth"] = rng.random((T, 16, 16, 1)).astype(np.float32)
            demo["next_obs/agentview_depth"] = rng.random((T, 16, 16, 1)).astype(np.float32)
            demo["datagen_info/object_poses/cube"] = rng.normal(size=(T, 4, 4))
            demo["datagen_info"].attrs["env_interface_name"] = "MG_Lift"
            demo["src_demo_inds"] = np.arange(3)
            demo["src_demo_labels"] = np.array([b"a", b"bc"])
            if name == "demo_0":
                demo["states"][0, 0] = np.nan  # not a feature: nothing to complain about
    return path


def test_exact_is_byte_equal(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = with_everything(lift_like_hdf5(images=True, size=72))
    dataset = converted(path, tmp_path, exact=True)
    target = tmp_path / "out" / "again.hdf5"
    write_dataset(dataset, str(target), "robomimic")
    before, after = contents(path), contents(target)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == set()
    assert attributes(path) == attributes(target)


def test_exact_reads_as_usual_for_training(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5(images=True)
    exact, usual = converted(path, tmp_path, True), converted(path, tmp_path, False)
    assert exact.manifest.plan != usual.manifest.plan
    assert exact.manifest.left_out == {}
    for one, other in zip(exact.rows, usual.rows, strict=True):
        assert one.episode_id == other.episode_id
        a, b = exact.lowdim(one), usual.lowdim(other)
        assert a.dtype["action"].base == np.float64
        assert np.array_equal(a["action"].astype(np.float32), b["action"])
        with h5py.File(path) as file:
            frames = file[f"data/{one.episode_id}/obs/agentview_image"][()]
        assert np.array_equal(exact.frames(one, "observation.images.agentview_image"), frames)
        assert np.array_equal(exact.frames(one, "observation.images.agentview_image", [3, 1]), frames[[3, 1]])


def test_usual_conversion_leaves_in_float32(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5()
    target = tmp_path / "again.hdf5"
    write_dataset(converted(path, tmp_path, False), str(target), "robomimic")
    before, after = contents(path), contents(target)
    for name, (dtype, shape, values) in before.items():
        if "/states" in name or "/next_obs" in name:
            assert name not in after
        elif dtype == "<f8":
            assert after[name][:2] == (dtype, shape)
            cast = np.frombuffer(values, np.float64).astype(np.float32).astype(np.float64)
            assert after[name][2] == cast.tobytes()
        else:
            assert after[name] == (dtype, shape, values)


def test_names_from_elsewhere_and_no_masks(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5(valid=0)
    with h5py.File(path, "a") as file:
        for i in reversed(range(6)):  # numbered from 1, as robosuite records
            file.move(f"data/demo_{i}", f"data/demo_{i + 1}")
    target = tmp_path / "again.hdf5"
    write_dataset(converted(path, tmp_path, False), str(target), "robomimic")
    with h5py.File(target) as file:
        assert sorted(file["data"]) == [f"demo_{i}" for i in range(1, 7)]
        assert "mask" not in file
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "Lift"
        assert file["data"].attrs["total"] == 60


def test_depth_and_action_dict(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = with_everything(lift_like_hdf5())
    dataset = converted(path, tmp_path, exact=False)
    manifest, row = dataset.manifest, dataset.rows[0]
    assert manifest.schema.dims["action_dict.rel_pos"] == 3
    assert manifest.schema.dims["action_abs"] == 7
    assert {"datagen_info", "states", "src_demo_inds", "src_demo_labels"} <= set(manifest.left_out)
    assert row.task == "lift the cube"
    with h5py.File(path) as file:
        depth = file[f"data/{row.episode_id}/obs/agentview_depth"][()]
    from tendon.data.extras import npy_array

    assert np.array_equal(npy_array(dataset.extras(row)["agentview_depth.npy"]), depth)


@pytest.mark.parametrize("chunks", [True, (1, 40, 40, 3), (7, 16, 24, 2)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_gzip_chunks(lift_like_hdf5: Maker, chunks: Any, shuffle: bool) -> None:
    path = lift_like_hdf5(images=True, size=40, episodes=2)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            values = demo["obs/agentview_image"][()]
            del demo["obs/agentview_image"]
            demo.create_dataset("obs/agentview_image", data=values, compression="gzip", chunks=chunks, shuffle=shuffle)
            wide = np.random.default_rng(0).normal(size=(len(values), 1500))
            demo.create_dataset("obs/wide", data=wide, compression="gzip", shuffle=shuffle)
    source = open_source(str(path))
    episode = source.read("demo_1")
    with h5py.File(path, locking=False) as file:
        images = file["data/demo_1/obs/agentview_image"]
        assert np.array_equal(episode.images["observation.images.agentview_image"], images[()])
        wide32 = file["data/demo_1/obs/wide"][()].astype(np.float32)
        assert np.array_equal(episode.features["observation.wide"], wide32)


def test_a_damaged_chunk_is_named(lift_like_hdf5: Maker) -> None:
    from tendon.errors import DataError

    path = lift_like_hdf5(images=True, size=40, episodes=2)
    with h5py.File(path, "a") as file:
        demo = file["data/demo_0"]
        values = demo["obs/agentview_image"][()]
        del demo["obs/agentview_image"]
        array = demo.create_dataset("obs/agentview_image", data=values, compression="gzip", chunks=(1, 40, 40, 3))
        at = array.id.get_chunk_info(3).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(at + 10)
        raw.write(b"\xff" * 40)
    with pytest.raises(DataError, match="agentview_image"):
        open_source(str(path)).read("demo_0").images["observation.images.agentview_image"]


def test_extras_are_verified(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    from tendon.errors import DataError

    dataset = converted(lift_like_hdf5(), tmp_path, exact=True)
    shard = tmp_path / "store" / "datasets" / "d" / dataset.manifest.plan / dataset.manifest.shards[0].key
    row = dataset.rows[0]
    offset = dataset.table.column("extra.offset")[row.index].as_py()[0]
    content = bytearray(open_store(dataset.uri).read(dataset.manifest.shards[0].key))
    content[offset + 100] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"extra\.robomimic\.npz"):
        dataset.extras(row)


def everything_in(path: Path) -> dict[str, Any]:
    """Every object and attribute of a file with type, shape and value, as HDF5 has them."""

    def told(stored: Any, value: Any) -> tuple[Any, ...]:
        empty = stored.get_space().get_simple_extent_type() == h5py.h5s.NULL
        shown = None if empty else value.tobytes() if getattr(value, "dtype", np.dtype("O")) != "O" else repr(value)
        return None if empty else stored.shape, stored.get_type().encode(), shown

    found: dict[str, Any] = {}

    def visit(name: str, each: Any) -> None:
        if isinstance(each, h5py.Group):
            links = {key: each.get(key, getlink=True) for key in each}
            found[name] = sorted((key, getattr(link, "path", "")) for key, link in links.items())
        else:
            found[name] = told(each.id, each[()])
        for key, value in each.attrs.items():
            found[f"{name}@{key}"] = told(each.attrs.get_id(key), value)

    with h5py.File(path) as file:
        visit("/", file)
        file.visititems(visit)
    return found


def with_every_type(path: Path) -> Path:
    """Types, spaces and objects that h5py does not write by itself for the values that it reads of them."""
    text = h5py.string_dtype()
    with h5py.File(path, "a") as file:
        file.attrs["maker"], file.attrs["bytes"] = "r", np.bytes_(b"ab\xff")
        attributes = {"list": ["a", "b"], "table": np.array([["a", "b"]], text), "width": np.array([b"x", b"yy"]),
                      "flag": True, "nothing": h5py.Empty("f4"), "nan": np.array([np.nan, 1.0]), "ascii": np.bytes_("a"),
                      "none": np.array([], "f8"), "big": np.array([1, 2], ">i2")}  # fmt: skip
        for name, value in attributes.items():
            file["data"].attrs[name] = value
        file["mask"].attrs["made"] = "by hand"
        file["mask/20_percent"] = np.array(["demo_1", "demo_0"], text)
        file["mask/none"] = np.array([], "S8")
        file["mask/train"].attrs["why"] = "x"
        file["beside/more"] = np.arange(4)
        file["beside"].attrs["x"] = 1
        del file["data"].attrs["total"]
        for number, demo in enumerate(file["data"].values()):
            values = demo["obs/object"][()] if "obs/object" in demo else demo["actions"][()]
            demo["obs/big_endian"] = values.astype(">f4")
            demo["obs/flags"] = values[:, :2] > 0
            demo["obs/half"] = values.astype(np.float16)
            if number:
                continue
            demo["label"], demo["texts"] = "text of one", np.array(["a", "b\u00e9cd", ""], text)
            demo["empty"], demo["null"], demo["scalar"] = np.zeros((0, 3)), h5py.Empty("f8"), np.float64(3.5)
            demo["complex"], demo["big"] = np.array([1 + 2j]), np.arange(3, dtype=">u2")
            demo["compound"] = np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])
            demo["enumeration"] = np.array([1, 2], h5py.enum_dtype({"A": 1, "B": 2}, "i4"))
            demo.create_group("group without members")
            demo["alias"] = h5py.SoftLink("actions")
            demo["obs"].attrs["kind"], demo["actions"].attrs["units"] = np.float32(3), "m"
            del demo.attrs["num_samples"]
    return path


def test_exact_keeps_types_spaces_links_and_what_stands_beside(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = with_every_type(with_everything(lift_like_hdf5(images=True, size=72)))
    with h5py.File(path, "a") as file:
        file.move("data/demo_3", "data/an episode")
    target = tmp_path / "again.hdf5"
    write_dataset(converted(path, tmp_path, exact=True), str(target), "robomimic")
    before, after = everything_in(path), everything_in(target)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == set()


def test_exact_refuses_what_only_the_file_itself_can_say(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5()
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["points"] = file["data/demo_0/actions"].ref
    with pytest.raises(DataError, match="an exact copy cannot keep this") as refused:
        converted(path, tmp_path, exact=True)
    assert "demo_0, attribute points" in refused.value.problems[0].where
    assert converted(path, tmp_path, exact=False).manifest.episodes == 6
