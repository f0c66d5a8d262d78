"""Training, one loop for every policy: a configuration and a dataset in, a committed checkpoint and its numbers out.

Called by ``steps.train_trials``. Resume-first: a second call continues where the last whole checkpoint is, and ends with
the same bytes as an uninterrupted run. SIGTERM and Ctrl-C save and leave with code 75. With ``training.num_gpus`` the
same code runs in each process that launch.py starts through torchrun.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import perf_counter

from tendon.config.compose import to_yaml
from tendon.config.schema import TrainConfig
from tendon.data.stats import DatasetStats
from tendon.errors import Interrupted
from tendon.train.announce import announce
from tendon.train.callbacks import Callback
from tendon.train.checkpoint import weights_sha256
from tendon.train.device import cpu_threads, pick_device
from tendon.train.engine import Engine
from tendon.train.estimate import check_room
from tendon.train.feed import OpenFeeds, find_features, open_feeds
from tendon.train.interrupt import Interrupts
from tendon.train.launch import launch, leave, wants_ranks
from tendon.train.pulse import Pulse
from tendon.train.ranks import joined
from tendon.train.rules import RECURRING, SaveRules
from tendon.train.saver import Saver
from tendon.train.status import TrainResult, find_finished, write_finished
from tendon.train.track import latest
from tendon.train.trial import Rollouts, Trial, at_work
from tendon.weights.kept import weights_uri

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # steps done, steps in all


def train(
    config: TrainConfig,
    dataset_uri: str,
    stats: DatasetStats,
    trial_uri: str,
    progress: Progress | None = None,
    *,
    open_data: OpenFeeds = open_feeds,
    rollouts: Rollouts | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train one trial to its end, or continue it.

    Args:
        config: the effective configuration.
        dataset_uri: a converted dataset.
        stats: its statistics, of the training split.
        trial_uri: where checkpoints, metrics.jsonl and status.json go.
        progress: called at each log step and at the end.
        open_data: how batches are opened; with several processes a function of a module.
        rollouts: plays the policy in its simulator, every ``training.eval_freq`` steps; likewise.
        callbacks: watch the run, beside those that the configuration names (in this process only).

    Raises:
        Interrupted: a signal came; the state is saved.
        DataError: the loss is not a number; nothing of that is saved.
        ConfigError: the dataset does not fit the configuration, or the trial was begun with another one.
    """
    finished = find_finished(trial_uri)
    if finished is not None:
        logger.info("train: already done at step %d: %s", finished.step, finished.checkpoint_uri)
        return finished
    progress = progress or (lambda done, total: None)
    if wants_ranks(config):
        return launch(config, dataset_uri, stats, trial_uri, progress, open_data=open_data, rollouts=rollouts)
    with cpu_threads(config.training.num_threads), joined(pick_device(config.device)) as world, Interrupts() as signals:
        engine = Engine(config, stats.features, world, find_features(dataset_uri), weights_uri(trial_uri))
        feeds = open_data(dataset_uri, config, engine.policy.windows, world)
        engine.set_texts(feeds.texts)
        engine.steps_per_epoch = feeds.volume.steps_per_epoch(config.training.epoch_every_n_steps)
        rules = SaveRules(config.save, config.training, engine.steps_per_epoch, perf_counter())
        saver = Saver(trial_uri, engine, feeds.train, rules, stats.to_json(), to_yaml(config))
        check_room(engine, saver.store)
        announce(engine, feeds.volume, trial_uri)
        with (
            Pulse(saver.store, world, config.training.rank_timeout_s, leave) as pulse,
            at_work(engine, feeds, saver, pulse, rollouts, callbacks) as trial,
        ):
            result = _run(trial, signals, progress)
    if world.is_first:
        write_finished(trial_uri, result)
    logger.info("End of training")
    return result


def _run(trial: Trial, signals: Interrupts, progress: Progress) -> TrainResult:
    engine, rules, pulse, start = trial.engine, trial.saver.rules, trial.pulse, trial.start
    config, feeds, world = engine.config, trial.feeds, engine.world
    training = config.training
    num_steps = training.offline_steps
    engine.at = pulse.at
    uri = trial.saver.uri(start.step)
    for step in range(start.step, num_steps):
        pulse.at(step, "data")
        asked = perf_counter()
        arrays = feeds.next(config)
        got = perf_counter()
        is_logged = step % training.log_freq == 0
        update = engine.update(
            feeds.train_batch(arrays, step, engine.policy, config.seed, engine.device), step, measure=is_logged
        )
        trial.watch.add(update.loss)
        if step == start.step:
            engine.check_used(step)
        for callback in trial.callbacks:
            callback.on_step(trial.run, step, update)
        if is_logged:
            trial.log(step, update, update_s=perf_counter() - got, dataloading_s=got - asked)
            progress(step, num_steps)
        num_done = step + 1
        is_last = num_done == num_steps
        pulse.at(step, "agree")
        stop, is_time = world.agreed([int(bool(signals.requested)), int(rules.is_time(perf_counter()))])
        reasons = rules.recurring(num_done, bool(is_time), perf_counter())
        if is_last or num_done % training.valid_freq == 0:
            reasons |= trial.validate(num_done)
        if training.eval_freq and (is_last or num_done % training.eval_freq == 0):
            reasons |= trial.roll_out(num_done)
        if is_last or stop:
            reasons.setdefault(RECURRING, 0.0)
        if reasons:
            uri = trial.save(num_done, reasons)
        if stop and not is_last:
            trial.finish_saving()
            raise _interrupted(signals.requested, num_done, num_steps, trial.saver.trial_uri)
    trial.finish_saving()
    progress(num_steps, num_steps)
    if "loader/wait_share" in feeds.train.metrics:
        logger.info("train: waited for data %.1f %% of the time", 100 * feeds.train.metrics["loader/wait_share"])
    metrics = latest(trial.tracker.lines) | {"train_s": trial.train_s}
    return TrainResult(
        uri, num_steps, metrics, start.step, weights_sha256(uri), str(engine.device), world.size, rules.best_names()
    )


def _interrupted(signal: str, step: int, num_steps: int, trial_uri: str) -> Interrupted:
    return Interrupted(
        f"training was interrupted at step {step} of {num_steps}",
        where=trial_uri,
        why=f"{signal or 'a signal to another process'} came; the step was finished and saved",
        fix="run the same command again: it resumes",
    )
