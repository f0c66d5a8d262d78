"""A trial at work: what the loop does now and then, in words of one line each: log, validate, roll out, save."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from tendon.config.schema import TrainConfig
from tendon.policies.base import Policy
from tendon.train.action_error import action_error
from tendon.train.callbacks import Callback, Run, make_callbacks
from tendon.train.engine import Engine, Update
from tendon.train.feed import Feeds
from tendon.train.finite import FiniteWatch
from tendon.train.pulse import Pulse
from tendon.train.saver import Saver, Start
from tendon.train.track import Tracker
from tendon.train.trackers import make_trackers

logger = logging.getLogger(__name__)

# Plays the policy on training seeds; avg_sum_reward, pc_success (in percent) and eval_s at least.
Rollouts = Callable[[Policy, TrainConfig], Mapping[str, float]]


@dataclass
class Trial:
    """One attempt, from its start to its end."""

    engine: Engine
    feeds: Feeds
    saver: Saver
    pulse: Pulse
    rollouts: Rollouts | None
    callbacks: Sequence[Callback]
    run: Run
    start: Start
    tracker: Tracker
    watch: FiniteWatch
    began_s: float = field(default_factory=perf_counter)

    @property
    def train_s(self) -> float:
        """Seconds of training, earlier attempts included."""
        return self.start.train_s + perf_counter() - self.began_s

    def log(self, step: int, update: Update, **seconds: float) -> None:
        """One training line; the losses until here are looked at first."""
        numbers = update.numbers(self.engine.world) | seconds
        self.watch.check()
        waits = {
            name.replace("/", "_"): value for name, value in self.feeds.train.metrics.items() if name.endswith("_s")
        }
        self.tracker.train(step, numbers | waits | self.watch.numbers())

    def validate(self, num_done: int) -> dict[str, float]:
        """Validation loss and action error; why they are a reason to save."""
        if self.feeds.valid is None:
            return {}
        engine, policy = self.engine, self.engine.policy
        self.pulse.at(num_done, "judge")
        numbers = engine.validate(self.feeds.valid_batches(policy, engine.device), num_done)
        episodes = self.feeds.episodes()
        if episodes:
            with engine.judged():
                numbers |= action_error(policy, engine.parallel.loss.act, episodes, engine.device)  # type: ignore[arg-type]
        self.tracker.valid(num_done, numbers)
        return self.saver.rules.after_validation(numbers["loss"])

    def roll_out(self, num_done: int) -> dict[str, float]:
        """Episodes in the simulator, played by the first process; why they are a reason to save."""
        if self.rollouts is None:
            return {}
        self.pulse.at(num_done, "judge")
        logger.info("Eval policy at step %d", num_done)
        with self.engine.judged() as policy:
            played = dict(self.rollouts(policy, self.engine.config)) if self.engine.world.is_first else None
        numbers: dict[str, float] = self.engine.world.from_first(played)
        self.tracker.rollouts(num_done, numbers)
        logger.info("Resume training")
        return self.saver.rules.after_rollouts(numbers["avg_sum_reward"], numbers["pc_success"])

    def save(self, num_done: int, reasons: Mapping[str, float]) -> str:
        """Begin a checkpoint of what ``num_done`` updates have made; its URI."""
        self.pulse.at(num_done, "save")
        self.watch.check()
        self.saver.wait()
        self.tracker.flush()
        for callback in self.callbacks:
            callback.on_save(self.run, num_done, reasons)
        states = {_key(i, callback): callback.state() for i, callback in enumerate(self.callbacks)}
        now = Start(num_done, self.tracker.lines, self.train_s, self.watch.state(), states)
        uri = self.saver.save(num_done, reasons, now)
        logger.info("Resume training")
        return uri

    def finish_saving(self) -> None:
        """Until the last checkpoint is committed; the other processes wait for the first one, which writes."""
        self.pulse.at(self.pulse.step, "save")
        self.saver.wait()
        self.engine.world.agreed([0])


@contextmanager
def at_work(
    engine: Engine,
    feeds: Feeds,
    saver: Saver,
    pulse: Pulse,
    rollouts: Rollouts | None,
    given: Sequence[Callback],
) -> Iterator[Trial]:
    """The trial, resumed; callbacks and the thread that saves are ended whatever happens."""
    config = engine.config
    callbacks = (
        [*make_callbacks(config.training.callbacks), *given, *make_trackers(config)] if engine.world.is_first else []
    )
    start = saver.resume()
    run = Run(config, engine, feeds.volume, saver.store, saver.trial_uri)
    tracker = Tracker(run, start.metric_lines, callbacks)
    watch = FiniteWatch(engine, feeds, saver.store, start.step, start.losses)
    for i, callback in enumerate(callbacks):
        callback.load_state(start.callbacks.get(_key(i, callback)))
        callback.on_start(run, tracker.lines)
    finished = False
    try:
        yield Trial(engine, feeds, saver, pulse, rollouts, callbacks, run, start, tracker, watch)
        finished = True
    finally:
        saver.close()
        feeds.close()
        for callback in callbacks:
            callback.on_end(run, finished=finished)


def _key(index: int, callback: Callback) -> str:
    return f"{index} {type(callback).__name__}"
