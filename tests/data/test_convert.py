"""Conversion: the same bytes however it ran, nothing that looks finished unless it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tendon.data.convert import ConversionOptions, convert, dataset_uri, find_dataset, plan_digest, rebuild_index
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.episode import Episode
from tendon.data.manifest import Manifest
from tendon.data.plan import MB, deal
from tendon.data.sources import Source, SourceInfo, open_source
from tendon.data.verify import find_damage
from tendon.errors import ConfigError, DataError, Interrupted, StorageError
from tendon.storage import open_store

Maker = Callable[..., Path]
SMALL_SHARDS = ConversionOptions(shard_bytes=6000)  # several shards from a few small episodes


def converted(path: Path, store: str, workers: int = 1, options: ConversionOptions = SMALL_SHARDS) -> Dataset:
    manifest = convert(open_source(str(path)), store, "lift", options, workers)
    return open_dataset(dataset_uri(store, "lift", manifest.plan))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_is_there(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5(images=True)
    seen: list[tuple[int, int, str]] = []
    manifest = convert(open_source(str(path)), str(tmp_path), "lift", SMALL_SHARDS, 1, lambda *each: seen.append(each))
    dataset = open_dataset(dataset_uri(str(tmp_path), "lift", manifest.plan))
    assert Manifest.from_json(manifest.to_json()) == manifest == dataset.manifest
    assert len(manifest.shards) > 2
    assert (manifest.episodes, manifest.steps) == (6, 60)
    assert manifest.splits["train"].episodes == 5
    assert manifest.plan == plan_digest(manifest.sources[0].sha256, SMALL_SHARDS)
    assert seen[-1] == (60, 60, "steps converted")
    assert seen[5] == (6, 6, "episodes checked")
    source = open_source(str(path))
    for row in dataset.rows:
        episode = source.read(row.episode_id)
        rows = dataset.lowdim(row)
        assert all(np.array_equal(rows[name], values) for name, values in episode.features.items())
        assert len(dataset.jpegs(row, "observation.images.agentview_image")) == row.length == episode.length
        one = dataset.jpegs(row, "observation.images.agentview_image", [2])
        assert one == dataset.jpegs(row, "observation.images.agentview_image")[2:3]
    assert [row.episode_id for row in dataset.episodes("valid")] == ["demo_5"]
    assert [row.index for row in dataset.rows] == list(range(6))
    assert len(manifest.to_json()) < 100_000


def test_same_bytes_with_one_worker_three_workers_and_on_s3(lift_like_hdf5: Maker, tmp_path: Path, s3_uri: str) -> None:
    path = lift_like_hdf5(images=True)
    one = converted(path, str(tmp_path / "one"))
    three = converted(path, str(tmp_path / "three"), workers=3)
    assert one.manifest == three.manifest
    assert files(tmp_path / "one") == files(tmp_path / "three")
    remote = converted(path, s3_uri)
    assert remote.manifest == one.manifest
    assert np.array_equal(remote.lowdim(remote.rows[3]), one.lowdim(one.rows[3]))
    moved = tmp_path / "elsewhere.hdf5"
    moved.write_bytes(path.read_bytes())
    assert converted(moved, str(tmp_path / "moved")).manifest.digest == one.manifest.digest


def test_a_committed_dataset_is_returned_at_once(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5()
    first = converted(path, str(tmp_path / "s"))
    before = files(tmp_path / "s")

    class Unreadable:
        uri = "x"
        info = open_source(str(path)).describe()

        def describe(self) -> Any:
            return self.info

        def read(self, episode_id: str, images: bool = True) -> Any:
            raise AssertionError("nothing needs to be read")

    assert convert(Unreadable(), str(tmp_path / "s"), "lift", SMALL_SHARDS) == first.manifest
    digest = Unreadable.info.digest
    assert find_dataset(str(tmp_path / "s"), "lift", digest, SMALL_SHARDS) == first.manifest
    assert find_dataset(str(tmp_path / "s"), "lift", digest) is None
    assert files(tmp_path / "s") == before


@pytest.mark.parametrize("survivors", [0, 1, 3, 100])
def test_killed_at_a_write_and_run_again(
    lift_like_hdf5: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    """The disk stops taking writes after so many; whatever is left, the next run ends with the same bytes."""
    path = lift_like_hdf5()
    whole = converted(path, str(tmp_path / "whole"))
    from tendon.storage.local import LocalStore

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: LocalStore, key: str, data: bytes) -> Any:
            nonlocal left
            if left <= 0:
                raise KeyboardInterrupt
            left -= 1
            return real(self, key, data)

        return call

    left = survivors
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "write", dying(LocalStore.write))
        patch.setattr(LocalStore, "create", dying(LocalStore.create))
        if survivors < 100:
            with pytest.raises(KeyboardInterrupt):
                converted(path, str(tmp_path / "again"))
            with pytest.raises(DataError, match="no dataset here"):
                open_dataset(dataset_uri(str(tmp_path / "again"), "lift", whole.manifest.plan))
    converted(path, str(tmp_path / "again"))
    assert files(tmp_path / "again") == files(tmp_path / "whole")


def test_sigkill_of_a_converter_with_workers(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5(episodes=20, length=20, images=True)
    code = (
        "import sys\nfrom tendon.data.convert import *\nfrom tendon.data.sources import open_source\n"
        "if __name__ == '__main__':\n convert(open_source(sys.argv[1]), sys.argv[2], 'lift',"
        " ConversionOptions(shard_bytes=30000), 2)\n"
    )
    (tmp_path / "run.py").write_text(code)
    child = subprocess.Popen([sys.executable, tmp_path / "run.py", path, tmp_path / "killed"], start_new_session=True)
    while child.poll() is None and len(list(tmp_path.glob("killed/**/_work/*.receipt"))) < 2:
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    receipts = len(list(tmp_path.glob("killed/**/_work/*.receipt")))
    options = ConversionOptions(shard_bytes=30000)
    whole = converted(path, str(tmp_path / "whole"), options=options)
    assert 0 < receipts <= len(whole.manifest.shards)
    again = converted(path, str(tmp_path / "killed"), options=options)
    assert again.manifest == whole.manifest
    listed = {info.key for info in again.store.list("shards/")}
    assert listed == {shard.key for shard in again.manifest.shards}


def test_two_converters_at_once(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5()
    whole = converted(path, str(tmp_path / "whole"))
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: converted(path, str(tmp_path / "both")).manifest, range(3)))
    assert results == [whole.manifest] * 3
    assert files(tmp_path / "both") == files(tmp_path / "whole")


class DyingSource:
    """Kills the process that reads from it, as the kernel does when memory runs out."""

    def __init__(self, source: Source) -> None:
        self.uri, self.source, self.parent = source.uri, source, os.getpid()

    def describe(self) -> SourceInfo:
        return self.source.describe()

    def read(self, episode_id: str, images: bool = True) -> Episode:
        if os.getpid() != self.parent:
            os._exit(9)
        return self.source.read(episode_id, images)


def test_a_killed_worker_is_an_interruption(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5()
    with pytest.raises(Interrupted, match="converter process was killed"):
        convert(DyingSource(open_source(str(path))), str(tmp_path / "s"), "lift", SMALL_SHARDS, 2)
    assert converted(path, str(tmp_path / "s")).manifest == converted(path, str(tmp_path / "t")).manifest


def test_a_dead_endpoint(lift_like_hdf5: Maker, s3_environment: pytest.MonkeyPatch) -> None:
    s3_environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3_environment.setattr("tendon.storage.s3.BACKOFF_S", (0.001, 0.002))
    with pytest.raises(StorageError, match="cannot be reached"):
        converted(lift_like_hdf5(), "s3://bucket/x")


def test_a_cut_shard_is_made_again(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5()
    dataset = converted(path, str(tmp_path))
    shard = Path(dataset.uri) / dataset.manifest.shards[0].key
    content = shard.read_bytes()
    shard.write_bytes(content[:-700])
    (Path(dataset.uri) / "manifest.json").unlink()
    assert converted(path, str(tmp_path)).manifest == dataset.manifest
    assert shard.read_bytes() == content


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_values_stop_before_anything_is_written(lift_like_hdf5: Maker, tmp_path: Path, workers: int) -> None:
    path = lift_like_hdf5()
    with h5py.File(path, "a") as file:
        file["data/demo_2/obs/object"][4, 7] = np.nan
        file["data/demo_4/actions"][1, 0] = np.inf
    with pytest.raises(DataError) as error:
        converted(path, str(tmp_path / "s"), workers)
    first, second = error.value.problems
    assert first.what == "observation.object is not finite in demo_2"
    assert "step 4, dimension 7" in first.where
    assert str(path) in first.where
    assert "data.skip_episodes=[demo_2]" in first.fix
    assert second.what == "action is not finite in demo_4"
    assert not (tmp_path / "s").exists()
    options = ConversionOptions(skip_episodes=("demo_4", "demo_2"))
    dataset = converted(path, str(tmp_path / "s"), workers, options)
    assert [row.episode_id for row in dataset.rows] == ["demo_0", "demo_1", "demo_3", "demo_5"]
    assert plan_digest("x", options) == plan_digest("x", replace(options, skip_episodes=("demo_2", "demo_4")))
    assert plan_digest("x", options) != plan_digest("x")


def test_wrong_widths_leave_nothing(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5()
    with h5py.File(path, "a") as file:
        del file["data/demo_1/actions"]
        file["data/demo_1/actions"] = np.zeros((10, 8))
    with pytest.raises(DataError, match="action has 8 values in demo_1, 7 values elsewhere"):
        converted(path, str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()


def test_an_error_in_a_worker_keeps_its_four_lines(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5(images=True)
    with h5py.File(path, "a") as file:  # an image that only a worker reads
        values = file["data/demo_3/obs/agentview_image"][()]
        del file["data/demo_3/obs/agentview_image"]
        packed = file["data/demo_3/obs"].create_dataset("agentview_image", data=values, compression="gzip")
        at = packed.id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[at.byte_offset : at.byte_offset + at.size] = bytes(at.size)
    path.write_bytes(content)
    with pytest.raises(DataError, match="demo_3/obs/agentview_image"):
        converted(path, str(tmp_path / "s"), workers=2)
    assert not list((tmp_path / "s").rglob("manifest.json"))


def test_damage_is_named_at_every_read(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    dataset = converted(lift_like_hdf5(), str(tmp_path))
    assert list(find_damage(dataset)) == []
    row = dataset.rows[2]
    entry = dataset.manifest.shards[row.shard]
    shard = Path(dataset.uri) / entry.key
    offset = dataset.table.column("lowdim.npy/offset")[2].as_py()
    content = bytearray(shard.read_bytes())
    content[offset + 300] ^= 1
    shard.write_bytes(content)
    for harm in ("flip", "cut", "gone"):
        if harm == "cut":
            shard.write_bytes(content[: offset + 200])
        if harm == "gone":
            shard.unlink()
        with pytest.raises(DataError) as error:
            open_dataset(dataset.uri).lowdim(row)
        where = error.value.problems[0].where
        for part in (entry.key, "ep_00000002.lowdim.npy", f"offset {offset}", "demo_2", "lift.hdf5"):
            assert part in where
        assert [entry.key in problem.where for problem in list(find_damage(dataset))] == [True]


def test_a_damaged_index_is_named_and_rebuilt(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    dataset = converted(lift_like_hdf5(images=True), str(tmp_path))
    rebuilt = rebuild_index(dataset.store, dataset.manifest)
    assert rebuilt == dataset.store.read(dataset.manifest.index.key)
    dataset.store.write(dataset.manifest.index.key, rebuilt[:-5])
    with pytest.raises(DataError, match="index of a dataset is damaged"):
        open_dataset(dataset.uri).episodes()
    dataset.store.write("manifest.json", b"{")
    with pytest.raises(DataError, match="manifest cannot be read"):
        open_dataset(dataset.uri)
    dataset.store.write("manifest.json", json.dumps({"format_version": 99}).encode())
    with pytest.raises(DataError, match="format version is 99"):
        open_dataset(dataset.uri)


def test_no_dataset_no_split(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset here"):
        open_dataset(str(tmp_path / "nowhere"))
    dataset = converted(lift_like_hdf5(), str(tmp_path))
    with pytest.raises(ConfigError, match="write valid"):
        dataset.episodes("validation")
    everything = ConversionOptions(skip_episodes=tuple(f"demo_{i}" for i in range(6)))
    with pytest.raises(DataError, match="dataset is empty"):
        converted(lift_like_hdf5(), str(tmp_path), options=everything)


def test_dealing() -> None:
    keys = [bytes([i * 37 % 251]) for i in range(200)]
    for sizes, least, most in [
        ([1000] * 200, 1, 1),
        ([MB] * 200, 12, 14),  # below 256 MB: shards of about 16 MB
        ([2 * MB] * 200, 60, 66),  # above: at least about 64
        ([600 * MB] * 200, 150, 200),  # none much above 1 GB
    ]:
        shards = deal(keys, sizes, 128 * MB)
        assert least <= len(shards) <= most
        assert sorted(i for shard in shards for i in shard) == list(range(200))
        assert [i for shard in shards for i in shard] == sorted(range(200), key=lambda i: keys[i])
        assert max(sum(sizes[i] for i in shard) for shard in shards) <= 1200 * MB


def test_open_store_is_untouched_by_opening(tmp_path: Path) -> None:
    open_store(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
