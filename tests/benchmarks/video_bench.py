"""``make bench ROWS=video``: LeRobot videos into shards beside decoding and encoding them, and beside copying the files."""

from __future__ import annotations

import hashlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.data.video import decode_mp4, encode_mp4
from tests.benchmarks.rows import row
from tests.data import lerobot_sets
from tests.data.lerobot_sets import FPS

ROUNDS = 5
EPISODES, FRAMES, HEIGHT, WIDTH = 16, 400, 480, 640  # longer than a chunk: every video is cut
ENCODED_ANEW = 48  # frames: the slow side is measured on a part


def noisy(num: int) -> np.ndarray:
    """A moving scene with the noise of a sensor, so that a frame has about as many bytes as a robot's camera gives."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (HEIGHT // 16, (WIDTH + num) // 16 + 1, 3)).astype(np.int16)
    scene = np.kron(coarse, np.ones((16, 16, 1), np.int16))
    grain = rng.normal(0, 2, (8, HEIGHT, WIDTH, 1)).astype(np.int16)
    frames = np.empty((num, HEIGHT, WIDTH, 3), np.uint8)
    for t in range(num):
        frames[t] = np.clip(scene[:, t : t + WIDTH] + grain[t % 8], 0, 255)
    return frames


@lru_cache(maxsize=1)
def lerobot_set() -> Path:
    """A v2.1 dataset with H.264 in groups of two; all episodes have the same video, which nothing makes use of."""
    folder = Path("build/bench/lerobot-480p")
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        lerobot_sets.make(folder, "v2.1", (FRAMES,) * EPISODES, g=2)
        video = encode_mp4(noisy(FRAMES), FPS, "h264", 2)
        for path in folder.rglob("*.mp4"):
            path.write_bytes(video)
        (folder / "made").touch()
    return folder


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Process time of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


@lru_cache(maxsize=1)
def rates() -> dict[str, float]:
    """Frames per second of CPU: our conversion, a copy with sha256, and decoding with encoding; medians, interleaved."""
    source = lerobot_set()
    files = [path for path in source.rglob("*") if path.is_file()]
    video = next(source.rglob("*.mp4")).read_bytes()
    found: dict[str, list[float]] = {"ours": [], "copy": [], "encode": []}
    with tempfile.TemporaryDirectory() as scratch:

        def ours() -> None:
            convert(open_source(str(source)), f"{scratch}/store", "x")

        def copy() -> None:
            for n, path in enumerate(files):
                target = Path(scratch) / f"copy-{n}"
                shutil.copyfile(path, target)
                hashlib.sha256(target.read_bytes()).hexdigest()

        def encode() -> None:
            encode_mp4(decode_mp4(video, range(ENCODED_ANEW)), FPS)

        for _ in range(ROUNDS + 1):  # the first warms caches
            shutil.rmtree(f"{scratch}/store", ignore_errors=True)
            found["ours"].append(EPISODES * FRAMES / cpu_seconds(ours))
            found["copy"].append(EPISODES * FRAMES / cpu_seconds(copy))
            found["encode"].append(ENCODED_ANEW / cpu_seconds(encode))
    medians = {name: statistics.median(values[1:]) for name, values in found.items()}
    print({name: round(value) for name, value in medians.items()}, f"{len(video) / FRAMES / 1000:.1f} kB a frame")
    return medians


@row(
    "bench",
    "video-remux",
    "LeRobot 480p H.264 to shards, frames per CPU second beside decoding and encoding again",
    ">= 100 x",
)
def remux() -> float:
    """Row 18 of the plan."""
    return rates()["ours"] / rates()["encode"]


@row(
    "bench",
    "video-copy",
    "LeRobot 480p H.264 to shards, frames per CPU second beside copying the files and sha256",
    ">= 0.3 x",
)
def beside_copy() -> float:
    """Row 18 of the plan: reading, checking, cutting, hashing source and shards, writing."""
    return rates()["ours"] / rates()["copy"]


@lru_cache(maxsize=1)
def shards() -> Dataset:
    """A converted dataset."""
    store = tempfile.TemporaryDirectory(prefix="tendon-bench-")
    kept.append(store)
    manifest = convert(open_source(str(lerobot_set())), store.name, "x")
    return open_dataset(dataset_uri(store.name, "x", manifest.plan))


kept: list[Any] = []


@row(
    "bench", "video-plain", "members of a shard with video that tar, webdataset and ffprobe or PyAV cannot read", "== 0"
)
def plain() -> float:
    """Row 25 of the plan."""
    import io

    import av
    import webdataset

    dataset = shards()
    path = Path(dataset.uri) / dataset.manifest.shards[0].key
    listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True).stdout.split()
    wrong = 0
    for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).decode():
        names = [name for name in sample if not name.startswith("__")]
        wrong += sum(f"{sample['__key__']}.{name}" not in listed for name in names)
        wrong += len(sample["lowdim.npy"]) != FRAMES
        frames = 0
        for name in names:
            if name.endswith(".mp4"):
                with av.open(io.BytesIO(sample[name])) as container:
                    frames += sum(1 for _ in container.demux(video=0)) - 1  # the last packet is empty
                wrong += not _probed(sample[name])
        wrong += frames != FRAMES
    return wrong


def _probed(video: bytes) -> bool:
    """Whether ffprobe sees a video in it; without ffprobe PyAV has to do."""
    if not shutil.which("ffprobe"):
        return True
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", "-"]
    done = subprocess.run(command, input=video, capture_output=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == b"h264"
