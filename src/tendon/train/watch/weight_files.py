"""Files of weights alone beside the checkpoints, each with its ``-EMA`` twin: MineStudio's SmartCheckpoint.

``save.weights_every_n_steps`` says when, ``save.weights_top_k`` how many stay (-1: all). A policy that MineStudio has too is
written as its Lightning file, any other one as safetensors. They lie in the trial's folder ``weights``; resuming reads none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tendon.config.compose import to_dict
from tendon.config.schema import TrainConfig
from tendon.errors import DataError
from tendon.train.loop.engine import Engine, Update
from tendon.train.watch.callbacks import Callback, RunContext

FOLDER = "weights"
EMA = "-EMA"


class WeightFiles(Callback):
    """Writes in the first process; what is written again by a resumed attempt is the same."""

    def __init__(self, config: TrainConfig) -> None:
        self._every, self._top_k = config.save.weights_every_n_steps, config.save.weights_top_k
        self._filename = config.save.weights_filename

    def on_step(self, run: RunContext, step: int, update: Update) -> None:
        """After every so many updates."""
        num_done = step + 1
        if num_done % self._every:
            return
        epoch = step // max(1, run.engine.steps_per_epoch)
        name = self._filename.replace("{epoch}", f"epoch={epoch}").replace("{step}", f"step={num_done}")
        twins = {"": learning_weights(run.engine)}
        if run.engine.ema is not None:
            twins[EMA] = averaged_weights(run.engine)
        for twin, tensors in twins.items():
            key, content = _as_file(run, tensors, num_done)
            run.store.write(f"{FOLDER}/{name}{twin}{key}", content)
        self._remove_old(run, num_done)

    def _remove_old(self, run: RunContext, num_done: int) -> None:
        if self._top_k < 0:
            return
        steps = sorted({_step_of(info.key) for info in run.store.list(f"{FOLDER}/")} - {None}, reverse=True)  # type: ignore[type-var]
        kept = set([step for step in steps if step <= num_done][: self._top_k])  # type: ignore[operator]
        for info in list(run.store.list(f"{FOLDER}/")):
            if _step_of(info.key) not in kept:
                run.store.delete(info.key)


def learning_weights(engine: Engine) -> dict[str, Tensor]:
    """What learns and what does not, on the CPU, by the policy's names."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in engine.policy.state_dict().items()}


def averaged_weights(engine: Engine) -> dict[str, Tensor]:
    """The same with the moving average in the place of what learns; buffers are not averaged."""
    assert engine.ema is not None
    average = {name: tensor.detach().cpu().contiguous() for name, tensor in engine.ema.tensors().items()}
    return learning_weights(engine) | average


def _as_file(run: RunContext, tensors: Mapping[str, Tensor], step: int) -> tuple[str, bytes]:
    """Its ending and its bytes."""
    from tendon.weights.formats.minestudio import exported, lightning_content

    with tempfile.TemporaryDirectory(prefix="tendon-weights-") as scratch:
        path = Path(scratch) / "file"
        try:
            own, arguments = exported(run.engine.policy, run.engine.info, run.trial_uri)
        except DataError:  # MineStudio has no such policy
            save_file(dict(tensors), path)
            return ".safetensors", path.read_bytes()
        theirs = {name: tensors[f"net.{name}"] for name in own}
        settings: dict[str, Any] = to_dict(run.config) | {"model": arguments}
        torch.save(lightning_content(theirs, settings, step), path)
        return ".ckpt", path.read_bytes()


def _step_of(key: str) -> int | None:
    _, found, rest = key.rpartition("step=")
    digits = rest.partition(".")[0].removesuffix(EMA).partition("-")[0]
    return int(digits) if found and digits.isdigit() else None
