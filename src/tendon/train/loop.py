"""Training, one loop for every policy: a configuration and a dataset in, a committed checkpoint and its numbers out.

Called by ``steps.train_trial``. Resume-first: a second call continues where the last whole checkpoint is, and ends with
the same bytes as an uninterrupted run. SIGTERM and Ctrl-C save and leave with code 75.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter

import torch

from tendon.config.compose import describe, to_yaml
from tendon.config.schema import TrainConfig
from tendon.data.stats import DatasetStats
from tendon.errors import Interrupted
from tendon.train.checkpoint import weights_sha256
from tendon.train.device import cpu_threads
from tendon.train.engine import Engine
from tendon.train.feed import Feeds, OpenFeeds, open_feeds, to_tensors
from tendon.train.finite import FiniteWatch
from tendon.train.interrupt import Interrupts
from tendon.train.saver import Saver
from tendon.train.status import TrainResult, find_finished, write_finished
from tendon.train.track import Tracker, big, latest

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
) -> TrainResult:
    """Train one trial to its end, or continue it.

    Args:
        config: the effective configuration.
        dataset_uri: a converted dataset.
        stats: its statistics, of the training split.
        trial_uri: where checkpoints, metrics.jsonl and status.json go.
        progress: called at each log step and at the end.
        open_data: how batches are opened.

    Raises:
        Interrupted: a signal came; the state is saved.
        DataError: the loss is not a number; nothing of that is saved.
        ConfigError: the dataset does not fit the configuration, or the trial was begun with another one.
    """
    finished = find_finished(trial_uri)
    if finished is not None:
        logger.info("train: already done at step %d: %s", finished.step, finished.checkpoint_uri)
        return finished
    with cpu_threads(config.training.num_threads), Interrupts() as interrupts:
        engine = Engine(config, stats.features)
        feeds = open_data(dataset_uri, config, engine.policy.window)
        saver = Saver(trial_uri, engine, feeds.train, stats.to_json(), to_yaml(config))
        _announce(engine, feeds, trial_uri)
        result = _run(engine, feeds, saver, interrupts, progress or (lambda done, total: None))
    write_finished(trial_uri, result)
    logger.info("End of training")
    return result


def _run(engine: Engine, feeds: Feeds, saver: Saver, interrupts: Interrupts, progress: Progress) -> TrainResult:
    training, window = engine.config.training, engine.policy.window
    start = saver.resume()
    tracker, watch = Tracker(saver.store, feeds.volume, start.num_metric_lines), FiniteWatch(start.step)
    num_steps, began = training.offline_steps, perf_counter()
    uri = saver.uri(start.step)
    for step in range(start.step, num_steps):
        asked = perf_counter()
        arrays = next(feeds.train)
        got = perf_counter()
        is_logged = step % training.log_freq == 0
        update = engine.update(to_tensors(arrays, window, engine.device), step, measure=is_logged)
        watch.add(update.loss)
        if is_logged:
            numbers = update.numbers() | {"update_s": perf_counter() - got, "dataloading_s": got - asked}
            watch.check(engine, feeds)
            tracker.train(step, numbers)
            progress(step, num_steps)
        num_done = step + 1
        is_last = num_done == num_steps
        if feeds.valid is not None and (is_last or num_done % training.valid_freq == 0):
            tracker.valid(num_done, engine.validate(feeds.valid_batches(window, engine.device)))
        is_saved = training.save_checkpoint and num_done % training.save_freq == 0
        if is_last or is_saved or interrupts.requested:
            watch.check(engine, feeds)
            tracker.flush()
            uri = saver.save(num_done, len(tracker.lines), start.train_s + perf_counter() - began)
        if interrupts.requested and not is_last:
            raise _interrupted(interrupts.requested, num_done, num_steps, saver.trial_uri)
    progress(num_steps, num_steps)
    metrics = latest(tracker.lines) | {"train_s": start.train_s + perf_counter() - began}
    return TrainResult(uri, num_steps, metrics, start.step, weights_sha256(uri))


def _announce(engine: Engine, feeds: Feeds, trial_uri: str) -> None:
    """LeRobot's lines before the first step."""
    config, volume = engine.config, feeds.volume
    num_learnable = sum(parameter.numel() for parameter in engine.parameters)
    num_total = sum(parameter.numel() for parameter in engine.policy.parameters())
    steps = config.training.offline_steps
    logger.info("cfg:\n%s", describe(config))
    logger.info("Logs will be saved locally.")
    logger.info("Using %s, %d CPU threads.", engine.device, torch.get_num_threads())
    logger.info("Output dir: %s", trial_uri)
    logger.info("cfg.env.task=%s", config.env.task)
    logger.info("cfg.training.offline_steps=%d (%s)", steps, big(steps))
    logger.info("offline_dataset.num_frames=%d (%s)", volume.num_frames, big(volume.num_frames))
    logger.info("offline_dataset.num_episodes=%d", volume.num_episodes)
    logger.info("num_learnable_params=%d (%s)", num_learnable, big(num_learnable))
    logger.info("num_total_params=%d (%s)", num_total, big(num_total))
    logger.info("Start offline training on a fixed dataset")


def _interrupted(signal: str, step: int, num_steps: int, trial_uri: str) -> Interrupted:
    return Interrupted(
        f"training was interrupted at step {step} of {num_steps}",
        where=trial_uri,
        why=f"{signal} came; the step was finished and saved",
        fix="run the same command again: it resumes",
    )
