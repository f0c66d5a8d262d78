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
from tendon.train.distributed.interrupts import Interrupts
from tendon.train.distributed.launch import launch, leave, wants_ranks
from tendon.train.distributed.ranks import join_world
from tendon.train.loop.data_feeds import OpenDataFeeds, find_features, open_data_feeds
from tendon.train.loop.device import cpu_threads, pick_device
from tendon.train.loop.engine import Engine
from tendon.train.loop.resource_estimate import check_resources
from tendon.train.loop.session import Rollouts, TrainingSession, open_session
from tendon.train.online.episodes import OpenPlay
from tendon.train.online.phase import leave_memory, open_phase
from tendon.train.state.checkpoint import weights_sha256
from tendon.train.state.checkpoint_rules import RECURRING, SaveRules
from tendon.train.state.pause import find_result, last_step, write_paused
from tendon.train.state.saver import Saver
from tendon.train.state.status import TrainResult, write_finished
from tendon.train.watch.announce import announce
from tendon.train.watch.callbacks import Callback
from tendon.train.watch.heartbeat import Heartbeat
from tendon.train.watch.metrics_log import latest
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
    open_data: OpenDataFeeds = open_data_feeds,
    rollouts: Rollouts | None = None,
    open_play: OpenPlay | None = None,
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
        open_play: who plays the episodes of the online phase; likewise.
        callbacks: watch the run, beside those that the configuration names (in this process only).

    Raises:
        Interrupted: a signal came; the state is saved.
        DataError: the loss is not a number; nothing of that is saved.
        ConfigError: the dataset does not fit the configuration, or the trial was begun with another one.
    """
    finished = find_result(trial_uri)
    if finished is not None:
        logger.info("train: already done at step %d: %s", finished.step, finished.checkpoint_uri)
        return finished
    progress = progress or (lambda done, total: None)
    if wants_ranks(config):
        return launch(
            config, dataset_uri, stats, trial_uri, progress, open_data=open_data, rollouts=rollouts, open_play=open_play
        )
    with (
        cpu_threads(config.training.num_threads),
        join_world(pick_device(config.device)) as world,
        Interrupts() as signals,
    ):
        engine = Engine(config, stats.features, world, find_features(dataset_uri), weights_uri(trial_uri))
        opened = open_data(dataset_uri, leave_memory(engine), engine.policy.windows, world)
        engine.set_texts(opened.texts)
        engine.steps_per_epoch = opened.epoch_size.steps_per_epoch(config.training.epoch_every_n_steps)
        rules = SaveRules(config.save, config.training, engine.steps_per_epoch, perf_counter())
        with open_phase(engine, opened, open_play) as (feeds, online):
            saver = Saver(trial_uri, engine, feeds.train, rules, stats.to_json(), to_yaml(config))
            check_resources(engine, saver.store)
            announce(engine, feeds.epoch_size, trial_uri)
            with (
                Heartbeat(saver.store, world, config.training.rank_timeout_s, leave) as heartbeat,
                open_session(engine, feeds, saver, heartbeat, rollouts, callbacks, online) as session,
            ):
                result = _run(session, signals, progress)
    if world.is_first:
        is_whole = result.step == config.training.num_steps
        (write_finished if is_whole else write_paused)(trial_uri, result)
    logger.info("End of training")
    return result


def _run(session: TrainingSession, signals: Interrupts, progress: Progress) -> TrainResult:
    engine, rules, heartbeat, start = session.engine, session.saver.rules, session.heartbeat, session.start
    config, feeds, world = engine.config, session.feeds, engine.world
    training = config.training
    num_steps = training.num_steps
    num_here = last_step(num_steps)
    engine.at = heartbeat.at
    uri = session.saver.uri(start.step)
    if start.step == 0:
        engine.prepare(feeds.batches_from_start(engine.policy, engine.device))
    for step in range(start.step, num_here):
        session.play_online(step)
        heartbeat.at(step, "data")
        asked = perf_counter()
        arrays = feeds.next(config)
        got = perf_counter()
        is_logged = step % training.log_freq == 0
        update = engine.update(
            feeds.train_batch(arrays, step, engine.policy, config.seed, engine.device), step, measure=is_logged
        )
        session.loss_monitor.add(update.loss)
        if step == start.step:
            engine.check_used(step)
        for callback in session.callbacks:
            callback.on_step(session.run, step, update)
        if is_logged:
            session.log(step, update, update_s=perf_counter() - got, dataloading_s=got - asked)
            progress(step, num_steps)
        num_done = step + 1
        is_last = num_done == num_steps
        heartbeat.at(step, "agree")
        stop, is_time = world.agreed([int(bool(signals.requested)), int(rules.is_time(perf_counter()))])
        reasons = rules.recurring(num_done, bool(is_time), perf_counter())
        if is_last or num_done % training.valid_freq == 0:
            reasons |= session.validate(num_done)
        if training.eval_freq and (is_last or num_done % training.eval_freq == 0):
            reasons |= session.roll_out(num_done)
        if is_last or stop or num_done == num_here:
            reasons.setdefault(RECURRING, 0.0)
        if reasons:
            uri = session.save(num_done, reasons)
        if stop and num_done < num_here:
            session.finish_saving()
            raise _interrupted(signals.requested, num_done, num_steps, session.saver.trial_uri)
    session.finish_saving()
    num_done = max(start.step, num_here)
    progress(num_done, num_steps)
    if "loader/wait_share" in feeds.train.metrics:
        logger.info("train: waited for data %.1f %% of the time", 100 * feeds.train.metrics["loader/wait_share"])
    metrics = latest(session.metrics_log.lines) | {"train_s": session.train_s}
    return TrainResult(
        uri, num_done, metrics, start.step, weights_sha256(uri), str(engine.device), world.size, rules.best_names()
    )


def _interrupted(signal: str, step: int, num_steps: int, trial_uri: str) -> Interrupted:
    return Interrupted(
        f"training was interrupted at step {step} of {num_steps}",
        where=trial_uri,
        why=f"{signal or 'a signal to another process'} came; the step was finished and saved",
        fix="run the same command again: it resumes",
    )
