"""Is there room: memory of the device and disk for checkpoints, estimated before the first step.

The estimate counts weights, gradients, optimiser and average, which are known; activations depend on the policy and are
not in it, so too little is certain and enough is not: the words say so. Of a policy whose loss can be computed on tensors without
values (``traceable``) they are counted too (memory_estimate.py), and printed part by part.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from tendon.errors import ConfigError, StorageError
from tendon.storage.local import LocalStore
from tendon.storage.store import Store
from tendon.train.loop.engine import Engine
from tendon.train.online.phase import buffer_bytes

logger = logging.getLogger(__name__)
MOMENTS = 2  # Adam's, as large as the weights each
MIB = 1 << 20


@dataclass(frozen=True)
class ResourceNeed:
    """Bytes of one process, and of one checkpoint."""

    device_bytes: int
    checkpoint_bytes: int
    num_kept: int


def estimate(engine: Engine) -> ResourceNeed:
    """What the policy will take."""
    config = engine.config
    weights = sum(t.numel() * t.element_size() for t in engine.policy.state_dict().values())
    learning = sum(parameter.numel() * parameter.element_size() for parameter in engine.parameters)
    average = learning if engine.ema is not None else 0
    held = weights + learning * (1 + MOMENTS) + (0 if config.ema.cpu_offload else average)
    parts = engine.world.size if config.training.sharding == "fsdp" else 1
    save = config.save
    num_best = save.on_best_validation + save.on_best_rollout_return + save.on_best_rollout_success_rate
    num_kept = config.training.keep_checkpoints + len(save.epochs) + num_best * save.top_k
    saved = sum(t.numel() * t.element_size() for t in engine.policy.trainable_state_dict().values())
    return ResourceNeed(held // parts, saved + learning * MOMENTS + average + buffer_bytes(engine), num_kept)


def check_resources(engine: Engine, store: Store) -> ResourceNeed:
    """Say what is needed; stop when it cannot fit.

    Raises:
        ConfigError: the device has less memory than the weights and their optimiser take.
        StorageError: not even one checkpoint fits on the disk.
    """
    need = estimate(engine)
    memory = device_memory(engine.device)
    logger.info(
        "train: needs %d MiB of %d MiB on %s before activations; a checkpoint is %d MiB, %d of them stay",
        -(-need.device_bytes // MIB),
        memory // MIB,
        engine.device,
        -(-need.checkpoint_bytes // MIB),
        need.num_kept,
    )
    if need.device_bytes > memory:
        raise ConfigError(
            "the policy does not fit into the memory of the device",
            where=str(engine.device),
            why=f"weights, gradients and optimiser take {need.device_bytes // MIB} MiB of {memory // MIB} MiB",
            fix="training.sharding=fsdp with more training.num_gpus, a smaller policy, training.freeze, or another device",
        )
    if engine.world.is_first:
        _check_activations(engine, memory)
        _check_disk(need, store)
    return need


def _check_activations(engine: Engine, memory: int) -> None:
    """With activations, where they can be known; sharing out among processes is not counted, so that only warns."""
    if not engine.policy.traceable:
        return
    from tendon.train.loop.memory_estimate import estimate_memory

    parts = estimate_memory(engine.config, engine.info.features)
    logger.info("train: memory of an update by the estimate:\n%s", parts.describe())
    if parts.total > memory:
        logger.warning(
            "train: an update takes about %d MiB, %s has %d: policy.gradient_checkpointing=true, policy.lora_rank=16, "
            "a smaller training.batch_size or more gradient_accumulation_steps",
            parts.total // MIB,
            engine.device,
            memory // MIB,
        )


def device_memory(device: torch.device) -> int:
    """Bytes that the device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_disk(need: ResourceNeed, store: Store) -> None:
    places = [Path(tempfile.gettempdir())] + ([_existing(store.root)] if isinstance(store, LocalStore) else [])
    for place in places:
        free = shutil.disk_usage(place).free
        if free < need.checkpoint_bytes:
            raise StorageError(
                "not even one checkpoint fits on the disk",
                where=str(place),
                why=f"a checkpoint takes about {need.checkpoint_bytes // MIB} MiB, {free // MIB} MiB are free",
                fix="free some space, or point TMPDIR or the store at a larger disk",
            )
        if place != places[0] and free < need.checkpoint_bytes * (need.num_kept + 1):
            logger.warning("train: %s has %d MiB free; all checkpoints that stay need more", place, free // MIB)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
