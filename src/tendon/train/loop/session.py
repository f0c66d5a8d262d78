"""A trial at work: what the loop does now and then, in words of one line each: log, validate, roll out, save."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from tendon.config.schema import TrainConfig
from tendon.policies.base import Policy
from tendon.train.loop.action_error import action_error
from tendon.train.loop.data_feeds import DataFeeds
from tendon.train.loop.engine import Engine, Update
from tendon.train.online.phase import START, OnlinePhase
from tendon.train.state.saver import ResumePoint, Saver
from tendon.train.watch.callbacks import Callback, RunContext
from tendon.train.watch.heartbeat import Heartbeat
from tendon.train.watch.loss_monitor import LossMonitor
from tendon.train.watch.metrics_log import MetricsLog
from tendon.train.watch.monitors import make_callbacks
from tendon.train.watch.trackers import make_trackers
from tendon.train.watch.weight_files import WeightFiles

logger = logging.getLogger(__name__)

# Plays the policy on training seeds; avg_sum_reward, pc_success (in percent) and eval_s at least.
Rollouts = Callable[[Policy, TrainConfig], Mapping[str, float]]


@dataclass
class TrainingSession:
    """One attempt, from its start to its end."""

    engine: Engine
    feeds: DataFeeds
    saver: Saver
    heartbeat: Heartbeat
    rollouts: Rollouts | None
    callbacks: Sequence[Callback]
    run: RunContext
    start: ResumePoint
    metrics_log: MetricsLog
    loss_monitor: LossMonitor
    online: OnlinePhase | None = None
    began_s: float = field(default_factory=perf_counter)

    @property
    def train_s(self) -> float:
        """Seconds of training, earlier attempts included."""
        return self.start.train_s + perf_counter() - self.began_s

    def log(self, step: int, update: Update, **seconds: float) -> None:
        """One training line; the losses until here are looked at first."""
        numbers = update.numbers(self.engine.world) | seconds
        self.loss_monitor.check()
        waits = {
            name.replace("/", "_"): value for name, value in self.feeds.train.metrics.items() if name.endswith("_s")
        }
        if self.online is not None and step >= self.engine.config.training.offline_steps:
            numbers |= self.online.numbers()
            self.metrics_log.train(step, numbers | waits | self.loss_monitor.numbers(), self.online.seen)
            return
        self.metrics_log.train(step, numbers | waits | self.loss_monitor.numbers())

    def play_online(self, step: int) -> None:
        """What the online phase plays before update ``step``; nothing in the offline phase and within a round."""
        if self.online is None or step < self.engine.config.training.offline_steps:
            return
        if step == max(self.start.step, self.engine.config.training.offline_steps):
            logger.info(START)
        if self.online.is_due(step):
            self.heartbeat.at(step, "judge")
            self.loss_monitor.check()
            played = self.online.begin_round(step)
            self.metrics_log.played(step, played, self.online.batches.buffer)

    def validate(self, num_done: int) -> dict[str, float]:
        """Validation loss and action error; why they are a reason to save."""
        if self.feeds.valid is None:
            return {}
        engine, policy = self.engine, self.engine.policy
        self.heartbeat.at(num_done, "judge")
        numbers = engine.validate(self.feeds.valid_batches(policy, engine.device), num_done)
        episodes = self.feeds.episodes()
        if episodes:
            with engine.judged():
                numbers |= action_error(policy, engine.parallel.loss.act, episodes, engine.device)  # type: ignore[arg-type]
        self.metrics_log.valid(num_done, numbers)
        return self.saver.rules.after_validation(numbers["loss"])

    def roll_out(self, num_done: int) -> dict[str, float]:
        """Episodes in the simulator, played by the first process; why they are a reason to save."""
        if self.rollouts is None:
            return {}
        self.heartbeat.at(num_done, "judge")
        logger.info("Eval policy at step %d", num_done)
        with self.engine.judged() as policy:
            played = dict(self.rollouts(policy, self.engine.config)) if self.engine.world.is_first else None
        numbers: dict[str, float] = self.engine.world.from_first(played)
        self.metrics_log.rollouts(num_done, numbers)
        logger.info("Resume training")
        return self.saver.rules.after_rollouts(numbers["avg_sum_reward"], numbers["pc_success"])

    def save(self, num_done: int, reasons: Mapping[str, float]) -> str:
        """Begin a checkpoint of what ``num_done`` updates have made; its URI."""
        self.heartbeat.at(num_done, "save")
        self.loss_monitor.check()
        self.saver.wait()
        if self.online is not None:
            self.online.settle()
        self.metrics_log.flush()
        for callback in self.callbacks:
            callback.on_save(self.run, num_done, reasons)
        states = {_key(i, callback): callback.state() for i, callback in enumerate(self.callbacks)}
        now = ResumePoint(num_done, self.metrics_log.lines, self.train_s, self.loss_monitor.state(), states)
        uri = self.saver.save(num_done, reasons, now)
        logger.info("Resume training")
        return uri

    def finish_saving(self) -> None:
        """Until the last checkpoint is committed; the other processes wait for the first one, which writes."""
        self.heartbeat.at(self.heartbeat.step, "save")
        self.saver.wait()
        self.engine.world.agreed([0])


@contextmanager
def open_session(
    engine: Engine,
    feeds: DataFeeds,
    saver: Saver,
    heartbeat: Heartbeat,
    rollouts: Rollouts | None,
    given: Sequence[Callback],
    online: OnlinePhase | None = None,
) -> Iterator[TrainingSession]:
    """The trial, resumed; callbacks and the thread that saves are ended whatever happens."""
    config = engine.config
    callbacks = (
        [*make_callbacks(config.training.callbacks), *_weight_files(config), *given, *make_trackers(config)]
        if engine.world.is_first
        else []
    )
    start = saver.resume()
    if online is not None:
        online.batches.start_at(start.step)
    run = RunContext(config, engine, feeds.epoch_size, saver.store, saver.trial_uri)
    metrics_log = MetricsLog(run, start.metric_lines, callbacks)
    loss_monitor = LossMonitor(engine, feeds, saver.store, start.step, start.losses)
    for i, callback in enumerate(callbacks):
        callback.load_state(start.callbacks.get(_key(i, callback)))
        callback.on_start(run, metrics_log.lines)
    finished = False
    try:
        yield TrainingSession(
            engine, feeds, saver, heartbeat, rollouts, callbacks, run, start, metrics_log, loss_monitor, online
        )
        finished = True
    finally:
        saver.close()
        feeds.close()
        for callback in callbacks:
            callback.on_end(run, finished=finished)


def _weight_files(config: TrainConfig) -> list[Callback]:
    return [WeightFiles(config)] if config.save.weights_every_n_steps else []


def _key(index: int, callback: Callback) -> str:
    return f"{index} {type(callback).__name__}"
