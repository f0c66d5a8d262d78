"""``make bench``: what the loop costs beside a bare torch loop, and beside the loops of peers. CPU time, medians, one thread.

Network, data and batch are the same everywhere: BC with two layers of 1024, demonstrations of the built-in task,
batches of 100, Adam at 1e-4; data is included, validation and checkpoints are not.

| loop | what is timed |
|---|---|
| bare | next batch of our loader, loss, backward, Adam (fused); nothing else |
| tendon | ``train`` as it is: log lines every 100 steps, metrics.jsonl, watch over losses, signals |
| robomimic 0.3.0 | ``TrainUtils.run_epoch`` on the HDF5 file, cached in memory, no workers |
| LeRobot 0.4.4 | ``update_policy`` and what its train script does around it, on its own dataset v3.0, no workers |
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks import line, peers
from tests.benchmarks.rows import row

STEPS, WARM_UP, ROUNDS = 200, 20, 5
BLOCK, BLOCKS = 100, 6  # steps between two log lines; so many blocks
OVERRIDES = ["env=reach", "policy=bc", "training.num_threads=1", "training.save_checkpoint=false", "device=cpu"]


def _setup(cwd: Path) -> tuple[Any, str, Any]:
    from tendon.config.compose import compose
    from tendon.data.dataset import open_dataset
    from tendon.data.stats import compute_stats

    uri = line.dataset(cwd)
    steps = [f"training.offline_steps={WARM_UP + STEPS}", "training.valid_freq=1000000", "training.valid_episodes=0"]
    return compose([*OVERRIDES, *steps, f"data.uri={uri}"]), uri, compute_stats(open_dataset(uri), "train")


def bare_steps(config: Any, uri: str, stats: Any) -> Iterator[None]:
    """One step of the bare loop for each ``next``."""
    import torch

    from tendon.policies.registry import make_policy
    from tendon.train.loop.data_feeds import open_data_feeds
    from tendon.train.loop.engine import select_features

    policy = make_policy(config.policy, select_features(config, stats.features), stats.features)
    batches = open_data_feeds(uri, config, policy.windows).train
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.training.lr, fused=True)
    keys = (*policy.reads, *policy.writes)
    while True:
        arrays = next(batches)
        optimizer.zero_grad(set_to_none=True)
        policy.loss({key: torch.from_numpy(arrays[key]) for key in keys}).loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield


def step_by_step(config: Any, uri: str, stats: Any) -> tuple[list[float], list[float]]:
    """CPU seconds of each of our steps and of a bare step right behind it: what disturbs one disturbs the other."""
    from tendon.train.loop.training import train
    from tendon.train.watch.callbacks import Callback

    ours, bare, steps = list[float](), list[float](), bare_steps(config, uri, stats)

    class Clock(Callback):
        left = 0.0

        def on_step(self, run: Any, step: int, update: Any) -> None:
            entered = time.process_time()
            next(steps)
            done = time.process_time()
            ours.append(entered - self.left)
            bare.append(done - entered)
            self.left = time.process_time()

    with tempfile.TemporaryDirectory() as trial:
        train(config, uri, stats, trial, callbacks=[Clock()])
    return ours[-BLOCK * BLOCKS :], bare[-BLOCK * BLOCKS :]


def our_loop(config: Any, uri: str, stats: Any, warm_up: int = WARM_UP, steps: int = STEPS) -> float:
    """CPU seconds per step of ``train``."""
    from tendon.train.loop.training import train
    from tendon.train.watch.callbacks import Callback

    class Clock(Callback):
        began = ended = 0.0

        def on_step(self, run: Any, step: int, update: Any) -> None:
            if step == warm_up - 1:
                self.began = time.process_time()
            if step == warm_up + steps - 1:
                self.ended = time.process_time()

    clock = Clock()
    with tempfile.TemporaryDirectory() as trial:
        train(config, uri, stats, trial, callbacks=[clock])
    return (clock.ended - clock.began) / steps


def ratio(ours: Callable[[], float], theirs: Callable[[], float], rounds: int = ROUNDS) -> float:
    """Median of ours over median of theirs, measured by turns."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    mine, other = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(f"  ours {1e3 * mine:.3f} ms, theirs {1e3 * other:.3f} ms of CPU a step")
    return mine / other


@row(
    "bench",
    "train-overhead",
    "CPU time of a training step over that of a bare torch loop with the same data",
    "<= 1.03",
)
def overhead() -> float:
    """Same network, same batches, same optimiser."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config, uri, stats = _setup(Path(folder))
        steps = BLOCK * (BLOCKS + 1)
        config = replace(config, training=replace(config.training, offline_steps=steps))
        ours, bare = step_by_step(config, uri, stats)
    mine, other = _typical(ours), statistics.median(bare)
    print(f"  ours {1e3 * mine:.3f} ms, bare {1e3 * other:.3f} ms of CPU a step")
    return mine / other


def _typical(times: list[float]) -> float:
    """A step's share of what lies between two log lines: the plain steps by their median, the one that follows a line too."""
    logged = [times[i] for i in range(1, len(times), BLOCK)]
    plain = statistics.median(time for i, time in enumerate(times) if i % BLOCK != 1)
    return plain + (statistics.median(logged) - plain) / BLOCK


@row(
    "bench",
    "train-robomimic",
    "CPU time of a training step of bc, 1024 x 2, batches of 100, data included, over robomimic's own loop (HDF5 in memory)",
    "<= 0.9",
)
def beside_robomimic() -> float:
    """The same demonstrations, from its HDF5 file there and from our shards here."""
    import torch

    torch.set_num_threads(1)
    python = peers.robomimic()
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        made = _setup(cwd)
        path = cwd / "reach.hdf5"
        line.run("demo-data", "env=reach", "--episodes", 40, "--seed", 1, "-o", path, cwd=cwd)

        def theirs() -> float:
            return float(peers.ask(python, "robomimic_loop.py", str(path), str(WARM_UP), str(STEPS))["step_s"])

        return ratio(lambda: our_loop(*made), theirs)


@row(
    "bench",
    "train-lerobot",
    "CPU time of a training step of bc, 1024 x 2, batches of 100, data included, over LeRobot's loop around the same network",
    "<= 0.9",
)
def beside_lerobot() -> float:
    """The same demonstrations, exported to its format there and from our shards here."""
    import torch

    torch.set_num_threads(1)
    python = peers.lerobot()
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        made = _setup(cwd)
        line.run("export-data", made[1], "exported", "--to", "lerobot-v3.0", cwd=cwd)

        def theirs() -> float:
            answer = peers.ask(python, "lerobot_loop.py", str(cwd / "exported"), str(WARM_UP), str(STEPS))
            return float(answer["step_s"])

        return ratio(lambda: our_loop(*made), theirs)


@row(
    "bench",
    "train-robomimic-images",
    "the same with a camera of 84 px: ResNet18, spatial softmax, crops of 76 px, batches of 16",
    "<= 0.9",
)
def images_beside_robomimic() -> float:
    """Nearly all of the time is the network's, which is the same."""
    import torch

    from tendon.config.compose import compose
    from tendon.data.dataset import open_dataset
    from tendon.data.stats import compute_stats

    torch.set_num_threads(1)
    python = peers.robomimic()
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        line.run("demo-data", "env=reach", "--episodes", 40, "--seed", 1, "--images", "-o", cwd / "reach.hdf5", cwd=cwd)
        line.run("convert", "--source-uri", "reach.hdf5", "--store-uri", cwd / "store", cwd=cwd)
        uri = str(next((cwd / "store/datasets/demos").iterdir()))
        seen = ["env.observation=[top_image,agent_pos]", "policy.crop_size=76", "training.batch_size=16"]
        length = ["training.offline_steps=15", "training.valid_freq=1000000", "training.valid_episodes=0"]
        config = compose([*OVERRIDES, *seen, *length, f"data.uri={uri}"])
        stats = compute_stats(open_dataset(uri), "train")

        def theirs() -> float:
            answer = peers.ask(python, "robomimic_images.py", str(cwd / "reach.hdf5"), "top_image", "16", "3", "12")
            return float(answer["step_s"])

        return ratio(lambda: our_loop(config, uri, stats, 3, 12), theirs, 3)
