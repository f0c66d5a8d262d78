"""LeRobot in and out. The golden datasets were made and read by lerobot 0.4.4 (tests/benchmarks/peers/lerobot_data.py golden)."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tendon.cli import main
from tendon.data.convert import ConversionOptions, convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.data.video import decode_mp4
from tendon.data.writers import write_dataset
from tendon.data.writers.lerobot_stats import camera_stats
from tendon.errors import ConfigError, DataError, StorageError
from tendon.storage import open_store
from tests.data.lerobot_sets import CAMERA, make

GOLDEN = Path(__file__).parents[1] / "golden" / "lerobot"


def converted(uri: Path | str, store: Path | str, workers: int = 1, **options: object) -> Dataset:
    chosen = ConversionOptions(**options)  # type: ignore[arg-type]
    manifest = convert(open_source(str(uri)), str(store), "x", chosen, workers)
    return open_dataset(dataset_uri(str(store), "x", manifest.plan))


def unpacked(kind: str, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    with tarfile.open(GOLDEN / f"{kind}.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    with np.load(folder / "read.npz") as columns:
        return folder / "data", dict(columns)


@pytest.mark.parametrize("kind", ["video", "images"])
def test_what_lerobot_wrote_and_reads(kind: str, tmp_path: Path) -> None:
    root, read = unpacked(kind, tmp_path)
    dataset = converted(root, tmp_path / "store", **({"codec": "npy"} if kind == "images" else {}))
    assert dataset.manifest.sources[0].format == "lerobot"
    assert dataset.manifest.steps == len(read["index"])
    at = 0
    for row in dataset.rows:
        steps = slice(at, at + row.length)
        rows = dataset.lowdim(row)
        for name in rows.dtype.names or ():
            told = read[name][steps]
            assert rows[name].astype(told.dtype).reshape(told.shape).tobytes() == told.tobytes(), name
        assert rows["observation.grid"].dtype == np.float64  # lerobot's reader narrows it, its file does not
        assert (read["episode_index"][steps] == row.index).all()
        assert set(read["task"][steps].tolist()) == {row.task}
        at += row.length
    assert at == len(read["index"])
    assert [row.success for row in dataset.rows] == [True, False]
    for camera in dataset.manifest.schema.cameras:
        frames = dataset.frames(dataset.rows[0], camera.name, [0])
        if kind == "images":
            assert np.array_equal(frames, read[camera.name])
            continue
        assert (camera.codec, camera.encoding, camera.fps) == ("mp4", "av1", 10.0)
        assert np.abs(frames.astype(int) - read[camera.name]).max() <= 1  # 0 with the FFmpeg of both at hand
        video = next((root / "videos" / camera.name).rglob("*.mp4")).read_bytes()
        ours = np.concatenate([dataset.frames(row, camera.name) for row in dataset.rows])
        assert np.array_equal(ours, decode_mp4(video))


@pytest.mark.parametrize("format", ["lerobot-v2.1", "lerobot-v3.0"])
@pytest.mark.parametrize("kind", ["video", "images"])
def test_there_and_back(kind: str, format: str, tmp_path: Path) -> None:
    root, _ = unpacked(kind, tmp_path)
    first = converted(root, tmp_path / "store", **({"codec": "npy"} if kind == "images" else {}))
    write_dataset(first, str(tmp_path / "back"), format)
    again = converted(tmp_path / "back", tmp_path / "store", **({"codec": "npy"} if kind == "images" else {}))
    assert again.manifest.schema == first.manifest.schema
    for a, b in zip(first.rows, again.rows, strict=True):
        assert first.lowdim(a).tobytes() == again.lowdim(b).tobytes()
        assert (a.task, a.success, a.splits) == (b.task, b.success, b.splits)
        for camera in first.manifest.schema.cameras:
            assert np.array_equal(first.frames(a, camera.name), again.frames(b, camera.name))
            if kind == "video":
                assert first.video_chunks(a, camera.name) == again.video_chunks(b, camera.name)
    if format.endswith("3.0"):  # the same files: even the provenance agrees
        assert again.manifest.digest == first.manifest.digest
        theirs, ours = (pq.read_table(next((each / "data").rglob("*.parquet"))) for each in (root, tmp_path / "back"))
        for name in theirs.column_names:
            if not pa.types.is_struct(theirs.column(name).type):
                assert ours.column(name).to_pylist() == theirs.column(name).to_pylist()
                assert ours.column(name).type == theirs.column(name).type
        stats, peer = (json.loads((each / "meta/stats.json").read_text()) for each in (tmp_path / "back", root))
        for name in ("action", "observation.state", "timestamp", "index"):
            for kind_of in ("min", "max", "mean", "std", "count"):
                assert np.allclose(stats[name][kind_of], peer[name][kind_of], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_every_version(version: str, tmp_path: Path) -> None:
    root = make(tmp_path / "set", version, g=4)
    dataset = converted(root, tmp_path / "store")
    assert [row.length for row in dataset.rows] == [18, 25, 11]
    assert [row.splits for row in dataset.rows] == [("train",), ("train",), ("val",)]
    assert [row.task for row in dataset.rows] == ["task 0", "task 1", "task 0"]
    assert [row.success for row in dataset.rows] == [True, False, True]
    assert dataset.manifest.metadata["constant_texts"] == {"note": "x"}
    assert dataset.manifest.schema.cameras[0].height == 32
    for row in dataset.rows:
        rows = dataset.lowdim(row)
        assert (rows["observation.state"][:, 0] == row.index).all()
        assert (rows["observation.state"][:, 1] == np.arange(row.length)).all()
        assert rows["action"].dtype == np.float64
    videos = [path.read_bytes() for path in sorted((root / "videos").rglob("*.mp4"))]
    truth = np.concatenate([decode_mp4(each) for each in videos])
    ours = np.concatenate([dataset.frames(row, CAMERA) for row in dataset.rows])
    assert np.array_equal(ours, truth)
    if version != "v3.0":  # a file that is one episode is copied as it is
        assert [dataset.video_chunks(row, CAMERA)[0].content for row in dataset.rows] == videos


@pytest.mark.parametrize("g", [7, 250])
@pytest.mark.parametrize("chunk", [8, 256])
def test_episodes_that_begin_between_key_frames(
    g: int, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tendon.data.sources.lerobot.CHUNK_FRAMES", chunk)
    root = make(tmp_path / "set", "v3.0", g=g)
    dataset = converted(root, tmp_path / "store")
    truth = decode_mp4(next((root / "videos").rglob("*.mp4")).read_bytes())
    chunks = [dataset.video_chunks(row, CAMERA) for row in dataset.rows]
    assert chunks[1][0].skip == 18 % g
    assert np.array_equal(np.concatenate([dataset.frames(row, CAMERA) for row in dataset.rows]), truth)
    if g == 7 and chunk == 8:
        assert len(chunks[1]) == 4
    write_dataset(dataset, str(tmp_path / "back"), "lerobot-v3.0")
    again = converted(tmp_path / "back", tmp_path / "again")
    assert np.array_equal(np.concatenate([again.frames(row, CAMERA) for row in again.rows]), truth)
    write_dataset(
        dataset, str(tmp_path / "old"), "lerobot-v2.1"
    )  # has no place for frames before the first: encoded again
    old = converted(tmp_path / "old", tmp_path / "again")
    shown = np.concatenate([old.frames(row, CAMERA) for row in old.rows])
    assert np.abs(shown.astype(int) - truth).mean() < 4


def test_an_episode_with_two_tasks(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "v2.1", video=False)
    lines = (root / "meta/episodes.jsonl").read_text().replace('"tasks": ["task 1"]', '"tasks": ["task 0", "task 1"]')
    (root / "meta/episodes.jsonl").write_text(lines)
    path = root / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    numbers = pa.array(np.arange(25) // 13)
    pq.write_table(table.set_column(table.column_names.index("task_index"), "task_index", numbers), path)
    dataset = converted(root, tmp_path / "store")
    write_dataset(dataset, str(tmp_path / "back"), "lerobot-v3.0")
    again = converted(tmp_path / "back", tmp_path / "store")
    for each in (dataset, again):
        assert each.lowdim(each.rows[1])["task"].tolist() == [0] * 13 + [1] * 12
        assert each.manifest.format_version == 2
        assert each.texts == ("task 0", "task 1")
    rows = pq.read_table(tmp_path / "back/meta/episodes/chunk-000/file-000.parquet").column("tasks").to_pylist()
    assert rows == [["task 0"], ["task 0", "task 1"], ["task 0"]]


def test_the_task_of_an_episode_with_several_is_that_of_its_first_frame(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "v2.1", video=False)
    lines = (root / "meta/episodes.jsonl").read_text().replace('"tasks": ["task 1"]', '"tasks": ["task 1", "task 0"]')
    (root / "meta/episodes.jsonl").write_text(lines)
    path = root / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    numbers = pa.array(np.arange(25) // 13)
    pq.write_table(table.set_column(table.column_names.index("task_index"), "task_index", numbers), path)
    assert converted(root, tmp_path / "store").rows[1].task == "task 0"


def test_robomimic_to_lerobot(lift_like_hdf5: Callable[..., Path], tmp_path: Path) -> None:
    dataset = converted(lift_like_hdf5(images=True), tmp_path / "store")
    write_dataset(dataset, str(tmp_path / "out"), "lerobot-v3.0")
    again = converted(tmp_path / "out", tmp_path / "store")
    for a, b in zip(dataset.rows, again.rows, strict=True):
        before, after = dataset.lowdim(a), again.lowdim(b)
        for name in before.dtype.names or ():
            assert before[name].tobytes() == after[name].tobytes()
        for camera in dataset.manifest.schema.cameras:
            assert dataset.jpegs(a, camera.name) == again.jpegs(b, camera.name)
    assert [row.episode_id for row in again.episodes("valid")] == ["episode_000005"]


def test_one_worker_three_workers_and_s3(tmp_path: Path, s3_uri: str) -> None:
    root = make(tmp_path / "set", "v3.0", g=4)
    one = converted(root, tmp_path / "one", shard_bytes=3000)
    assert len(one.manifest.shards) > 1
    assert converted(root, tmp_path / "three", 3, shard_bytes=3000).manifest == one.manifest
    for path in sorted(root.rglob("*")):
        if path.is_file():
            open_store(s3_uri).write(f"set/{path.relative_to(root).as_posix()}", path.read_bytes())
    remote = converted(f"{s3_uri}/set", tmp_path / "remote", shard_bytes=3000)
    assert remote.manifest.digest == one.manifest.digest
    write_dataset(one, f"{s3_uri}/back", "lerobot-v3.0")
    back = converted(f"{s3_uri}/back", tmp_path / "back")
    assert [back.lowdim(row).tobytes() for row in back.rows] == [one.lowdim(row).tobytes() for row in one.rows]
    with pytest.raises(ConfigError, match="something is there already"):
        write_dataset(one, f"{s3_uri}/back", "lerobot-v3.0")


def test_scratch_is_bounded(tmp_path: Path, s3_uri: str) -> None:
    from tendon.data.sources.folder import SourceFolder

    for name in "abc":
        open_store(s3_uri).write(name, name.encode() * 1000)
    folder = SourceFolder(s3_uri, scratch_bytes=2500)
    views = [folder.view(name) for name in "abc"]
    assert not folder.is_local
    assert [bytes(view[:2]) for view in views] == [b"aa", b"bb", b"cc"]  # what is open stays
    assert len(list(folder.path("c").parent.iterdir())) == 2
    with pytest.raises(DataError, match="missing"):
        folder.path("d")


def test_a_video_that_is_too_short_is_named_before_anything_is_written(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "v2.1", g=4)
    videos = sorted((root / "videos").rglob("*.mp4"))
    videos[1].write_bytes(videos[2].read_bytes())
    videos[0].unlink()
    with pytest.raises(DataError) as error:
        converted(root, tmp_path / "store")
    missing, short = error.value.problems
    assert missing.what == "a file of episode_000000 is missing"
    assert short.what == f"the video of {CAMERA} does not show every step of episode_000001"
    assert "step 11 is at 1.1" in short.why
    assert str(videos[1]) in short.where
    assert "data.skip_episodes=[episode_000001]" in short.fix
    assert not (tmp_path / "store").exists()
    dataset = converted(root, tmp_path / "store", skip_episodes=("episode_000000", "episode_000001"))
    assert [row.episode_id for row in dataset.rows] == ["episode_000002"]


def test_other_kinds_of_files_are_taken_too(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "v2.1", g=4, container={"movflags": "frag_keyframe+empty_moov"})
    dataset = converted(root, tmp_path / "store")
    videos = [path.read_bytes() for path in sorted((root / "videos").rglob("*.mp4"))]
    for row, video in zip(dataset.rows, videos, strict=True):
        assert np.array_equal(dataset.frames(row, CAMERA), decode_mp4(video))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_a_user_reads(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "v2.1", video=False)
    info = root / "meta/info.json"
    before = info.read_text()
    for changes, message in (
        ({"codebase_version": "v1.6"}, "version v1.6 is not read"),
        ({"codebase_version": "v4.0"}, "version v4.0 is not read"),
        ({"fps": "fast"}, "info.json is not understood"),
        ({"features": {"x": {"dtype": "float32"}}}, "info.json is not understood"),
    ):
        edit(info, **changes)
        with pytest.raises(DataError, match=message):
            open_source(str(root)).describe()
        info.write_text(before)
    table = root / "data/chunk-000/episode_000001.parquet"
    content = table.read_bytes()
    table.write_bytes(content[:-100])
    with pytest.raises(DataError, match="a table cannot be read") as error:
        converted(root, tmp_path / "store")
    assert str(table) in error.value.problems[0].where
    table.write_bytes((root / "data/chunk-000/episode_000002.parquet").read_bytes())
    with pytest.raises(DataError, match="is longer than its file"):
        converted(root, tmp_path / "store")
    rows = pq.read_table(io_of(content))
    values = rows.column("observation.state").to_pylist()
    values[3] = values[3][:2]
    pq.write_table(rows.set_column(0, "observation.state", pa.array(values, pa.list_(pa.float32()))), table)
    with pytest.raises(DataError, match=r"observation\.state does not have 3 values in every step"):
        converted(root, tmp_path / "store")
    (root / "meta/episodes.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="table of episodes is not understood"):
        open_source(str(root)).describe()


def io_of(content: bytes) -> pa.BufferReader:
    return pa.BufferReader(content)


def test_stats_of_a_camera_are_right(tmp_path: Path) -> None:
    """lerobot 0.4.4 squares bytes without widening them; its std of a camera is next to 0."""
    dataset = converted(make(tmp_path / "set", "v2.1", (8, 8, 8), g=1), tmp_path / "store")
    row, camera = dataset.rows[1], dataset.manifest.schema.cameras[0]
    frames = dataset.frames(row, CAMERA) / 255.0
    stats = camera_stats(dataset, row, camera)
    assert stats["count"] == [8]
    assert np.allclose(stats["std"].ravel(), frames.std((0, 1, 2)))
    assert np.allclose(stats["mean"].ravel(), frames.mean((0, 1, 2)))
    assert stats["q50"].shape == (3, 1, 1)


def test_all_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = converted(make(tmp_path / "set", "v2.1", video=False), tmp_path / "store")

    def interrupt(done: int, total: int, unit: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(dataset, str(tmp_path / "out/x"), "lerobot-v3.0", interrupt)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ConfigError, match=r"write lerobot-v3\.0"):
        write_dataset(dataset, str(tmp_path / "out/x"), "lerobot-v3")
    assert main(["export-data", dataset.uri, str(tmp_path / "out/x"), "--to", "lerobot-v3.0"]) == 0
    assert "3" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="something is there already"):
        write_dataset(dataset, str(tmp_path / "out/x"), "lerobot-v3.0")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        write_dataset(dataset, str(tmp_path / "file/x"), "lerobot-v3.0")
    info = json.loads((tmp_path / "out/x/meta/info.json").read_text())
    assert info["splits"] == {"train": "0:2", "val": "2:3"}
    assert info["robot_type"] == "arm"
    assert info["features"]["observation.state"]["names"] == ["x", "y", "z"]
