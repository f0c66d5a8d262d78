"""A small ROCKET-1 on a converted MineStudio set, with its memory, its average and dropped prompts, in two processes that die."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tendon.config.compose import compose
from tendon.config.schema import TrainConfig
from tendon.data.convert import convert
from tendon.data.dataset import open_dataset
from tendon.data.plan import ConversionOptions
from tendon.data.sources import open_source
from tendon.data.stats import compute_stats
from tendon.loader.windows import Windows
from tendon.train.distributed.ranks import ALONE, World
from tendon.train.loop.data_feeds import DataFeeds, open_data_feeds
from tendon.train.loop.training import train
from tests.policies.rocket1.small_set import make_set
from tests.train.killed_trial import FORKSERVER

STEPS, SAVE_EVERY, TIMEOUT_S = 12, 3, 560
READS = "env.observation=[observation.images.image,observation.masks.target,observation.interaction]"
OVERRIDES = (
    *("policy=rocket1-tiny", "device=cpu", "seed=7", READS, "data.ahead=2", "ema.every_n_steps=2"),
    *("policy.image_size=[32,32]", "policy.hiddim=16", "policy.num_heads=2", "policy.timesteps=8", "policy.mem_len=12"),
    *("policy.prompt_dropout=0.5", "training.batch_size=4", "training.lr_warmup_steps=2", "training.num_threads=1"),
    *(f"training.offline_steps={STEPS}", f"training.save_freq={SAVE_EVERY}", "training.log_freq=2"),
    *(
        "training.valid_freq=6",
        "training.valid_batches=1",
        "training.grad_clip_norm=1.0",
        "training.weight_decay=0.001",
    ),
)


def make_dataset(folder: Path) -> str:
    """Episodes of one to five windows, some held out."""
    lengths = (24, 8, 40, 16, 32, 8, 16)
    source = open_source(str(make_set(folder / "set", {f"P{i}": n for i, n in enumerate(lengths)})))
    convert(source, str(folder / "store"), "small", ConversionOptions(resize=(32, 32), split_ratio=0.8))
    (uri,) = (folder / "store/datasets/small").iterdir()
    return str(uri)


class Hooked:
    """A loader that says which batch is asked for."""

    def __init__(self, loader: Any, before_batch: Callable[[int], None]) -> None:
        self._loader, self._before = loader, before_batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __next__(self) -> Any:
        self._before(int(self._loader.state["samples"]) // self._loader.batch_size)
        return next(self._loader)


def run(uri: str, dataset_uri: str, at_batch: int, *overrides: str) -> None:
    """Train in this process, from the newest checkpoint there is; SIGKILL when batch ``at_batch`` is asked for."""

    def before_batch(k: int) -> None:
        if k == at_batch:
            os.kill(os.getpid(), signal.SIGKILL)

    def open_data(dataset_uri: str, config: TrainConfig, windows: Windows, world: World = ALONE) -> DataFeeds:
        feeds = open_data_feeds(dataset_uri, config, windows, world)
        return replace(feeds, train=Hooked(feeds.train, before_batch))

    config = compose([*OVERRIDES, f"data.uri={dataset_uri}", *overrides])
    stats = compute_stats(open_dataset(dataset_uri), "train")
    train(config, dataset_uri, stats, uri, open_data=open_data)


def run_two(uri: Path, dataset_uri: str, at_batch: int = -1) -> list[int]:
    """Exit codes of two processes that train together; both die at ``at_batch``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes: list[ForkServerProcess] = [
        FORKSERVER.Process(target=_rank, args=(rank, port, str(uri), dataset_uri, at_batch)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in processes]


def _rank(rank: int, port: int, uri: str, dataset_uri: str, at_batch: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    run(uri, dataset_uri, at_batch, "training.num_gpus=2")
