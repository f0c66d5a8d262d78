"""``make faults`` of the loader: killed, cut, slow, flipped; the stream stays the same and memory where it should."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tendon.data.dataset import open_dataset
from tendon.loader import Loader, LoaderResources, SamplingOrder
from tests.benchmarks.rows import row
from tests.loader.coded import JPEG, STATE, Coded, coded_dataset
from tests.loader.slow_store import Trouble, counts, slow_store

HERE = Path(__file__).parent
BATCHES, KILLS, BATCH = 500, 23, 24
WORLDS = (1, 2, 3, 4, 6, 8)
KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "us-east-1"}
MIB = 1 << 20


def _script(name: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, HERE / name, *arguments], text=True, **options)


@row(
    "faults",
    "loader-sigkill",
    f"share of {BATCHES} batches that are sha256-equal after {KILLS} SIGKILLs, each time another world, threads, cache",
    "== 1",
)
def loader_sigkill() -> float:
    """One run of 500 batches; world 1 to 8, 1 or 4 threads, cache on or off, every combination once."""
    combinations = list(itertools.product(WORLDS, (1, 4), (True, False)))
    moments = random.Random(5)
    moments.shuffle(combinations)
    stops = [*sorted(moments.sample(range(10, BATCHES - 10), KILLS)), BATCHES]
    arguments = {
        "split": "all",
        "windows": {STATE: [-1, 0], JPEG: [-1, 0], "action": [0, 1, 2, 3]},
        "batch_size": BATCH,
        "seed": 1,
        "ordering": {"lanes": 24, "block": 2, "unit_bytes": 1},
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        local = coded_dataset(root / "root", Coded(episodes=96, length=12, codecs=("jpeg",)))
        plain = Loader(
            local,
            **arguments | {"ordering": SamplingOrder(**arguments["ordering"])},
            resources=LoaderResources(threads=1),
        )  # type: ignore[arg-type]
        from tests.benchmarks.loader_worker import windows_of

        expected = [windows_of(plain.batch(k)) for k in range(BATCHES)]
        seen: list[list[str] | None] = [None] * BATCHES
        equal, state, first = 0, None, 0
        with slow_store(root / "root") as (endpoint, _):
            for stop, (world, threads, cache) in zip(stops, combinations, strict=True):
                told = {
                    "uri": "s3://bucket/" + str(Path(local.uri).relative_to(root / "root")),
                    "world": world,
                    "threads": threads,
                    "cache": str(root / "cache") if cache else "",
                    "state": state,
                    "first": first,
                    "last": BATCHES,
                    "budget": 300_000,
                    "arguments": arguments,
                }
                first, state = _run_and_kill(root, told, endpoint, stop, seen, state)
            equal = sum(found == wanted for found, wanted in zip(seen, expected, strict=True))
    return equal / BATCHES


def _run_and_kill(
    root: Path, told: dict[str, Any], endpoint: str, stop: int, seen: list[list[str] | None], state: Any
) -> tuple[int, Any]:
    """Start all ranks, kill them when rank 0 has made batch ``stop``; the next batch that is not whole, and its state."""
    world, first = told["world"], told["first"]
    outs = [root / f"rank{rank}.jsonl" for rank in range(world)]
    for out in outs:
        out.unlink(missing_ok=True)
    environment = os.environ | KEYS | {"AWS_ENDPOINT_URL_S3": endpoint, "OMP_NUM_THREADS": "1"}
    ranks = [
        _script("loader_worker.py", json.dumps(told | {"rank": rank, "out": str(outs[rank])}), env=environment)
        for rank in range(world)
    ]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
        lines = outs[0].read_bytes().count(b"\n") if outs[0].exists() else 0
        if first + lines >= stop and stop < BATCHES:
            break
        time.sleep(0.005)
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(signal.SIGKILL)
        rank.wait()
    parts = [
        [json.loads(line) for line in out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if out.exists()
        else []
        for out in outs
    ]
    whole = min(map(len, parts))  # a checkpoint is of all ranks together
    for k, shares in enumerate(zip(*(part[:whole] for part in parts), strict=True)):
        windows: list[str] = [""] * BATCH
        for rank, (_, own, _) in enumerate(shares):
            begin = (rank - (first + k) * BATCH) % world
            windows[begin::world] = own
        assert all(share[2] == shares[0][2] for share in shares), "states differ between ranks"
        seen[first + k] = windows
        state = shares[0][2]
    return first + whole, state


@row("faults", "loader-coverage", "windows missing or doubled in two epochs, worlds 1 to 12, uneven shards", "== 0")
def loader_coverage() -> float:
    """Every window once per epoch."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        dataset = coded_dataset(folder, Coded(episodes=53, length=7, codecs=()))
        everything = sorted((r.index, t) for r in dataset.rows for t in range(r.length))
        for world in range(1, 13):
            for lanes in (1, 96):
                ordering = SamplingOrder(lanes=lanes, block=3, unit_bytes=1)
                ranks = [
                    Loader(dataset, "all", {STATE: (0,)}, 20, 1, rank=r, world=world, ordering=ordering)
                    for r in range(world)
                ]
                N = ranks[0].num_windows
                found: list[tuple[int, tuple[int, int]]] = []
                for k in range(-(-2 * N // 20)):
                    for r, rank in enumerate(ranks):
                        batch = rank.batch(k)
                        at = range(20 * k + (r - 20 * k) % world, 20 * k + 20, world)
                        pairs = zip(batch["episode_index"].tolist(), batch["frame_index"].tolist(), strict=True)
                        found += zip(at, pairs, strict=True)
                for rank in ranks:
                    rank.close()
                for epoch in (0, 1):
                    seen = sorted(pair for at, pair in found if epoch * N <= at < (epoch + 1) * N)
                    wrong += len(set(everything) ^ set(seen)) + abs(len(seen) - len(everything))
    return wrong


@row(
    "faults", "loader-gloo", "seconds of two gloo processes, batch 7, that see every window once (900: wrong)", "<= 60"
)
def loader_gloo() -> float:
    """No rank waits for another that has nothing left."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = coded_dataset(folder, Coded(episodes=31, length=9, codecs=()))
        everything = sorted((r.index, t) for r in dataset.rows for t in range(r.length))
        began = time.monotonic()
        ranks = [
            _script("loader_gloo.py", dataset.uri, str(r), "2", f"{folder}/meet", "7", stdout=subprocess.PIPE)
            for r in (0, 1)
        ]
        answers = [json.loads(rank.communicate(timeout=60)[0].splitlines()[-1]) for rank in ranks]
        # rank r has the positions of its parity; the batch that ends the epoch runs into the next one
        stream: list[tuple[int, int]] = [(0, 0)] * sum(map(len, answers))
        stream[0::2], stream[1::2] = (list(map(tuple, answer)) for answer in answers)
        seconds = time.monotonic() - began
        return seconds if sorted(stream[: len(everything)]) == everything else 900


TROUBLE = Trouble(refused=0.01, cut=0.005, flipped=0.001, slow=0.01, slow_s=1.0, latency_s=0.01, seed=2)


@row(
    "faults",
    "loader-network",
    "throughput under 1 % 5xx, 0.5 % cut, 0.1 % flipped, 1 % slow first byte (0: another stream)",
    ">= 0.8 x",
)
def loader_network() -> float:
    """The faulty network beside the same network without faults, interleaved; medians of three."""
    rates: dict[str, list[float]] = {"good": [], "bad": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        local = coded_dataset(root / "root", Coded(episodes=400, length=20, size=48, codecs=("jpeg",), noise=6))
        asked: dict[str, Any] = {
            "split": "all",
            "windows": {STATE: (-1, 0), JPEG: (-1, 0)},
            "batch_size": 64,
            "seed": 1,
            "ordering": SamplingOrder(lanes=24, block=4, unit_bytes=1),
        }
        plain = Loader(local, **asked, resources=LoaderResources(threads=1))
        num = 3 * plain.num_windows // 64
        from tests.benchmarks.loader_worker import windows_of

        expected = [windows_of(plain.batch(k)) for k in range(num)]
        total = dict.fromkeys(("requests", "refused", "cut", "flipped", "slow"), 0)
        for seed in range(3):
            for kind in rates:
                told = Trouble(**{**vars(TROUBLE), "seed": seed}) if kind == "bad" else Trouble(latency_s=0.01)
                with slow_store(root / "root", told) as (endpoint, pipe):
                    os.environ.update(KEYS | {"AWS_ENDPOINT_URL_S3": endpoint})
                    far = open_dataset("s3://bucket/" + str(Path(local.uri).relative_to(root / "root")))
                    loader = Loader(
                        far, **asked, resources=LoaderResources(memory_budget=16 * MIB, fetches=16, tier="window")
                    )
                    stream = [windows_of(next(loader)) for _ in range(2)]
                    began = time.monotonic()
                    stream += [windows_of(next(loader)) for _ in range(num - 2)]
                    rates[kind].append((num - 2) / (time.monotonic() - began))
                    loader.close()
                    if kind == "bad":
                        total = {name: total[name] + counts(pipe)[name] for name in total}
                if stream != expected:
                    return 0.0
    print(f"  {total}, batches/s {rates}", file=sys.stderr)
    return sorted(rates["bad"])[1] / sorted(rates["good"])[1]


def _grown(tier: str, budget: int, lanes: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        source = Coded(episodes=96, length=30, size=84, codecs=("jpeg",), noise=8)
        dataset = coded_dataset(folder, source)
        told = {
            "uri": dataset.uri,
            "windows": {STATE: [-1, 0], JPEG: [-1, 0], "action": list(range(16))},
            "batch_size": 64,
            "budget": budget,
            "tier": tier,
            "epochs": 10,
            "lanes": lanes,
            "unit_bytes": 1,
        }
        process = _script("loader_memory.py", json.dumps(told), stdout=subprocess.PIPE)
        answer = json.loads(process.communicate(timeout=600)[0].splitlines()[-1])
        print(f"  {tier}: {answer['tier']}, MiB {[round(g / MIB, 1) for g in answer['growth']]}", file=sys.stderr)
        return max(answer["growth"]) / budget


@row(
    "faults", "loader-memory-resident", "growth over ten epochs, frames resident, beside a budget of 96 MiB", "<= 1.1 x"
)
def memory_resident() -> float:
    """All decoded frames are 62 MB."""
    return _grown("auto", 96 * MIB, 1)


@row("faults", "loader-memory-block", "growth over ten epochs, frames of blocks, beside a budget of 64 MiB", "<= 1.1 x")
def memory_block() -> float:
    """Blocks come and go."""
    return _grown("block", 64 * MIB, 12)


@row(
    "faults", "loader-memory-window", "growth over ten epochs, frames per window, beside a budget of 48 MiB", "<= 1.1 x"
)
def memory_window() -> float:
    """Encoded members come and go."""
    return _grown("window", 48 * MIB, 12)
