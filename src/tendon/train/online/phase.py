"""The online phase of a training: when episodes are played, with which weights, and when updates see them.

Update k of the phase belongs to round k // online_steps_between_rollouts. Before the first update of a round a rollout is
played (before the very first as many as fill the buffer to its seed size). With ``do_online_rollout_async`` it is played
by a copy of the policy in a thread, while the updates of its round are made, and joins the buffer when the next round
begins: so every update sees the same episodes however fast they are played, and a checkpoint waits for those that are
being played and holds them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from time import perf_counter

import torch

from tendon.config.schema import TrainConfig
from tendon.errors import ConfigError, TendonError
from tendon.policies.base import Policy
from tendon.policies.processing.processing import batch_shape
from tendon.train.loop.data_feeds import DataFeeds
from tendon.train.loop.engine import Engine
from tendon.train.loop.epoch_size import EpochSize
from tendon.train.online.batches import OnlineBatches
from tendon.train.online.episodes import OpenPlay, Play, PlayedRollout

logger = logging.getLogger(__name__)
START = "Start online training by interacting with environment"
MOST_EMPTY = 3  # rollouts in a row that gave nothing
MOST_OF_MEMORY = 0.75  # of data.memory_gib; the rest is the loader's
GIB = 1 << 30


class OnlinePhase:
    """Plays for one training, in its first process; what was played goes to all of them."""

    def __init__(self, engine: Engine, batches: OnlineBatches, play: Play | None) -> None:
        """``play``: in the first process."""
        self._engine, self._play, self.batches = engine, play, batches
        self._training = engine.config.training
        self._thread = ThreadPoolExecutor(1, "online", initializer=_use_threads, initargs=(self._training.num_threads,))
        self._playing: Future[PlayedRollout] | None = None
        self._num_empty = 0
        self._rollout_s = self._add_s = self._await_s = 0.0

    def close(self) -> None:
        """Let the rollout that is being played end; nobody asks for it any more."""
        self._thread.shutdown(cancel_futures=True)

    def is_due(self, step: int) -> bool:
        """Whether something is played, or taken in, before update ``step``."""
        done = step - self._training.offline_steps
        return done >= 0 and done % self._every == 0

    def begin_round(self, step: int) -> PlayedRollout:
        """Play and take in what is due before update ``step``; what the buffer got."""
        batches, training = self.batches, self._training
        number = batches.round_of(step) * training.online_rollout_n_episodes
        if self._is_async and self._is_seeded:
            played = self._landed() or PlayedRollout((), 0, 0.0)
            if step + self._every < training.num_steps:  # nobody would see what is played in the last round
                self._take_off(self._next_number(number))
        else:
            played = self._seeded(self._next_number(number))
        if not batches.num_windows_online:
            raise _nothing_played(self._engine.config, f"no window begins before the last {batches.drop_last} steps")
        batches.begin_round(step)
        return played

    def settle(self) -> None:
        """Before a checkpoint: what is being played is part of it."""
        if self._playing is not None:
            began = perf_counter()
            played = self._playing.result()
            self._playing, self._await_s = None, perf_counter() - began
            self._rollout_s = played.seconds
            self.batches.pending = played.episodes

    def numbers(self) -> dict[str, float]:
        """For the training line of an update of this phase; LeRobot's names."""
        return {
            "is_online": 1.0,
            "online_buffer_size": float(self.batches.buffer.num_frames),
            "online_rollout_s": self._rollout_s,
            "update_online_buffer_s": self._add_s,
            "await_update_online_buffer_s": self._await_s,
        }

    @property
    def seen(self) -> EpochSize:
        """What an epoch of the buffer is; LeRobot counts its lines of this phase by it."""
        buffer = self.batches.buffer
        return EpochSize(buffer.num_frames, len(buffer.episodes), self._training.batch_size)

    # ----------------------------------------------------------------------------------------------------------- rollouts

    @property
    def _every(self) -> int:
        return self._training.online_steps_between_rollouts or 1

    @property
    def _is_async(self) -> bool:
        return self._training.do_online_rollout_async

    @property
    def _is_seeded(self) -> bool:
        return self.batches.buffer.num_frames > self._training.online_buffer_seed_size

    def _next_number(self, at_least: int) -> int:
        """Of the episode that is played next: behind all that are there."""
        pending = self.batches.pending or ()
        known = [episode.number + 1 for episode in (*self.batches.buffer.episodes, *pending)]
        return max([at_least, *known])

    def _seeded(self, number: int) -> PlayedRollout:
        """Rollouts until the buffer holds enough; one at least."""
        rollouts: list[PlayedRollout] = []
        while not rollouts or not self._is_seeded:
            with self._engine.judged() as policy:
                made = self._played(policy, number) if self._engine.world.is_first else None
            played: PlayedRollout = self._engine.world.from_first(made)
            self._take_in(played)
            rollouts.append(played)
            number += self._training.online_rollout_n_episodes
            if not self._is_seeded:
                held, needed = self.batches.buffer.num_frames, self._training.online_buffer_seed_size
                logger.info("Seeding online buffer: %d/%d", held, needed)
        self._rollout_s = sum(one.seconds for one in rollouts)
        episodes = tuple(episode for one in rollouts for episode in one.episodes)
        return PlayedRollout(episodes, sum(one.num_crashed for one in rollouts), self._rollout_s)

    def _played(self, policy: Policy, number: int) -> PlayedRollout:
        assert self._play is not None
        played = self._play(policy, number, self._training.online_rollout_n_episodes)
        if played.num_crashed:
            logger.warning("online: %d episode(s) of a rollout crashed and are left out", played.num_crashed)
        return played

    def _take_off(self, number: int) -> None:
        """Begin a rollout with the weights of now."""
        if self._engine.world.is_first:
            with self._engine.judged() as policy:
                copy = deepcopy(policy)
            self._playing = self._thread.submit(self._played, copy, number)

    def _landed(self) -> PlayedRollout | None:
        """Take in what the rollout of the round before gave; None where none was begun."""
        self._await_s = 0.0
        self.settle()
        episodes = self._engine.world.from_first(self.batches.pending)
        self.batches.pending = None
        if episodes is None:
            return None
        played = PlayedRollout(episodes, 0, self._rollout_s)
        self._take_in(played)
        return played

    def _take_in(self, played: PlayedRollout) -> None:
        began = perf_counter()
        self.batches.buffer.add(played.episodes)
        self._add_s = perf_counter() - began
        self._num_empty = 0 if played.episodes else self._num_empty + 1
        if self._num_empty >= MOST_EMPTY:
            raise _nothing_played(self._engine.config, f"every episode of {MOST_EMPTY} rollouts in a row crashed")


@contextmanager
def open_phase(
    engine: Engine, feeds: DataFeeds, open_play: OpenPlay | None
) -> Iterator[tuple[DataFeeds, OnlinePhase | None]]:
    """Feeds that mix, and who plays; the same feeds and nobody where there is no online phase.

    Raises:
        ConfigError: nobody can play here, or the rows of a batch cannot be dealt to the processes.
    """
    config, world = engine.config, engine.world
    if not config.training.online_steps:
        yield feeds, None
        return
    if open_play is None:
        why, fix = "whoever called train handed it nobody who plays", "training.online_steps=0, or steps.train"
        raise ConfigError("there is nobody to play the online episodes", where="train", why=why, fix=fix)
    if config.training.num_online_rows % world.size or config.training.batch_size % world.size:
        num = config.training.num_online_rows
        raise ConfigError(
            f"{num} online rows of a batch of {config.training.batch_size} cannot be dealt to {world.size} processes",
            where="training.online_sampling_ratio",
            why="each process gets as many rows of the dataset and of the buffer as the others",
            fix="a training.batch_size and a share of it that the number of processes divides",
        )
    batches = OnlineBatches(feeds.train, config, engine.policy.windows, world)
    with open_play(config) if world.is_first else nullcontext() as play:
        phase = OnlinePhase(engine, batches, play)
        try:
            yield replace(feeds, train=batches), phase
        finally:
            phase.close()


def buffer_bytes(engine: Engine) -> int:
    """What the full buffer takes."""
    capacity = engine.config.training.online_buffer_capacity
    if not engine.config.training.online_steps or capacity is None:
        return 0
    sizes = [torch.Size(batch_shape(feature)).numel() for feature in engine.policy.features.values()]
    widths = [
        1 if one.kind in ("image", "mask") else 8 if one.is_integer else 4 for one in engine.policy.features.values()
    ]
    return capacity * sum(size * width for size, width in zip(sizes, widths, strict=True))


def leave_memory(engine: Engine) -> TrainConfig:
    """The configuration that the data is opened with: the buffer is a part of the memory for data.

    Raises:
        ConfigError: it leaves too little to the loader.
    """
    config, taken = engine.config, buffer_bytes(engine)
    if not taken:
        return config
    given = config.data.memory_gib * GIB
    if taken > MOST_OF_MEMORY * given:
        raise ConfigError(
            f"the online buffer would take {taken / GIB:.1f} GiB of the {config.data.memory_gib:g} GiB for data",
            where="training.online_buffer_capacity",
            why=f"{config.training.online_buffer_capacity} steps of {taken // (config.training.online_buffer_capacity or 1)} bytes",
            fix=f"data.memory_gib={taken / MOST_OF_MEMORY / GIB + 0.1:.1f}, or a smaller training.online_buffer_capacity",
        )
    logger.info("online: the buffer takes up to %.2f GiB of the %g GiB for data", taken / GIB, config.data.memory_gib)
    return replace(config, data=replace(config.data, memory_gib=(given - taken) / GIB))


def _use_threads(num_threads: int) -> None:
    """Torch's number of threads is one of each thread that asks, and bits depend on it."""
    if num_threads:
        torch.set_num_threads(num_threads)


def _nothing_played(config: TrainConfig, why: str) -> TendonError:
    return TendonError(
        "the online rollouts gave nothing to learn from",
        where=f"env.simulator={config.env.simulator} env.task={config.env.task}",
        why=why,
        fix="see what the simulator printed above; raise eval.step_timeout_s if it only was slow",
    )
