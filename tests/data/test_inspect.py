"""What `tendon inspect`, `--verify` and `tendon gc` say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tendon import cli
from tendon.data.convert import ConversionOptions, convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.gc import collect_garbage, find_garbage
from tendon.data.inspect import inspect_uri
from tendon.data.inspect_text import draw, spark
from tendon.data.sources import open_source
from tendon.data.verify import find_damage
from tendon.report.dataset_page import render_dataset

Maker = Callable[..., Path]


def converted(path: Path, store: str) -> Dataset:
    manifest = convert(open_source(str(path)), store, "lift", ConversionOptions(shard_bytes=9000))
    return open_dataset(dataset_uri(store, "lift", manifest.plan))


def test_dataset_and_source_look_alike(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5(episodes=9, images=True)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["obs/robot0_eef_pos"][:, 1] = 0.25
        file["data/demo_2/actions"][3, 6] = 1.5
        del file["data/demo_3"]
        file.copy("data/demo_0", "data/demo_3")
    before = inspect_uri(str(path))
    after = inspect_uri(converted(path, str(tmp_path / "s")).uri)
    assert before.findings == after.findings
    assert {each.kind for each in after.findings} == {"constant", "action_range", "duplicate"}
    assert [each.name for each in before.features] == [each.name for each in after.features]
    assert np.array_equal(before.lengths, after.lengths)
    assert before.splits == after.splits
    for found in (before, after):
        text, page = draw(found), render_dataset(found)
        for part in ("observation.robot0_eef_pos", "dimension 1 of 3 never changes", "same values as demo_0", "train"):
            assert part in text
            assert part in page
        assert 'src="http' not in page


def test_a_source_with_bad_values_is_shown(lift_like_hdf5: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    path = lift_like_hdf5()
    with h5py.File(path, "a") as file:
        file["data/demo_2/obs/object"][4, 7] = np.nan
    assert cli.main(["inspect", str(path), "--quiet"]) == 3
    assert "observation.object is not finite in demo_2" in capsys.readouterr().out


def test_spark() -> None:
    assert spark(np.array([0, 1, 800, 400])) == " ▁█▄"


def test_damage_names_its_place(lift_like_hdf5: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = converted(lift_like_hdf5(images=True), str(tmp_path / "s"))
    assert cli.main(["inspect", dataset.uri, "--verify", "--quiet"]) == 0
    assert "verified" in capsys.readouterr().out
    entry = dataset.manifest.shards[1]
    shard = Path(dataset.uri) / entry.key
    content = shard.read_bytes()
    row = next(row for row in dataset.rows if row.shard == 1)
    member = "agentview_image.mjpeg"
    offset = dataset.table.column(f"{member}/offset")[row.index].as_py()

    def found() -> str:
        return "\n".join(problem.where + problem.what + problem.why for problem in find_damage(dataset))

    shard.write_bytes(content[: offset + 40] + bytes([content[offset + 40] ^ 1]) + content[offset + 41 :])
    for part in (entry.key, f"ep_{row.index:08d}.{member}", f"offset {offset}", row.episode_id, "damaged"):
        assert part in found()
    with pytest.raises(SystemExit) as left:
        cli.main(["inspect", dataset.uri, "--verify", "--quiet"])
    assert left.value.code == 3
    shard.write_bytes(content[: offset + 40])
    assert f"ep_{row.index:08d}.{member}, offset {offset}" in found()
    assert "cut off" in found()
    shard.write_bytes(content[:-1] + b"x")
    assert "between its members" in found()
    shard.unlink()
    assert "missing" in found()
    assert row.episode_id in found()


def test_garbage_is_what_no_manifest_names(lift_like_hdf5: Maker, tmp_path: Path, s3_uri: str) -> None:
    path = lift_like_hdf5()
    for store in (str(tmp_path / "s"), s3_uri):
        dataset = converted(path, store)
        dataset.store.write("shards/000000-dead.tar", b"orphan")
        dataset.store.write("stats/train.json", b"{}")
        before = {info.key for info in dataset.store.list()}
        garbage = find_garbage(dataset.uri)
        keys = {each.key for each in garbage.objects}
        assert "shards/000000-dead.tar" in keys
        assert not keys & {shard.key for shard in dataset.manifest.shards}
        assert collect_garbage(dataset.uri) == garbage
        assert {info.key for info in dataset.store.list()} == before - keys
        assert list(find_damage(dataset)) == []
        assert converted(path, store).manifest == dataset.manifest
