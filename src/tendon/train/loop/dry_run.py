"""``--dry-run``: everything that a training does, once and for nothing; the trial's folder is not touched.

The first batch, one update, a validation, a checkpoint in a scratch folder: what can fail late fails now, and what a
run will take is known before it is paid for.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from tendon.config.compose import to_yaml
from tendon.config.schema import TrainConfig
from tendon.data.stats import DatasetStats
from tendon.storage import open_store
from tendon.train.distributed.ranks import ALONE
from tendon.train.loop.data_feeds import OpenDataFeeds, find_features, open_data_feeds
from tendon.train.loop.device import cpu_threads
from tendon.train.loop.engine import Engine
from tendon.train.loop.resource_estimate import check_resources
from tendon.train.online.episodes import OpenPlay
from tendon.train.state.snapshot import take_snapshot
from tendon.train.watch.announce import announce
from tendon.train.watch.monitors import make_callbacks
from tendon.train.watch.trackers import make_trackers
from tendon.weights.kept import weights_uri

NUM_STEPS = 10


@dataclass(frozen=True)
class DryRun:
    """What was seen."""

    step_s: float  # median, data included
    total_s: float  # of the whole training, by that median
    checkpoint_bytes: int
    num_kept: int
    device_bytes: int  # before activations
    numbers: dict[str, float]


def dry_run(
    config: TrainConfig,
    dataset_uri: str,
    stats: DatasetStats,
    trial_uri: str,
    *,
    open_data: OpenDataFeeds = open_data_feeds,
    open_play: OpenPlay | None = None,
) -> DryRun:
    """Go through the motions of ``loop.train`` in one process; its errors come now."""
    with cpu_threads(config.training.num_threads):
        make_callbacks(config.training.callbacks)
        make_trackers(config)
        engine = Engine(config, stats.features, found=find_features(dataset_uri), kept_uri=weights_uri(trial_uri))
        feeds = open_data(dataset_uri, config, engine.policy.windows, ALONE)
        engine.set_texts(feeds.texts)
        announce(engine, feeds.epoch_size, trial_uri)
        need = check_resources(engine, open_store(trial_uri))
        engine.prepare(feeds.batches_from_start(engine.policy, engine.device))
        seconds, numbers = [], dict[str, float]()
        for step in range(NUM_STEPS):
            began = perf_counter()
            batch = feeds.train_batch(feeds.next(config), step, engine.policy, config.seed, engine.device)
            update = engine.update(batch, step, measure=True)
            numbers = update.numbers()
            seconds.append(perf_counter() - began)
        engine.check_used()
        rollouts_s = _played_s(engine, open_play)
        if feeds.valid is not None:
            valid = engine.validate(feeds.valid_batches(engine.policy, engine.device))
            numbers |= {f"valid_{name}": value for name, value in valid.items()}
        snapshot = take_snapshot(engine, stats.to_json(), to_yaml(config), feeds.train.state, {})
        with tempfile.TemporaryDirectory(prefix="tendon-rehearsal-") as folder:
            snapshot.write(Path(folder))
    step_s = statistics.median(seconds)
    total_s = step_s * config.training.num_steps + rollouts_s
    return DryRun(step_s, total_s, snapshot.num_bytes, need.num_kept, need.device_bytes, numbers)


def _played_s(engine: Engine, open_play: OpenPlay | None) -> float:
    """What all rollouts of the online phase will take, by one episode of each environment; 0 where there is no such phase."""
    training = engine.config.training
    if not training.online_steps or open_play is None:
        return 0.0
    with open_play(engine.config) as play, engine.judged() as policy:
        played = play(policy, 0, training.online_rollout_batch_size)
    times = math.ceil(training.online_rollout_n_episodes / training.online_rollout_batch_size)
    return played.seconds * times * math.ceil(training.online_steps / (training.online_steps_between_rollouts or 1))
