"""A tiny TD-MPC that goes on online in the guest ``reach``, in this process or in one that is killed at a moment.

The dataset's windows are in memory, a function of (seed, k); the episodes are played by a real guest.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess

import numpy as np

from tendon.config.compose import compose
from tendon.config.schema import TrainConfig
from tendon.data.stats import DatasetStats
from tendon.evaluate.online_play import playing
from tendon.policies.base import Policy
from tendon.policies.windows import Windows
from tendon.train.distributed.ranks import ALONE, World
from tendon.train.loop.data_feeds import DataFeeds
from tendon.train.loop.training import train
from tendon.train.online.episodes import Play, PlayedRollout
from tendon.train.state.status import TrainResult
from tests.policies import killed_policy
from tests.train.killed_trial import FORKSERVER
from tests.train.small_trial import feature_stats

WIDTHS = {"observation.agent_pos": 2, "observation.target_pos": 2, "action": 2, "next.reward": 1}
OFFLINE, ONLINE, EVERY = 4, 12, 3
STEPS = OFFLINE + ONLINE
TRAINING = {
    "offline_steps": OFFLINE,
    "online_steps": ONLINE,
    "online_steps_between_rollouts": EVERY,
    "online_rollout_n_episodes": 2,
    "online_rollout_batch_size": 2,
    "online_buffer_capacity": 30,
    "online_buffer_seed_size": 14,
    "online_sampling_ratio": 0.4,
    "online_env_seed": 3,
    "batch_size": 5,
    "save_freq": 4,
    "keep_checkpoints": 9,
    "log_freq": 2,
    "valid_freq": 8,
    "valid_batches": 1,
    "num_threads": 1,
    "lr": 1e-3,
}
POLICY = (
    *("horizon=2", "latent_dim=6", "mlp_dim=8", "state_encoder_hidden_dim=8", "target_model_momentum=0.7"),
    *("cem_iterations=2", "n_gaussian_samples=8", "n_pi_samples=2", "n_elites=3"),
)
Moment = tuple[str, int]  # batch k, rollout n, write n


def config_of(*overrides: str) -> TrainConfig:
    training = [f"++training.{key}={value}" for key, value in TRAINING.items()]
    sections = ("policy=tdmpc", "env=reach", "data.uri=memory", "device=cpu", "seed=7", "env.episode_length=6")
    return compose([*sections, *training, *(f"policy.{one}" for one in POLICY), *overrides])


def stats() -> DatasetStats:
    features = {key: feature_stats(0.0, 1.0, -1.0, 1.0, width) for key, width in WIDTHS.items()}
    return DatasetStats("digest", "train", 10, 400, "exact", features, ())


class WindowLoader(killed_policy.WindowLoader):
    """Windows of which each is a function of (seed, place in the stream)."""

    texts: tuple[str, ...] = ()

    def batch(self, k: int) -> dict[str, np.ndarray]:
        places = range(k * self.size + self.world.rank, (k + 1) * self.size, self.world.size)
        rows = [self._window(place) for place in places]
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}

    def _window(self, place: int) -> dict[str, np.ndarray]:
        rng, made = np.random.default_rng((self.seed, place)), {}
        for key, span in self.windows.training.items():
            steps = len(span.deltas)
            made[key] = rng.uniform(-1, 1, (steps, WIDTHS[key])).astype(np.float32)
            made[f"{key}_is_pad"] = rng.random(steps) < 0.1
        return made | {"episode_index": np.array(place % 10), "frame_index": np.array(place)}


def run(uri: object, *overrides: str, moment: Moment = ("never", 0), world: World = ALONE) -> TrainResult:
    """Train in this process, from the newest checkpoint that there is; dead at the moment, if it comes."""
    kind, number = moment

    def open_data(dataset_uri: str, config: TrainConfig, windows: Windows, world: World = ALONE) -> DataFeeds:
        feeds = [WindowLoader(seed, config.training.batch_size, windows, world) for seed in (1, 2)]
        feeds[0].before_batch = lambda k: _die(kind == "batch" and k == number)
        size = config.training.batch_size
        return DataFeeds(feeds[0], feeds[1], size, 1, {i: f"demo_{i}" for i in range(10)}, world=world)

    @contextmanager
    def open_play(config: TrainConfig) -> Iterator[Play]:
        count = [0]
        with playing(config) as play:

            def counted(policy: Policy, first: int, num: int) -> PlayedRollout:
                _die(kind == "rollout" and count[0] == number)
                count[0] += 1
                played = play(policy, first, num)
                _die(kind == "played" and count[0] == number)
                return played

            yield counted

    return train(config_of(*overrides), "memory", stats(), str(uri), open_data=open_data, open_play=open_play)


def run_killed(uri: object, moment: Moment, *overrides: str) -> int:
    """The exit code of a process that is killed at a moment."""
    process: ForkServerProcess = FORKSERVER.Process(target=_killed, args=(str(uri), moment, overrides))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def run_ranks(uri: object, *overrides: str, num_ranks: int = 2) -> list[int]:
    """Exit codes of as many processes as train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    overrides = (*overrides, f"training.num_gpus={num_ranks}")
    processes: list[ForkServerProcess] = [
        FORKSERVER.Process(target=_rank, args=(rank, num_ranks, port, str(uri), overrides)) for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in processes]


def _rank(rank: int, num_ranks: int, port: int, uri: str, overrides: tuple[str, ...]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    run(uri, *overrides)


def _killed(uri: str, moment: Moment, overrides: tuple[str, ...]) -> None:
    if moment[0] == "write":
        from tests.train.killed_trial import die_in_write

        die_in_write(moment[1])
    run(uri, *overrides, moment=moment)


def _die(is_now: bool) -> None:
    if is_now:
        os.kill(os.getpid(), signal.SIGKILL)
