"""Small trials of the tiny vision-language-action policies on a dataset of noise, in processes that can be killed.

Some stand on base weights with LoRA, some are trained by two processes together.
"""

from __future__ import annotations

import os
import signal
import socket
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tendon.config.compose import compose
from tendon.config.schema import TrainConfig
from tendon.data.convert import convert
from tendon.data.dataset import open_dataset
from tendon.data.episode import Camera, Episode, Schema
from tendon.data.features import Feature
from tendon.data.sources.episodes import EpisodesSource
from tendon.data.stats import compute_stats
from tendon.policies.registry import make_policy
from tendon.storage import join
from tendon.train.loop.training import train
from tendon.train.state.status import TrainResult
from tendon.train.watch.callbacks import Callback
from tendon.weights.spec import content_sha256
from tests.policies.vla_cases import FEATURES, STATS, config_of
from tests.train.killed_trial import FORKSERVER

STATE, FRONT = "observation.state", "observation.images.front"
STEPS, SAVE = 8, 3
TEXTS = ("push the block", "open the drawer")
CHUNK = ("policy.chunk_size=4", "policy.n_action_steps=2")
CHUNKS = {"dp_clip": ("policy.horizon=8", "policy.n_action_steps=2", "policy.down_dims=[16,32]", "policy.n_groups=4")}
LORA = ("policy.lora_rank=2", "policy.tune_llm=true", "policy.tune_visual=true")


def make_dataset(folder: Path) -> str:
    """Four episodes of noise, two instructions, one camera; the last is held out."""
    rng = np.random.default_rng(3)
    columns = (Feature(STATE, "state", (5,), "float32"), Feature("action", "action", (4,), "float32"))
    schema = Schema(columns, (Camera(FRONT, "front", 28, 28, 3),), 10.0)
    episodes = [
        Episode(
            f"demo_{i}",
            9,
            {key.key: rng.uniform(-1, 1, (9, key.dim)).astype(np.float32) for key in columns},
            {FRONT: rng.integers(0, 256, (9, 28, 28, 3)).astype(np.uint8)},
            task=TEXTS[i % 2],
        )
        for i in range(4)
    ]
    source = EpisodesSource("demo://noise", schema, episodes, "noise", {"valid": ["demo_3"]})
    manifest = convert(source, str(folder), "noise")
    return join(str(folder), "datasets", "noise", manifest.plan)


def save_base(file: Path, name: str) -> Path:
    """Random weights of a whole network, which a policy stands on."""
    torch.manual_seed(11)
    net = make_policy(config_of(name), FEATURES, STATS).net
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, file)  # type: ignore[operator, union-attr]
    return file


def on_base(file: Path) -> tuple[str, ...]:
    """Overrides that name it."""
    return (f"policy.base_model_path={file}", f"policy.base_sha256={content_sha256(file)}")


def config_of_trial(uri: str, name: str, *overrides: str) -> TrainConfig:
    training = ("batch_size=2", "num_threads=1", "log_freq=2", "valid_freq=4", "valid_batches=1", "valid_episodes=0")
    warm_up = ("warmup_ratio=0.25", "lr_warmup_steps=0")
    length = (f"offline_steps={STEPS}", f"save_freq={SAVE}", *warm_up, "lr=1e-3")
    first = [*CHUNKS.get(name, CHUNK), "device=cpu", "seed=7", f"data.uri={uri}"]
    seen = "env.observation=[observation.state,observation.images.front,task]"
    return compose(
        [f"policy={name}_tiny", *first, seen, *(f"training.{one}" for one in (*training, *length)), *overrides]
    )


def run(dataset: str, trial: object, name: str, *overrides: str, at: int = -1) -> TrainResult:
    """Train in this process, from the newest checkpoint that there is; die behind update ``at``."""
    stats = compute_stats(open_dataset(dataset), "train")
    callbacks = [Die(at)] if at >= 0 else []
    return train(config_of_trial(dataset, name, *overrides), dataset, stats, str(trial), callbacks=callbacks)


class Die(Callback):
    """SIGKILL behind an update."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step(self, run: Any, step: int, update: Any) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def run_killed(dataset: str, trial: object, name: str, *overrides: str, at: int) -> int:
    """The exit code of a process that dies behind an update."""
    process: ForkServerProcess = FORKSERVER.Process(
        target=run, args=(dataset, str(trial), name, *overrides), kwargs={"at": at}
    )
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def run_ranks(dataset: str, trials: list[tuple[str, str, tuple[str, ...]]], num_ranks: int = 2) -> list[int]:
    """Exit codes of as many processes as train together, one trial (folder, policy, overrides) after the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes: list[ForkServerProcess] = [
        FORKSERVER.Process(target=_rank, args=(rank, num_ranks, port, dataset, trials)) for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(1200)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in processes]


def _rank(rank: int, num_ranks: int, port: int, dataset: str, trials: list[tuple[str, str, tuple[str, ...]]]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks)}
    for number, (folder, name, overrides) in enumerate(trials):
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port + number)}
        run(dataset, folder, name, *overrides, f"training.num_gpus={num_ranks}")
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
