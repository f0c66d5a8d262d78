"""Small trials of vqbet and tdmpc over data in memory, in processes of their own that die when a batch is asked for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from typing import Any

import numpy as np

from tendon.config.compose import compose
from tendon.config.schema import TrainConfig
from tendon.data.stats import DatasetStats
from tendon.policies.windows import Windows
from tendon.train.distributed.ranks import ALONE, World
from tendon.train.loop.data_feeds import DataFeeds
from tendon.train.loop.training import train
from tests.train.killed_trial import FORKSERVER
from tests.train.small_trial import feature_stats

STATE = "observation.state"
WIDTHS = {STATE: 3, "action": 2, "next.reward": 1}
STEPS = 16
BORDER = 7  # updates of vqbet's first phase
OPTIONS = {
    "vqbet": [
        *("n_obs_steps=2", "n_action_pred_token=2", "action_chunk_size=2", f"n_vqvae_training_steps={BORDER}"),
        *("vqvae_n_embed=4", "vqvae_embedding_dim=6", "vqvae_enc_hidden_dim=8", "gpt_input_dim=12"),
        *("gpt_output_dim=10", "gpt_n_layer=1", "gpt_n_head=2", "gpt_hidden_dim=8"),
    ],
    "tdmpc": [
        *("horizon=2", "latent_dim=6", "mlp_dim=8", "state_encoder_hidden_dim=8", "target_model_momentum=0.7"),
        *("cem_iterations=2", "n_gaussian_samples=8", "n_pi_samples=2", "n_elites=3"),
    ],
}


def config_of(policy: str, *overrides: str) -> TrainConfig:
    """With a checkpoint every fourth update."""
    training = ("offline_steps=16", "save_freq=4", "log_freq=2", "valid_freq=8", "valid_batches=1", "num_threads=1")
    more = ("batch_size=4", "lr=1e-3", *(("lr_warmup_steps=2",) if policy == "vqbet" else ()))
    overrides = (*overrides, *[f"training.{one}" for one in (*training, *more)])
    options = [f"policy.{one}" for one in OPTIONS[policy]]
    observation = f"env.observation=[{STATE}]"
    return compose([f"policy={policy}", "data.uri=memory", "device=cpu", "seed=7", observation, *options, *overrides])


def stats() -> DatasetStats:
    features = {key: feature_stats(0.0, 1.0, -3.0, 3.0, width) for key, width in WIDTHS.items()}
    return DatasetStats("digest", "train", 10, 400, "exact", features, ())


class WindowLoader:
    """Windows whose content is a function of (seed, k)."""

    num_windows, num_episodes = 400, 10
    metrics: Mapping[str, float] = {}

    def __init__(self, seed: int, size: int, windows: Windows, world: World = ALONE) -> None:
        self.seed, self.size, self.windows, self.world = seed, size, windows, world
        self.next_batch = 0
        self.before_batch: Callable[[int], None] = lambda k: None

    @property
    def state(self) -> dict[str, Any]:
        return {"next_batch": self.next_batch}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.next_batch = state["next_batch"]

    def close(self) -> None: ...

    def batch(self, k: int) -> dict[str, np.ndarray]:
        rng, made = np.random.default_rng((self.seed, k)), {}
        own = slice(self.world.rank, None, self.world.size)
        for key, span in self.windows.training.items():
            steps = len(span.deltas)
            made[key] = rng.normal(size=(self.size, steps, WIDTHS[key])).clip(-3, 3).astype(np.float32)[own]
            made[f"{key}_is_pad"] = (rng.random((self.size, steps)) < 0.1)[own]
        return made

    def __next__(self) -> dict[str, np.ndarray]:
        self.before_batch(self.next_batch)
        self.next_batch += 1
        return self.batch(self.next_batch - 1)


def run(
    uri: object,
    policy: str,
    *overrides: str,
    before_batch: Callable[[int], None] = lambda k: None,
    world: World = ALONE,
) -> None:
    """Train in this process, from the newest checkpoint that there is."""

    def open_data(dataset_uri: str, config: TrainConfig, windows: Windows, world: World = ALONE) -> DataFeeds:
        size = config.training.batch_size
        feeds = [WindowLoader(seed, size, windows, world) for seed in (1, 2)]
        feeds[0].before_batch = before_batch
        return DataFeeds(*feeds, size, 1, {i: f"demo_{i}" for i in range(10)}, world=world)

    train(config_of(policy, *overrides), "memory", stats(), str(uri), open_data=open_data)


def run_killed(uri: object, policy: str, at_batch: int) -> int:
    """The exit code of a process that is killed when it asks for a batch."""
    process: ForkServerProcess = FORKSERVER.Process(target=_killed, args=(str(uri), policy, at_batch))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def run_ranks(uri: object, policy: str, *overrides: str, num_ranks: int = 2) -> list[int]:
    """Exit codes of as many processes as train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    overrides = (*overrides, f"training.num_gpus={num_ranks}")
    processes: list[ForkServerProcess] = [
        FORKSERVER.Process(target=_rank, args=(rank, num_ranks, port, str(uri), policy, overrides))
        for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in processes]


def _rank(rank: int, num_ranks: int, port: int, uri: str, policy: str, overrides: tuple[str, ...]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    run(uri, policy, *overrides)


def _killed(uri: str, policy: str, at_batch: int) -> None:
    def before_batch(k: int) -> None:
        if k == at_batch:
            os.kill(os.getpid(), signal.SIGKILL)

    run(uri, policy, before_batch=before_batch)
