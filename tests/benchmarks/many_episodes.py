"""``make bench ROWS=data-lerobot,data-formats``: sets of 1,000 to 100,000 episodes of 20 steps in and out, every format.

Each conversion or export is a process of its own; CPU seconds are those of all processes it made, memory that of the
largest.
"""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.rows import row

STEPS, DIM, FILE_ROWS = 20, 7, 1 << 20  # rows of a file: LeRobot fills files up to 100 MB
DECADES = (1_000, 10_000, 100_000)
CONVERT = """
import logging, sys
from tendon.data.convert import convert
from tendon.data.sources import open_source
if __name__ == "__main__":
    convert(open_source(sys.argv[1]), sys.argv[2], "x")
"""
WRITE = """
import sys
from tendon.data.dataset import open_dataset
from tendon.data.writers import write_dataset
if __name__ == "__main__":
    write_dataset(open_dataset(sys.argv[1]), sys.argv[2], sys.argv[3])
"""
MINECRAFT = """
import sys
import numpy as np
from tendon.data.convert import convert
from tendon.data.episode import Camera, Episode, Schema, VideoChunk
from tendon.data.features import column
from tendon.data.sources.episodes import EpisodesSource
from tendon.data.video import encode_mp4
STEPS = 32  # one chunk; its video is encoded once
if __name__ == "__main__":
    number = int(sys.argv[2])
    video = encode_mp4(np.zeros((STEPS, 32, 32, 3), np.uint8), 20, key_every=STEPS)
    camera = Camera("observation.images.pov", "pov", 32, 32, 3, "mp4", "h264", 20.0, STEPS)
    buttons = column("action.buttons", "int64", (3,), names=("attack", "forward", "jump"))
    schema = Schema((buttons, column("action.camera", "float32", (2,))), (camera,), 20.0)
    pressed, turned = np.zeros((STEPS, 3), np.int64), np.zeros((STEPS, 2), np.float32)
    pictures = {camera.name: (VideoChunk(video, 0, STEPS),)}
    episodes = [
        Episode(f"e{i:06d}", STEPS, {"action.buttons": pressed, "action.camera": turned}, pictures) for i in range(number)
    ]
    convert(EpisodesSource("demo://minecraft", schema, episodes, "0" * 64), sys.argv[1], "x")
"""
WATCH = """
import ctypes, os, resource, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # processes that outlive their parents are ours: their time counts
child = subprocess.run([sys.executable, sys.argv[1], *sys.argv[2:]])
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
used = resource.getrusage(resource.RUSAGE_CHILDREN)
assert child.returncode == 0
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def make(folder: Path, episodes: int, layout: str) -> None:
    """``groups``: v3.0 with a row group per episode, ``one``: with one group per file, ``v2.1``: a file per episode."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance, rows = np.random.default_rng(0), episodes * STEPS
    episode, frame = np.repeat(np.arange(episodes), STEPS), np.tile(np.arange(STEPS), episodes)

    def vectors() -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(chance.normal(0, 0.3, rows * DIM).astype(np.float32)), DIM)

    columns = {
        "observation.state": vectors(), "action": vectors(), "timestamp": pa.array((frame / 10).astype(np.float32)),
        "frame_index": frame, "episode_index": episode, "index": np.arange(rows), "task_index": np.zeros(rows, np.int64),
    }  # fmt: skip
    table, v3 = pa.table(columns), layout != "v2.1"
    features = {name: {"dtype": "float32", "shape": [DIM], "names": None} for name in ("observation.state", "action")}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    features |= {
        name: {"dtype": "int64", "shape": [1], "names": None}
        for name in ("frame_index", "episode_index", "index", "task_index")
    }
    info = {
        "codebase_version": "v3.0" if v3 else "v2.1", "robot_type": None, "total_episodes": episodes, "fps": 10,
        "total_frames": rows, "total_tasks": 1, "chunks_size": 1000, "splits": {"train": f"0:{episodes}"},
        "video_path": None, "features": features,
    }  # fmt: skip
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    if not v3:
        for number in range(episodes):
            path = folder / f"data/chunk-{number // 1000:03d}/episode_{number:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.slice(number * STEPS, STEPS), path)
        lines = [json.dumps({"episode_index": e, "tasks": ["push"], "length": STEPS}) for e in range(episodes)]
        (folder / "meta/episodes.jsonl").write_text("\n".join(lines))
        (folder / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "push"}))
        return
    (folder / "data/chunk-000").mkdir(parents=True)
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    per_file = FILE_ROWS // STEPS
    for number, first in enumerate(range(0, episodes, per_file)):
        part = table.slice(first * STEPS, per_file * STEPS)
        per_group = STEPS if layout == "groups" else len(part)
        pq.write_table(part, folder / f"data/chunk-000/file-{number:03d}.parquet", row_group_size=per_group)
    numbers = np.arange(episodes)
    places = {
        "episode_index": numbers, "tasks": [["push"]] * episodes, "length": np.full(episodes, STEPS),
        "data/chunk_index": np.zeros(episodes, np.int64), "data/file_index": numbers // per_file,
        "dataset_from_index": numbers * STEPS, "dataset_to_index": (numbers + 1) * STEPS,
    }  # fmt: skip
    pq.write_table(pa.table(places), folder / "meta/episodes/chunk-000/file-000.parquet")
    tasks = pa.table({"task_index": [0], "__index_level_0__": ["push"]})
    pq.write_table(tasks, folder / "meta/tasks.parquet")


def watched(scratch: Path, program: str, *arguments: str) -> tuple[float, float]:
    """CPU seconds and largest resident MB of a program and of all processes that it makes."""
    script = scratch / "program.py"
    script.write_text(program)
    command = [sys.executable, "-c", WATCH, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    cpu_s, memory_mb = map(float, done.stdout.split())
    return cpu_s, memory_mb


@functools.cache
def converted(episodes: int, layout: str) -> tuple[float, float]:
    """CPU seconds and largest resident MB of a conversion."""
    with tempfile.TemporaryDirectory(prefix="tendon-many-") as scratch:
        make(Path(scratch) / "source", episodes, layout)
        cpu_s, memory_mb = watched(Path(scratch), CONVERT, f"{scratch}/source", f"{scratch}/store")
    print(f"  {layout}, {episodes:,} episodes: {cpu_s:.1f} s of CPU, {memory_mb:.0f} MB", file=sys.stderr)
    return cpu_s, memory_mb


@functools.cache
def written(episodes: int, format: str) -> dict[str, tuple[float, float]]:
    """CPU seconds and largest resident MB of writing a format, and of reading what was written."""
    with tempfile.TemporaryDirectory(prefix="tendon-many-") as folder:
        scratch, measured = Path(folder), dict[str, tuple[float, float]]()
        if format == "minestudio-v1.1":
            watched(scratch, MINECRAFT, f"{scratch}/store", str(episodes))
        else:
            make(scratch / "source", episodes, "one")
            watched(scratch, CONVERT, f"{scratch}/source", f"{scratch}/store")
        (manifest,) = (scratch / "store/datasets/x").glob("*/manifest.json")
        target = scratch / ("out.hdf5" if format == "robomimic" else "out")
        measured["write"] = watched(scratch, WRITE, str(manifest.parent), str(target), format)
        measured["read"] = watched(scratch, CONVERT, str(target), f"{scratch}/again")
    print(f"  {format}, {episodes:,} episodes: {measured}", file=sys.stderr)
    return measured


def growth_of(times: list[float]) -> float:
    """The largest CPU time of ten times as many episodes, over ten times the CPU time."""
    return max(after / (10 * before) for before, after in itertools.pairwise(times))


def growth(layout: str) -> float:
    """That of converting a layout."""
    return growth_of([converted(episodes, layout)[0] for episodes in DECADES])


@row(
    "bench",
    "data-lerobot-groups",
    "LeRobot v3.0, a row group per episode: CPU time at 10 x the episodes over 10 x",
    "<= 1.3 x",
)
def growth_of_groups() -> float:
    """1,000, 10,000 and 100,000 episodes of 20 steps, no cameras."""
    return growth("groups")


@row("bench", "data-lerobot-one", "the same with one row group in every file", "<= 1.3 x")
def growth_of_one_group() -> float:
    """The same values."""
    return growth("one")


@row("bench", "data-lerobot-v21", "the same for v2.1, a file per episode", "<= 1.3 x")
def growth_of_files() -> float:
    """The same values."""
    return growth("v2.1")


@row(
    "bench",
    "data-lerobot-layout",
    "a row group per episode over one group in all, CPU time at 10,000 episodes",
    "<= 1.3 x",
)
def groups_over_one() -> float:
    """The same values."""
    return converted(10_000, "groups")[0] / converted(10_000, "one")[0]


@row(
    "bench",
    "data-lerobot-memory",
    "MB of the largest process that converts 100,000 episodes, all layouts",
    "<= 1024 MB",
)
def memory() -> float:
    """Interpreter and libraries included."""
    return max(converted(100_000, layout)[1] for layout in ("groups", "one", "v2.1"))


FORMATS = ("lerobot-v3.0", "lerobot-v2.1", "modality", "robomimic", "minestudio-v1.1")


def growth_of_formats(what: str) -> float:
    """That of reading or writing, of all formats."""
    growths = {each: growth_of([written(episodes, each)[what][0] for episodes in DECADES]) for each in FORMATS}
    print(f"  {what}: {growths}", file=sys.stderr)
    return max(growths.values())


@row(
    "bench",
    "data-formats-write",
    "LeRobot v3.0 and v2.1, modality, HDF5, LMDB out: CPU time at 10 x the episodes over 10 x, the worst",
    "<= 1.3 x",
)
def growth_of_writers() -> float:
    """1,000, 10,000 and 100,000 episodes of numbers alone; the LMDB has one chunk of 32 frames in every episode."""
    return growth_of_formats("write")


@row("bench", "data-formats-read", "the same of reading what was written", "<= 1.3 x")
def growth_of_readers() -> float:
    """The same sets."""
    return growth_of_formats("read")


@row(
    "bench",
    "data-formats-memory",
    "MB of the largest process that writes, and then reads, 100,000 episodes, all formats",
    "<= 1024 MB",
)
def memory_of_formats() -> float:
    """Interpreter and libraries included."""
    return max(memory_mb for each in FORMATS for _, memory_mb in written(100_000, each).values())
