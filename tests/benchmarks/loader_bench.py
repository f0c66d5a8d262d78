"""``make bench`` of the loader, beside the peers that install. Rates are per second of CPU time of the whole process,
medians of interleaved rounds in one run; only ratios mean anything on a shared machine."""

from __future__ import annotations

import functools
import http.client
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.loader import Loader, Means, Ordering
from tendon.loader.fetch import HttpBytes, open_bytes
from tendon.loader.mixture import PERIOD, Mixture
from tendon.loader.order import Order, Units
from tendon.loader.records import Records
from tendon.loader.slots import Slots, minestudio_batches
from tests.benchmarks import peers
from tests.benchmarks.rows import row
from tests.conftest import make_lift_like_hdf5
from tests.loader.coded import JPEG, STATE, VIDEO, Coded, coded_dataset
from tests.loader.slow_store import Trouble, slow_store

ROUNDS = 5
KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "us-east-1"}
MIB = 1 << 20


def per_cpu_s(work: Callable[[], int], least_s: float = 0.3) -> float:
    """What is done per second of CPU time; children count after they are joined."""
    began, count = time.process_time(), 0
    while time.process_time() - began < least_s:
        count += work()
    return count / (time.process_time() - began)


def ratio(ours: Callable[[], int], theirs: Callable[[], int], rounds: int = ROUNDS) -> float:
    """Median rate of ours over median rate of theirs, interleaved; both warmed up once."""
    ours(), theirs()
    rates = [(per_cpu_s(ours), per_cpu_s(theirs)) for _ in range(rounds)]
    first, second = (statistics.median(each) for each in zip(*rates, strict=True))
    print(f"  {first:.4g} / {second:.4g} per CPU second", file=sys.stderr)
    return first / second


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def coded(**options: Any) -> Dataset:
    """A dataset, made once for all rows."""
    return coded_dataset(
        _folder().name, Coded(**options), "-".join(f"{k}{v}" for k, v in options.items()).lower() or "x"
    )


@functools.cache
def lift(images: bool = False, size: int = 84, episodes: int = 200, length: int = 47) -> tuple[Path, Dataset]:
    """A robomimic file and the dataset made of it."""
    path = Path(_folder().name) / f"lift{images}{size}{episodes}.hdf5"
    make_lift_like_hdf5(path, episodes, length, images, size)
    manifest = convert(open_source(str(path)), _folder().name, path.stem.lower())
    return path, open_dataset(dataset_uri(_folder().name, path.stem.lower(), manifest.plan))


def taking(loader: Loader, batches: int = 8) -> Callable[[], int]:
    """Work that takes some batches from an endless loader."""

    def take() -> int:
        for _ in range(batches):
            next(loader)
        return batches * loader.batch_size

    return take


# ------------------------------------------------------------------------------------------------ 1, 2: low-dim windows

LOW = ["object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
TEN = tuple(range(10))


def _robomimic_rate(cache: str, frame_stack: int, seq_length: int, keys: list[str], file: Path) -> float:
    answer = peers.ask(
        peers.robomimic(),
        "robomimic_windows.py",
        "rate",
        str(file),
        str(frame_stack),
        str(seq_length),
        cache,
        ",".join(keys),
    )
    return float(answer["per_cpu_s"])


def _lowdim(batch_size: int) -> Callable[[], int]:
    _, dataset = lift()
    deltas = {f"observation.{key}": TEN for key in LOW} | {"action": TEN}
    loader = Loader(dataset, "all", deltas, batch_size, 1)
    while not loader._shelved().ready:
        next(loader)
    return taking(loader, max(8, 20_000 // batch_size))


def _beside_robomimic(cache: str) -> float:
    take = _lowdim(1024)
    rates = []
    for _ in range(3):
        theirs = _robomimic_rate(cache, 1, 10, LOW, lift()[0])
        rates.append((per_cpu_s(take), theirs))
    ours, theirs = (statistics.median(each) for each in zip(*rates, strict=True))
    print(f"  {ours:.4g} / {theirs:.4g} per CPU second", file=sys.stderr)
    return ours / theirs


@row(
    "bench",
    "loader-1-lowdim",
    "low-dim windows of 10 beside robomimic's cache low_dim (batches of 1024 / 100)",
    ">= 150 x",
)
def lowdim_beside_low_dim() -> float:
    """Resident windows."""
    return _beside_robomimic("low_dim")


@row(
    "bench",
    "loader-1-lowdim-all",
    "low-dim windows of 10 beside robomimic's cache all (batches of 1024 / 100)",
    ">= 60 x",
)
def lowdim_beside_all() -> float:
    """Resident windows."""
    return _beside_robomimic("all")


@row("bench", "loader-1-take", "low-dim windows of 10, order and masks included, beside a bare np.take", ">= 0.8 x")
def lowdim_beside_take() -> float:
    """What all the arithmetic costs."""
    take = _lowdim(4096)
    values = np.random.default_rng(0).normal(size=(9600, 26)).astype(np.float32)
    rows = np.random.default_rng(1).integers(0, 9590, (4096, 1)) + np.arange(10)
    out = np.empty((4096, 10, 26), np.float32)

    def bare() -> int:
        for _ in range(4):
            np.take(values, rows, axis=0, out=out, mode="clip")
        return 4 * 4096

    return ratio(take, bare)


@row(
    "bench",
    "loader-2-streaming",
    "low-dim windows of 10 from tar, never all in memory, beside webdataset windows + shuffle",
    ">= 6 x",
)
def lowdim_streaming() -> float:
    """The loader in lanes and blocks; webdataset decodes episodes, cuts windows, shuffles 1000."""
    import webdataset as wds

    dataset = coded(episodes=600, length=145, codecs=(), dim=39)
    ordering = Ordering(lanes=8, block=10, unit_bytes=1 << 18)
    loader = Loader(
        dataset, "all", {STATE: TEN, "action": TEN}, 1024, 1,
        ordering=ordering, means=Means(memory_budget=10 * MIB, threads=1, tier="block", ahead=0),
    )  # fmt: skip
    assert loader.shares.rows < sum(row.length for row in dataset.rows)
    paths = [str(Path(dataset.uri) / shard.key) for shard in dataset.manifest.shards]

    def windows(samples: Iterator[dict[str, Any]]) -> Iterator[np.ndarray]:
        for sample in samples:
            steps = sample["lowdim.npy"]
            padded = np.concatenate([steps, np.repeat(steps[-1:], 9)])
            for t in range(len(steps)):
                yield padded[t : t + 10]

    def endless() -> Iterator[np.ndarray]:
        while True:
            yield from (
                wds.WebDataset(paths, shardshuffle=False, empty_check=False).decode().compose(windows).shuffle(1000)
            )

    theirs = endless()

    def take() -> int:
        np.stack(list(itertools.islice(theirs, 1024)))
        return 1024

    return ratio(taking(loader, 10), take)


# ------------------------------------------------------------------------------------------------------ 3: sample bytes


@row(
    "bench",
    "loader-3-bytes",
    "verified samples of about 30 kB from a local shard beside webdataset's decode",
    ">= 40 x",
)
def sample_bytes() -> float:
    """Index and mapped memory beside parsing."""
    import webdataset as wds

    dataset = coded(episodes=300, length=45, codecs=(), dim=160)
    records = Records(dataset, "lowdim.npy")
    order = np.random.default_rng(0).permutation(len(records)).tolist()
    paths = [str(Path(dataset.uri) / shard.key) for shard in dataset.manifest.shards]

    def ours() -> int:
        for i in order:
            bytes(records[i])  # a copy, as theirs
        return len(order)

    def theirs() -> int:
        return sum(1 for _ in wds.WebDataset(paths, shardshuffle=False, empty_check=False).decode())

    return ratio(ours, theirs)


# ----------------------------------------------------------------------------------------------------- 4, 5, 6: images


def _jpeg_bound(size: int, threads: int = 1) -> float:
    import simplejpeg

    dataset = coded(episodes=24, length=40, size=size, codecs=("jpeg",), noise=12)
    loader = Loader(dataset, "all", {JPEG: (0,)}, 64, 1, means=Means(tier="window", threads=threads, ahead=0))
    frames = [frame for row in dataset.rows for frame in dataset.jpegs(row, JPEG)]
    out = np.empty((size, size, 3), np.uint8)

    def bound() -> int:
        for frame in frames[:256]:
            simplejpeg.decode_jpeg(frame, "RGB", fastdct=False, fastupsample=False, buffer=out)
        return 256

    for _ in range(20):
        next(loader)
    return ratio(taking(loader, 4), bound)


@row("bench", "loader-4-jpeg-84", "JPEG batches of 84 px beside nothing but decoding", ">= 0.92 x")
def jpeg_84() -> float:
    """One frame per window."""
    return _jpeg_bound(84)


@row("bench", "loader-4-jpeg-224", "JPEG batches of 224 px beside nothing but decoding", ">= 0.92 x")
def jpeg_224() -> float:
    """One frame per window."""
    return _jpeg_bound(224)


def _images(tier: str, frame_stack: int, seq_length: int, lanes: int) -> float:
    """Windows as robomimic's: frame_stack - 1 + seq_length frames of two cameras; here the frames the policy needs."""
    path, dataset = lift(images=True, episodes=40, length=100)
    cameras = ["agentview_image", "robot0_eye_in_hand_image"]
    observed = (
        tuple(range(1 - frame_stack, 1)) if seq_length > frame_stack else tuple(range(1 - frame_stack, seq_length))
    )
    acted = tuple(range(1 - frame_stack, seq_length))
    deltas = {f"observation.images.{camera}": observed for camera in cameras}
    deltas |= {"observation.robot0_eef_pos": observed, "action": acted}
    means = Means(tier=tier, threads=1, ahead=0, memory_budget=(1024 if tier == "resident" else 300) * MIB)  # type: ignore[arg-type]

    def opened() -> Loader:
        ordering = Ordering(lanes=lanes, block=4, unit_bytes=1)
        return Loader(dataset, "all", deltas, 64, 1, ordering=ordering, means=means)

    loader = opened()
    per_epoch = loader.num_windows // 64
    while tier == "resident" and not loader._shelved().ready:  # later epochs
        next(loader)
    keys = [*cameras, "robot0_eef_pos"]
    rates = []
    for _ in range(3):
        theirs = _robomimic_rate("low_dim", frame_stack, seq_length, keys, path)
        loader = loader if tier == "resident" else opened()  # a first epoch is one that begins with nothing
        began, count = time.process_time(), 0
        for _ in range(per_epoch):
            next(loader)
            count += 64
        rates.append((count / (time.process_time() - began), theirs))
    ours, theirs = (statistics.median(each) for each in zip(*rates, strict=True))
    print(f"  {ours:.4g} / {theirs:.4g} per CPU second", file=sys.stderr)
    return ours / theirs


@row(
    "bench",
    "loader-5-first-16-2",
    "image windows, first epoch: 2 frames and 16 actions, beside robomimic's HDF5",
    ">= 8 x",
)
def images_first_16_2() -> float:
    """Every frame decoded once per epoch; robomimic loads all 17 frames of an item."""
    return _images("block", 2, 16, 4)


@row("bench", "loader-5-first-10-10", "image windows, first epoch: 10 frames, beside robomimic's HDF5", ">= 3 x")
def images_first_10_10() -> float:
    """Every frame decoded once per epoch."""
    return _images("block", 1, 10, 4)


@row(
    "bench",
    "loader-5-later-16-2",
    "image windows, later epochs: 2 frames and 16 actions, beside robomimic's HDF5",
    ">= 60 x",
)
def images_later_16_2() -> float:
    """Frames stay decoded."""
    return _images("resident", 2, 16, 1)


@row("bench", "loader-5-later-10-10", "image windows, later epochs: 10 frames, beside robomimic's HDF5", ">= 12 x")
def images_later_10_10() -> float:
    """Frames stay decoded."""
    return _images("resident", 1, 10, 1)


@row(
    "bench",
    "loader-6-video",
    "frames of mp4 windows of 128 beside decoding the chunks from end to end with PyAV",
    ">= 0.85 x",
)
def video_windows() -> float:
    """Windows side by side, as MineStudio's; the chunk is twice the window."""
    import av

    dataset = coded(episodes=8, length=256, size=224, codecs=("video",), noise=3, chunk=256)
    loader = Loader(
        dataset, "all", {VIDEO: tuple(range(128))}, 4, 1, stride=128, ordering=Ordering("slots"),
        means=Means(threads=1, ahead=0, memory_budget=300 * MIB, tier="block"),
    )  # fmt: skip
    chunks = [chunk.content for row in dataset.rows for chunk in dataset.video_chunks(row, VIDEO)]

    def ours() -> int:
        next(loader)
        return 4 * 128

    turn = itertools.cycle(chunks)

    def bound() -> int:
        with av.open(io.BytesIO(next(turn))) as container:
            container.streams.video[0].thread_type = "NONE"
            return sum(1 for frame in container.decode(video=0) if frame.to_ndarray(format="rgb24") is not None)

    return ratio(ours, bound, rounds=3)


# ----------------------------------------------------------------------------------------------------- 8 to 11: network


@contextmanager
def far(dataset: Dataset, trouble: Trouble) -> Iterator[Dataset]:
    """The dataset behind a server."""
    with slow_store(Path(_folder().name), trouble) as (endpoint, _):
        os.environ.update(KEYS | {"AWS_ENDPOINT_URL_S3": endpoint, "NO_PROXY": "*", "no_proxy": "*"})
        yield open_dataset("s3://bucket/" + str(Path(dataset.uri).relative_to(_folder().name)))


@row(
    "bench",
    "loader-8-get-cpu",
    "CPU seconds per byte of ranged GETs on loopback beside a bare http.client",
    "<= 1.15 x",
)
def get_cpu() -> float:
    """4 MB ranges into one buffer, one connection."""
    dataset = coded(episodes=120, length=40, size=224, codecs=("jpeg",), noise=12)
    shard = max(dataset.manifest.shards, key=lambda each: each.bytes)
    with far(dataset, Trouble()) as remote:
        source = open_bytes(remote.store)
        assert isinstance(source, HttpBytes)
        url = urlsplit(source._sign(shard.key))
        connection = http.client.HTTPConnection(url.netloc)
        view = memoryview(bytearray(4 * MIB))
        starts = list(range(0, shard.bytes - 4 * MIB, 4 * MIB))

        def bare() -> int:
            for start in starts:
                connection.request(
                    "GET", f"{url.path}?{url.query}", headers={"Range": f"bytes={start}-{start + len(view) - 1}"}
                )
                answer, got = connection.getresponse(), 0
                while got < len(view):
                    got += answer.readinto(view[got:])
            return len(starts)

        def ours() -> int:
            for start in starts:
                source.read_into(shard.key, start, view)
            return len(starts)

        return 1 / ratio(ours, bare)


LATENCY_S, MB_S = 0.03, 40.0


@row(
    "bench",
    "loader-9-throughput",
    "MB/s at 30 ms, 40 MB/s per connection, K=8, units of 4 MB, beside the bound of 247",
    ">= 0.93 x",
)
def throughput() -> float:
    """Units of a loader as they are fetched, low-dim rows so that nothing but reading counts. Wall time."""
    dataset = coded(episodes=64, length=6800, codecs=(), dim=150)
    with far(dataset, Trouble(latency_s=LATENCY_S, connection_mb_s=MB_S)) as remote:
        source = open_bytes(remote.store)
        ranges = [(s.key, at) for s in remote.manifest.shards for at in range(0, s.bytes - 4 * MIB, 4 * MIB)][:60]
        from concurrent.futures import ThreadPoolExecutor

        views = [memoryview(bytearray(4 * MIB)) for _ in range(8)]
        rates = []
        for _ in range(3):
            began = time.monotonic()
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda i: source.read_into(*ranges[i], views[i % 8]), range(len(ranges) // 8 * 8)))
            rates.append(len(ranges) // 8 * 8 * 4 * MIB / 1e6 / (time.monotonic() - began))
        print(f"  MB/s {rates}", file=sys.stderr)
        return statistics.median(rates) / (8 * 4 * MIB / 1e6 / (LATENCY_S + 4 * MIB / 1e6 / MB_S))


@row("bench", "loader-10-first", "round trips from the opened index to the first sample", "<= 2.5 x")
def first_sample() -> float:
    """A batch of one at 30 ms; a unit of many episodes is not waited for."""
    dataset = coded(episodes=64, length=100, size=84, codecs=("jpeg",), noise=8)
    times = []
    for seed in range(ROUNDS):
        with far(dataset, Trouble(latency_s=LATENCY_S, connection_mb_s=MB_S)) as remote:
            remote.table  # noqa: B018
            loader = Loader(remote, "all", {STATE: (0,), JPEG: (0,)}, 1, seed, means=Means(ahead=0))
            loader._shelved()._source._sign(remote.manifest.shards[0].key)  # type: ignore[attr-defined]
            began = time.monotonic()
            next(loader)
            times.append(time.monotonic() - began)
            loader.close()
    print(f"  seconds {times}", file=sys.stderr)
    return statistics.median(times) / LATENCY_S


# ---------------------------------------------------------------------------------------------- 13 to 16: order and state


@row(
    "bench",
    "loader-13-resume",
    "time from a saved state to its batch beside the time to the first batch of all",
    "<= 1.2 x",
)
def resume_time() -> float:
    """Loader made, state loaded, batch taken; CPU time."""
    dataset = coded(episodes=400, length=40, codecs=(), dim=20)
    deltas, times = {STATE: TEN, "action": TEN}, dict[str, list[float]](cold=[], resumed=[])
    there = Loader(dataset, "all", deltas, 256, 1)
    for _ in range(777):
        next(there)
    state = json.loads(json.dumps(there.state))
    assert len(json.dumps(state)) <= 1024
    for _ in range(ROUNDS):
        for kind in times:
            began = time.process_time()
            loader = Loader(dataset, "all", deltas, 256, 1)
            if kind == "resumed":
                loader.load_state(state)
            next(loader)
            times[kind].append(time.process_time() - began)
            loader.close()
    return statistics.median(times["resumed"]) / statistics.median(times["cold"])


@row("bench", "loader-13-state", "bytes of a state", "<= 1024")
def state_bytes() -> float:
    """JSON."""
    return len(json.dumps(Loader(coded(), "all", {STATE: (0,)}, 8, 1).state))


@functools.cache
def _mixed_lanes() -> tuple[np.ndarray, np.ndarray]:
    lengths = np.random.default_rng(0).integers(50, 150, 4000)
    units = Units.single(lengths)
    order = Order(int(units.bounds[-1]), 3, 96, units)
    batches = order.windows(0, int(units.bounds[-1]) // 256 * 256).reshape(-1, 256)
    return lengths, np.searchsorted(units.bounds, batches, side="right") - 1


@row(
    "bench",
    "loader-14-shuffle",
    "effective batch of 96 lanes of 24 episodes beside a permutation, batches of 256",
    ">= 0.95 x",
)
def shuffle_quality() -> float:
    """N_eff = B / (1 + (B - 1) P[same episode])."""
    lengths, episodes = _mixed_lanes()
    same = np.mean([np.mean(batch[:, None] == batch) for batch in episodes])
    p = (same * 256 - 1) / 255
    ideal = float((lengths / lengths.sum()) @ ((lengths - 1) / (lengths.sum() - 1)))
    return float((1 + 255 * ideal) / (1 + 255 * p))


@row("bench", "loader-14-lag", "correlation of the mean task of neighbouring batches", "<= 0.1")
def shuffle_lag() -> float:
    """Tasks stored in order; what a slow drift would show."""
    means = (_mixed_lanes()[1] // 400).mean(1)
    return abs(float(np.corrcoef(means[:-1], means[1:])[0, 1]))


@row("bench", "loader-15-mixture", "largest error of any weight in any 4096 samples in a row", "<= 1")
def mixture_error() -> float:
    """Five datasets, sliding over three periods."""
    weights = np.array([1.0, 0.37, 0.05, 2.2, 0.003])
    datasets, _ = Mixture(weights.tolist(), 1).at(np.arange(3 * PERIOD))
    worst = 0.0
    for d, weight in enumerate(weights):
        sums = np.concatenate([[0], np.cumsum(datasets == d)])
        worst = max(worst, np.abs(sums[PERIOD:] - sums[:-PERIOD] - weight / weights.sum() * PERIOD).max())
    return float(worst)


def _broken(grid: np.ndarray, starts: np.ndarray) -> tuple[int, int]:
    """Rows that neither go on nor begin, and batches that hold an episode twice."""
    episodes = np.searchsorted(starts, grid, side="right") - 1
    first = grid == starts[episodes]
    breaks = int(((grid[1:] != grid[:-1] + 1) & ~first[1:]).sum())
    doubled = sum(grid.shape[1] - len(set(batch)) for batch in episodes.tolist())
    return breaks, doubled


@row(
    "bench",
    "loader-16-slots",
    "rows that break, episodes doubled in a batch, windows lost (MineStudio's: printed)",
    "== 0",
)
def slots_faults() -> float:
    """1000 episodes of 1 to 40 windows, 64 rows."""
    sizes = np.random.default_rng(0).integers(1, 41, 1000)
    starts, total = np.cumsum(sizes) - sizes, int(sizes.sum())
    grid = Slots(sizes, 64, 1).windows(0, total // 64 * 64 * 2).reshape(-1, 64)
    breaks, doubled = _broken(grid, starts)
    lost = total - len(np.unique(grid[: total // 64 + 41]))
    theirs = np.array(minestudio_batches(sizes.tolist(), 64, 0, 1))
    their_breaks, their_doubled = _broken(theirs, starts)
    shares = (their_breaks / theirs.size, their_doubled / theirs.size, (total - theirs.size) / total)
    print("  MineStudio: " + ", ".join(f"{share:.2%}" for share in shares), file=sys.stderr)
    return breaks + doubled + lost
