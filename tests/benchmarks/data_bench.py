"""``make bench``, the rows of the data package (numbers of facts: 17, 19, 20, 21) and a dataset of a million episodes.

CPU seconds and medians of interleaved rounds; every value is a ratio within one run, except where seconds are said.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.data_faults import s3_server
from tests.benchmarks.many_episodes import WATCH
from tests.benchmarks.rows import Skip, row

ROUNDS = 5
EPISODES, LENGTH, PIXELS = 48, 150, 84
MILLION = 1_000_000
STORE = "store-"  # how the folders of conversions begin


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of this process and of the children that it has joined."""
    before = time.process_time() + _children_s()
    work()
    return time.process_time() + _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def interleaved(
    *works: Callable[[], object], rounds: int = ROUNDS, after: Callable[[], object] = lambda: None
) -> list[float]:
    """Median CPU seconds of each, measured in turns; ``after`` each of them comes what is not measured."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for each, work in zip(taken, works, strict=True):
            each.append(cpu_s(work))
            after()
    return [statistics.median(each) for each in taken]


def photographs(num: int, size: int, seed: int) -> np.ndarray:
    """Images with the entropy of photographs: blurred noise on several scales, a moving object, sensor noise."""
    rng = np.random.default_rng(seed)
    scene = np.zeros((size, size, 3))
    for cells in (3, 6, 12, 24, 42):
        coarse = rng.normal(0, 1, (cells + 1, cells + 1, 3))
        at = np.linspace(0, cells - 1e-6, size)
        i, f = at.astype(int), (at % 1)[:, None]
        lines = coarse[i] * (1 - f[:, None]) + coarse[i + 1] * f[:, None]
        f = f[None]
        scene += (lines[:, i] * (1 - f) + lines[:, i + 1] * f) * 40 / cells**0.5
    frames = np.repeat(scene[None] + 128, num, 0) + rng.normal(0, 3, (num, size, size, 3))
    for t in range(num):
        x = int((size - 16) * t / num)
        frames[t, 30:46, x : x + 16] = rng.integers(0, 255, 3)
    return np.clip(frames, 0, 255).astype(np.uint8)


def recording(path: Path, episodes: int = EPISODES, length: int = LENGTH, *, linked: bool = False) -> Path:
    """A robomimic file with two cameras of 84 px and Lift's observations; ``linked``: pictures are in the file once."""
    import h5py

    from tests.conftest import LIFT_CAMERAS, make_lift_like_hdf5

    make_lift_like_hdf5(path, episodes, length, images=False)
    seen = photographs(length + 2, PIXELS, 1), photographs(length + 2, PIXELS, 2)
    there: dict[Any, Any] = {}
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            T = int(demo.attrs["num_samples"])
            for camera, frames in zip(LIFT_CAMERAS, seen, strict=True):
                demo[f"obs/{camera}"] = there.get((camera, T), frames[:T])
                if linked:
                    there[camera, T] = demo[f"obs/{camera}"]
    return path


# ------------------------------------------------------------------------------------------------------ 17: HDF5 -> tar


def encode_all(path: Path) -> None:
    """What cannot be avoided: every frame of both cameras through the JPEG encoder (frames in memory)."""
    import simplejpeg

    for frames in _frames_in_memory(path):
        for frame in frames:
            simplejpeg.encode_jpeg(frame, 90, "RGB", "420", fastdct=False)


_memory: dict[Path, list[np.ndarray]] = {}


def _frames_in_memory(path: Path) -> list[np.ndarray]:
    import h5py

    from tests.conftest import LIFT_CAMERAS

    if path not in _memory:
        with h5py.File(path, "r", locking=False) as file:
            _memory[path] = [demo[f"obs/{camera}"][()] for demo in file["data"].values() for camera in LIFT_CAMERAS]
    return _memory[path]


def described(path: Path) -> Any:
    """The source with its digest known, as the plan step of a run leaves it (a sha256 over the file, 0.5 s/GB)."""
    from tendon.data.sources import open_source

    source = open_source(str(path))
    source.describe()
    return source


def convert_once(source: Any, folder: Path, workers: int = 1) -> str:
    """A whole conversion into a fresh store below ``folder``; the dataset's digest."""
    from tendon.data.convert import convert

    return convert(source, tempfile.mkdtemp(prefix=STORE, dir=folder), "d", workers=workers).digest


def forget_stores(folder: Path) -> None:
    """Delete what ``convert_once`` made."""
    for store in folder.glob(f"{STORE}*"):
        shutil.rmtree(store)


def per_step_peer(path: Path, folder: Path, episodes: int) -> None:
    """How it is done without this: one sample per step, PIL, webdataset's ShardWriter."""
    import h5py
    import webdataset
    from PIL import Image

    with (
        tempfile.TemporaryDirectory(dir=folder) as target,
        h5py.File(path, "r", locking=False) as file,
        webdataset.ShardWriter(f"{target}/%06d.tar", verbose=0) as sink,
    ):
        for name in list(file["data"])[:episodes]:
            demo = file[f"data/{name}"]
            for t in range(int(demo.attrs["num_samples"])):
                sample: dict[str, Any] = {"__key__": f"{name}_{t:06d}", "actions.npy": demo["actions"][t]}
                for key, values in demo["obs"].items():
                    if values.ndim == 4:
                        buffer = io.BytesIO()
                        Image.fromarray(values[t]).save(buffer, "JPEG", quality=90)
                        sample[f"{key}.jpg"] = buffer.getvalue()
                    else:
                        sample[f"{key}.npy"] = values[t]
                sink.write(sample)


@row(
    "bench", "17-convert-bound", "HDF5 -> tar with 2 cameras of 84 px: share of the pure JPEG encode rate", ">= 0.75 x"
)
def convert_bound() -> float:
    """Steps/s of a whole conversion over steps/s of encoding the same frames alone, CPU."""
    with tempfile.TemporaryDirectory() as folder:
        path = recording(Path(folder) / "r.hdf5")
        source = described(path)
        convert_once(source, Path(folder))
        encode_all(path)
        ours, bound = interleaved(
            lambda: convert_once(source, Path(folder)),
            lambda: encode_all(path),
            after=lambda: forget_stores(Path(folder)),
        )
        return bound / ours


@row("bench", "17-convert-peer", "HDF5 -> tar: times faster than per-step samples with PIL and ShardWriter", ">= 12 x")
def convert_peer() -> float:
    """Both write what the file holds; the peer a part of the episodes, scaled."""
    try:
        import PIL  # noqa: F401
        import webdataset  # noqa: F401
    except ImportError as error:
        raise Skip(f"{error.name} is not installed") from error
    with tempfile.TemporaryDirectory() as folder:
        path = recording(Path(folder) / "r.hdf5")
        part = EPISODES // 6
        source = described(path)
        convert_once(source, Path(folder))
        ours, peer = interleaved(
            lambda: convert_once(source, Path(folder)),
            lambda: per_step_peer(path, Path(folder), part),
            rounds=3,
            after=lambda: forget_stores(Path(folder)),
        )
        return peer * 6 / ours


def command(path: Path, folder: Path, workers: int) -> float:
    """CPU seconds of ``tendon convert`` from its start to its exit, all of its processes.

    Python may keep bytecode, as it does of an installed package: else it would compile tendon's files at every start.
    """
    watch = folder / "watch.py"
    watch.write_text(WATCH)
    store = tempfile.mkdtemp(prefix=STORE, dir=folder)
    options = ["--source-uri", str(path), "--store-uri", store, "--dataset-name", "d", "--workers", str(workers)]
    program = [sys.executable, str(watch), "-m", "tendon", "convert", *options]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    watched = subprocess.run(program, check=True, capture_output=True, text=True, env=env).stdout.splitlines()[-1]
    return float(watched.split()[0])


@row(
    "bench",
    "17-convert-command",
    "tendon convert from its start to its exit, 120,000 frames of 84 px: share of the pure JPEG encode rate",
    ">= 0.75 x",
)
def convert_command() -> float:
    """CPU time of all its processes, sha256 of the source and the check of every value included."""
    with tempfile.TemporaryDirectory() as folder:
        path = recording(Path(folder) / "r.hdf5", episodes=300, length=200, linked=True)
        taken: list[tuple[float, float]] = []
        command(path, Path(folder), 1)  # writes the bytecode
        for _ in range(3):
            taken.append((command(path, Path(folder), 1), cpu_s(lambda: encode_all(path))))
            forget_stores(Path(folder))
        ours, bound = (statistics.median(each) for each in zip(*taken, strict=True))
        print(f"17: {ours:.2f} s, encoding alone {bound:.2f} s", file=sys.stderr)
        return bound / ours


@row("bench", "17-convert-start", "CPU time of tendon convert of two episodes of 20 steps", "<= 0.25 s")
def convert_start() -> float:
    """What starting costs: its interpreter, its libraries, and the process that looks at the file first."""
    with tempfile.TemporaryDirectory() as folder:
        path = recording(Path(folder) / "r.hdf5", episodes=2, length=20)
        command(path, Path(folder), 1)  # writes the bytecode
        return statistics.median(command(path, Path(folder), 1) for _ in range(ROUNDS))


# ----------------------------------------------------------------------------------------------------- 19: two processes


@row(
    "bench",
    "19-convert-2-processes",
    "conversion with 2 processes: times faster than with 1, by CPU; equal digests",
    ">= 1.8 x",
)
def two_processes() -> float:
    """CPU of one process over that of the parent plus half of its two children, about 10 s of work.

    Shards are drawn late, so that the children end together; on a machine that others use, the wall times, which are
    printed beside it, say nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = recording(Path(folder) / "r.hdf5", episodes=600, length=200, linked=True)
        source = described(path)
        ratios = []
        for _ in range(2):
            walls, digests, critical = [], [], []
            for workers in (1, 2):
                began, own, children = time.monotonic(), time.process_time(), _children_s()
                digests.append(convert_once(source, Path(folder), workers))
                walls.append(time.monotonic() - began)
                critical.append(time.process_time() - own + (_children_s() - children) / 2)
                forget_stores(Path(folder))
            assert digests[0] == digests[1]
            ratios.append(critical[0] / critical[1])
            print(f"19: wall {walls[0]:.1f} s and {walls[1]:.1f} s, CPU {critical[0]:.2f} s and {critical[1]:.2f} s")
        return statistics.median(ratios)


# ------------------------------------------------------------------------------------------------------------ 20: upload


@row(
    "bench",
    "20-upload-cpu",
    "upload of shards to a store that verifies crc32c: CPU s/GB over boto3's upload_fileobj",
    "<= 0.5 x",
)
def upload_cpu() -> float:
    """64 MB objects to the test server, which runs in a process of its own.

    It verifies crc32c: what a store does not verify is read back by ours and by nobody else.
    """
    import boto3

    from tendon.storage import open_store

    content = np.random.default_rng(0).bytes(64 << 20)
    with s3_server() as prefix:
        store = open_store(prefix)
        client = boto3.client("s3")
        store.write("warm", b"x")
        client.upload_fileobj(io.BytesIO(b"x"), "bucket", "warm")
        ours, theirs = interleaved(
            lambda: store.write("ours", content),
            lambda: client.upload_fileobj(io.BytesIO(content), "bucket", "theirs"),
        )
        return ours / theirs


@row(
    "bench",
    "20-upload-large-cpu",
    "upload of a 256 MB file in parts to such a store: CPU s/GB over boto3's upload_fileobj",
    "<= 0.5 x",
)
def upload_large_cpu() -> float:
    """What put_tree does with a large checkpoint."""
    import boto3

    from tendon.storage import open_store

    with s3_server() as prefix, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large"
        path.write_bytes(np.random.default_rng(0).bytes(256 << 20))
        store = open_store(prefix)
        client = boto3.client("s3")

        def theirs() -> None:
            with open(path, "rb") as file:
                client.upload_fileobj(file, "bucket", "theirs")

        mine, other = interleaved(lambda: store.put_file("ours", path), theirs, rounds=3)
        return mine / other


# ------------------------------------------------------------------------------------------------------------- 21: stats


def full_pass(path: Path, names: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and std as a reader of the file must get them: every value of the episodes, once."""
    import h5py

    sums: dict[str, list[np.ndarray]] = {}
    with h5py.File(path, "r", locking=False) as file:
        for name in names:
            demo = file[f"data/{name}"]
            for key, values in [*demo["obs"].items(), ("actions", demo["actions"])]:
                sums.setdefault(key, []).append(values[()])
    whole = {key: np.concatenate(parts).astype(np.float64) for key, parts in sums.items()}
    return {key: (values.mean(0), values.std(0)) for key, values in whole.items()}


@row(
    "bench",
    "21-stats-subset",
    "mean, std, min, max of a new subset: times faster than a pass over its values",
    ">= 1000 x",
)
def stats_subset() -> float:
    """400 episodes of 146 steps (58 k steps) in memory-warm files; equality to 1e-12 is checked."""
    from tendon.data.convert import convert, dataset_uri
    from tendon.data.dataset import open_dataset
    from tendon.data.sources import open_source
    from tendon.data.stats import subset_stats
    from tests.conftest import make_lift_like_hdf5

    with tempfile.TemporaryDirectory() as folder:
        path = make_lift_like_hdf5(Path(folder) / "r.hdf5", episodes=400, length=146)
        manifest = convert(open_source(str(path)), f"{folder}/s", "d")
        dataset = open_dataset(dataset_uri(f"{folder}/s", "d", manifest.plan))
        rng = np.random.default_rng(0)
        rows = dataset.rows.chosen(np.sort(rng.choice(400, 390, replace=False)))
        names = rows.ids()

        def ours() -> None:
            for _ in range(100):
                subset_stats(dataset, rows)

        subset_stats(dataset, rows)
        mine, theirs = interleaved(ours, lambda: full_pass(path, names))
        values = np.concatenate([each["action"] for each in dataset.lowdims(rows)]).astype(np.float64)
        found = subset_stats(dataset, rows)["action"]
        np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(found.std, values.std(0), rtol=1e-12)
        return theirs / (mine / 100)


# -------------------------------------------------------------------------------------------------- a million episodes


def synthetic_dataset(folder: Path, episodes: int) -> dict[str, float]:
    """Plan, index and manifest of a dataset whose shards are never read; seconds of each part."""
    import pyarrow as pa

    from tendon.data import index as index_table
    from tendon.data.episode import Schema
    from tendon.data.features import column
    from tendon.data.manifest import FORMAT_VERSIONS, KEY, IndexFile, Manifest, Shard, SourceFile, SplitTotals
    from tendon.data.plan import plan_conversion
    from tendon.data.sources.source import EpisodeInfo, SourceInfo
    from tendon.data.tario import EXTRA, LOWDIM, META
    from tendon.storage import open_store

    features = (
        column("observation.state", "float32", (14,)),
        column("action", "float32", (7,)),
    )
    schema = Schema(features, (), 20.0)
    rng = np.random.default_rng(0)
    lengths = rng.integers(80, 220, episodes)
    infos = tuple(
        EpisodeInfo(f"demo_{i}", T, ("valid",) if i % 10 == 0 else ("train",)) for i, T in enumerate(lengths.tolist())
    )
    seconds = {}
    began = time.perf_counter()
    plan = plan_conversion(SourceInfo("synthetic", "synthetic://", "0" * 64, 0, schema, infos))
    seconds["plan"] = time.perf_counter() - began

    began = time.perf_counter()
    shard_of, offsets = np.empty(episodes, np.int32), np.empty(episodes, np.uint64)
    sizes = lengths * schema.row_dtype.itemsize + 128
    for n, shard in enumerate(plan.shards):
        at = np.array(shard)
        shard_of[at] = n
        offsets[at] = np.cumsum(sizes[at] + 2048) - sizes[at]
    columns: dict[str, Any] = {
        "episode_index": np.arange(episodes), "episode_id": [each.episode_id for each in infos],
        "sample": [f"ep_{i:08d}" for i in range(episodes)], "shard": shard_of, "length": lengths,
        "task": pa.repeat("lift the cube", episodes), "success": pa.repeat(True, episodes),
        "splits": pa.ListArray.from_arrays(np.arange(episodes + 1, dtype=np.int32), pa.array([each.splits[0] for each in infos])),
    }  # fmt: skip
    for member in (META, LOWDIM):
        crc = rng.integers(0, 1 << 32, episodes, np.uint32)
        columns |= {f"{member}/offset": offsets, f"{member}/size": sizes.astype(np.uint64), f"{member}/crc32c": crc}
    for feature in features:
        columns[f"{feature.key}/count"] = lengths
        values = rng.normal(size=(episodes, feature.dim))
        for kind, each in zip(index_table.SUMS, (values * 10, values**2 + 1, values - 2, values + 2), strict=True):
            columns[f"{feature.key}/{kind}"] = pa.FixedSizeListArray.from_arrays(each.reshape(-1), feature.dim)
    wanted = index_table.arrow_schema(schema)
    columns |= {
        each.name: pa.repeat(pa.scalar([], each.type), episodes) for each in wanted if each.name.startswith(EXTRA)
    }
    table = pa.table({name: columns[name] for name in wanted.names}).cast(wanted)
    seconds["make (not counted)"] = time.perf_counter() - began
    del columns

    began = time.perf_counter()
    content = index_table.to_parquet(table)
    sha = index_table.hashlib.sha256(content).hexdigest()
    index = IndexFile(f"index/episodes-{sha[:16]}.parquet", len(content), sha)
    shards = tuple(
        Shard(f"shards/{n:06d}-{'0' * 16}.tar", 0, "0" * 64, len(each), 0) for n, each in enumerate(plan.shards)
    )
    half = {"valid": lengths[::10], "train": lengths[np.arange(episodes) % 10 != 0]}
    manifest = Manifest(
        FORMAT_VERSIONS[0], "million", "d" * 64, plan.digest, schema, episodes, int(lengths.sum()),
        {name: SplitTotals(len(each), int(each.sum())) for name, each in half.items()}, index, shards,
        (SourceFile("synthetic://", "synthetic", "0" * 64, 0),), {"options": {"skip_episodes": []}}, {}, {},
    )  # fmt: skip
    store = open_store(str(folder))
    store.write(index.key, content)
    store.write(KEY, manifest.to_json().encode())
    seconds["write"] = time.perf_counter() - began
    seconds["index MB"] = len(content) / 1e6
    return seconds


OPEN = """
import json, sys, time
import numpy as np
import pyarrow
from tendon.data.dataset import open_dataset
from tendon.data.stats import index_stats
def peak(): return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
base, said = peak(), {}
def told(name, began): said[name] = round(time.perf_counter() - began, 3)
t = time.perf_counter(); dataset = open_dataset(sys.argv[1]); rows = dataset.episodes("train"); told("open and split", t)
t = time.perf_counter(); lengths = rows.lengths; told("lengths", t)
t = time.perf_counter(); epoch = np.argsort(np.random.default_rng(0).random(len(rows))); told("order of an epoch", t)
rng = np.random.default_rng(0)
t = time.perf_counter()
for _ in range(100):
    batch = list(rows.chosen(rng.integers(0, len(rows), 256)))
told("100 batches of 256 rows", t)
t = time.perf_counter(); shard = dataset.table.array("shard"); offset = dataset.table.array("lowdim.npy/offset"); told("places", t)
said["MB to open and sample"] = round(peak() - base)
t = time.perf_counter(); index_stats(dataset, rows, "observation.state"); told("stats of 900 k episodes", t)
said["MB with the sums of one feature"] = round(peak() - base)
print(json.dumps(said))
"""


@row(
    "bench",
    "million-episodes",
    "seconds to open a dataset of 1,000,000 episodes, choose a split and sample rows",
    "<= 5 s",
)
def million_episodes() -> float:
    """Planned and written here, opened in a fresh process; every part and the memory are printed."""
    with tempfile.TemporaryDirectory() as folder:
        made = synthetic_dataset(Path(folder), MILLION)
        print("million-episodes:", json.dumps({name: round(each, 2) for name, each in made.items()}))
        done = subprocess.run([sys.executable, "-c", OPEN, folder], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        said = json.loads(done.stdout)
        print("million-episodes:", json.dumps(said))
        return float(said["open and split"] + said["lengths"] + said["100 batches of 256 rows"] + said["places"])
