"""``make bench`` of the loader: windows of numbers, members, order and state, beside the peers that install."""

from __future__ import annotations

import functools
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.dataset import Dataset
from tendon.loader import Loader, LoaderResources, SamplingOrder
from tendon.loader.mixture import PERIOD, DatasetMixture
from tendon.loader.order import Order, Units
from tendon.loader.records import Records
from tendon.loader.slots import Slots, minestudio_batches
from tests.benchmarks import peers
from tests.benchmarks.loader_sets import MIB, ROUNDS, coded, folder, lift, per_cpu_s, ratio, robomimic_rate, taking
from tests.benchmarks.rows import Skip, row
from tests.loader.coded import STATE

# ------------------------------------------------------------------------------------------------ 1, 2: low-dim windows

LOW = ["object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
TEN = tuple(range(10))


def _lowdim(batch_size: int) -> Callable[[], int]:
    _, dataset = lift()
    deltas = {f"observation.{key}": TEN for key in LOW} | {"action": TEN}
    return taking(_resident(dataset, deltas, batch_size), max(8, 20_000 // batch_size))


def _beside_robomimic(cache: str) -> float:
    take = _lowdim(1024)
    rates = []
    for _ in range(3):
        theirs = robomimic_rate(cache, 1, 10, LOW, lift()[0])
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


def _resident(dataset: Dataset, deltas: dict[str, tuple[int, ...]], batch_size: int) -> Loader:
    loader = Loader(dataset, "all", deltas, batch_size, 1)
    while not loader.maker._opened_cache().ready:
        next(loader)
    return loader


@row(
    "bench",
    "loader-1-take",
    "low-dim windows of 10 of 58,000 steps of 46 numbers beside plain numpy: permutation, row numbers, masks and np.take",
    ">= 0.8 x",
)
def lowdim_beside_numpy() -> float:
    """The same arrays in batches of 4096, in memory that is used again; also beside np.take alone."""
    dataset, batch_size, dim = coded(episodes=400, length=145, codecs=(), dim=44), 4096, 46
    loader = _resident(dataset, {STATE: TEN, "action": TEN}, batch_size)
    lengths = dataset.rows.lengths
    num, starts, deltas = int(lengths.sum()), np.cumsum(lengths) - lengths, np.arange(10)
    episode_of, values = np.repeat(np.arange(len(lengths)), lengths), np.ones((num, dim), np.float32)
    out, rows = np.empty((batch_size, 10, dim), np.float32), np.empty((batch_size, 10), np.int64)
    inside, pad, chance = np.empty_like(rows), np.empty(rows.shape, bool), np.random.default_rng(0)

    def batches() -> Iterator[np.ndarray]:
        left = np.empty(0, np.int64)
        while True:
            if len(left) < batch_size:
                left = np.concatenate([left, chance.permutation(num)])
            yield left[:batch_size]
            left = left[batch_size:]

    def plain() -> int:
        for windows in itertools.islice(order, 16):
            episode_index = episode_of[windows]
            windows - starts[episode_index]  # the frame index
            np.add(windows[:, None], deltas, out=rows)
            np.minimum(rows, (starts + lengths - 1)[episode_index, None], out=inside)
            np.not_equal(rows, inside, out=pad)
            np.take(values, inside, axis=0, out=out, mode="clip")
        return 16 * batch_size

    def bare() -> int:
        for _ in range(16):
            np.take(values, inside, axis=0, out=out, mode="clip")
        return 16 * batch_size

    order = batches()
    value = ratio(taking(loader, 16), plain)
    ratio(taking(loader, 16), bare)
    return value


@row(
    "bench",
    "loader-1-take-small",
    "low-dim windows of 10 of 9,400 steps of 26 numbers, which fit in a cache, beside np.take alone",
    ">= 0.3 x",
)
def lowdim_beside_take_small() -> float:
    """An exact permutation costs as much as the copy then."""
    _, dataset = lift()
    loader = _resident(dataset, {f"observation.{key}": TEN for key in LOW} | {"action": TEN}, 4096)
    num = int(dataset.rows.lengths.sum())
    values = np.random.default_rng(0).normal(size=(num, 26)).astype(np.float32)
    rows = np.random.default_rng(1).integers(0, num - 10, (8, 4096, 1)) + np.arange(10)
    out, turn = np.empty((4096, 10, 26), np.float32), itertools.cycle(rows)

    def bare() -> int:
        for _ in range(4):
            np.take(values, next(turn), axis=0, out=out, mode="clip")
        return 4 * 4096

    return ratio(taking(loader, 16), bare)


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
    ordering = SamplingOrder(lanes=8, block=10, unit_bytes=1 << 18)
    loader = Loader(
        dataset, "all", {STATE: TEN, "action": TEN}, 1024, 1,
        ordering=ordering, resources=LoaderResources(memory_budget=10 * MIB, threads=1, tier="block", ahead=0),
    )  # fmt: skip
    assert loader.maker.shares.rows < sum(row.length for row in dataset.rows)
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


@functools.cache
def _containers() -> dict[str, Any]:
    """Rates of the other containers with the same payloads, and ours."""
    python, root = peers.readers(), Path(folder().name)
    dataset = coded(episodes=300, length=45, codecs=(), dim=160)
    records = Records(dataset, "lowdim.npy")
    contents = [np.array(records[i]) for i in range(len(records))]
    np.savez(root / "payloads.npz", flat=np.concatenate(contents), sizes=np.array([len(each) for each in contents]))
    theirs = peers.ask(python, "readers.py", str(root / "payloads.npz"), str(root / "readers"))
    order = np.random.default_rng(0).permutation(len(records)).tolist()
    rates = [per_cpu_s(lambda: sum(1 for i in order if bytes(records[i]))) for _ in range(ROUNDS)]
    print(f"  ours {statistics.median(rates):.4g}, {theirs}", file=sys.stderr)
    return theirs | {"ours": statistics.median(rates)}


def _beside_container(name: str) -> float:
    rates = _containers()
    if name not in rates:
        raise Skip(f"{name} does not run: {rates[name + '_error']}")
    return float(rates["ours"] / rates[name])


@row("bench", "loader-3-litdata", "verified samples of about 30 kB beside LitData, read in order", ">= 2 x")
def beside_litdata() -> float:
    """Its fastest way."""
    return _beside_container("litdata")


@row("bench", "loader-3-arrayrecord", "verified samples of about 30 kB beside ArrayRecord, any order", ">= 4 x")
def beside_array_record() -> float:
    """One record a read."""
    return _beside_container("array_record")


@row("bench", "loader-3-lance", "verified samples of about 30 kB beside Lance, 64 rows at once", ">= 8 x")
def beside_lance() -> float:
    """Random rows."""
    return _beside_container("lance")


@row("bench", "loader-3-mds", "verified samples of about 30 kB beside MosaicML Streaming (MDS), any order", ">= 2 x")
def beside_mds() -> float:
    """A local folder."""
    return _beside_container("mds")


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
    datasets, _ = DatasetMixture(weights.tolist(), 1).at(np.arange(3 * PERIOD))
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
