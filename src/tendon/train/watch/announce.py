"""What a run says before its first step: LeRobot's lines."""

from __future__ import annotations

import logging

import torch

from tendon.config.compose import describe
from tendon.train.loop.engine import Engine
from tendon.train.loop.epoch_size import EpochSize
from tendon.train.watch.metrics_log import short_number

logger = logging.getLogger(__name__)


def announce(engine: Engine, epoch_size: EpochSize, trial_uri: str) -> None:
    """Configuration, device, data and network."""
    config = engine.config
    num_learnable = sum(parameter.numel() for parameter in engine.parameters)
    num_total = sum(parameter.numel() for parameter in engine.policy.parameters())
    steps = config.training.offline_steps
    logger.info("cfg:\n%s", describe(config))
    logger.info("Logs will be saved locally.")
    logger.info("Using %s, %d CPU threads, %d process(es).", engine.device, torch.get_num_threads(), engine.world.size)
    logger.info("Output dir: %s", trial_uri)
    logger.info("cfg.env.task=%s", config.env.task)
    logger.info("cfg.training.offline_steps=%d (%s)", steps, short_number(steps))
    logger.info("cfg.training.online_steps=%d", config.training.online_steps)
    logger.info("offline_dataset.num_frames=%d (%s)", epoch_size.num_frames, short_number(epoch_size.num_frames))
    logger.info("offline_dataset.num_episodes=%d", epoch_size.num_episodes)
    logger.info("num_learnable_params=%d (%s)", num_learnable, short_number(num_learnable))
    logger.info("num_total_params=%d (%s)", num_total, short_number(num_total))
    if parts := engine.policy.describe():
        logger.info("parts of the policy:\n%s", parts)
    if steps:
        logger.info("Start offline training on a fixed dataset")
