"""One policy being trained: an update from a batch, and the validation loss. No files, no clock; called by the loop."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tendon.config.feature_map import FeatureMap
from tendon.config.schema import TrainConfig
from tendon.data.features import Feature, is_action_part, kind_in_vocabulary
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, Problem
from tendon.policies.base import GOAL, Batch, LossOutput, Memory, Policy, under
from tendon.policies.spec import PolicySpec
from tendon.train.distributed.parallel import Parallel, full_tensor
from tendon.train.distributed.ranks import ALONE, World
from tendon.train.loop.device import pick_device
from tendon.train.loop.ema import Ema
from tendon.train.loop.master_weights import lower, raised
from tendon.train.loop.objectives import weighed
from tendon.train.loop.optimizer import freeze, make_optimizer, recompute, training_mode
from tendon.train.loop.recurrent_state import detach
from tendon.train.loop.schedule import learning_rate
from tendon.weights.build import build_policy
from tendon.weights.spec import BaseWeights

logger = logging.getLogger(__name__)
ACTION = "action"
NO_FEATURES: Mapping[str, Feature] = {}
LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Update:
    """What one update leaves, still on the device."""

    loss: Tensor
    metrics: Mapping[str, Tensor]  # in steps that are not logged without those that a policy leaves out as costly
    grad_norm: Tensor | None  # before clipping; None when nobody asked
    lr: float  # of the next update: LeRobot logs it after its scheduler has stepped

    def numbers(self, world: World = ALONE) -> dict[str, float]:
        """As plain numbers, means over all processes; this waits for the device."""
        names = ["loss", *self.metrics]
        values = world.mean(torch.stack([value.detach().double() for value in (self.loss, *self.metrics.values())]))
        norm = {} if self.grad_norm is None else {"grad_norm": self.grad_norm.item()}
        loss, *metrics = values.tolist()
        return {"loss": loss, **norm, "lr": self.lr, **dict(zip(names[1:], metrics, strict=True))}


class Engine:
    """A policy with its optimiser, schedule, scaler, average and carry."""

    def __init__(
        self,
        config: TrainConfig,
        stats: Mapping[str, FeatureStats],
        world: World = ALONE,
        found: Mapping[str, Feature] = NO_FEATURES,
        kept_uri: str = "",
    ) -> None:
        """Seeds every generator, builds the policy on the CPU (so that weights start alike everywhere) and moves it.

        ``found``: the dataset's features (``feed.find_features``); without them, those that its statistics name.
        """
        self.config, self.world = config, world
        self.device = pick_device(config.device, world.local_rank)
        training = config.training
        seed_everything(config.seed)
        features = select_features(config, stats, found)
        self.base: BaseWeights = config.policy.base_weights()
        policy = build_policy(config.policy, features, stats, kept_uri=kept_uri, device=self.device, base=self.base)
        self.policy: Policy = policy.to(self.device)
        self.info = PolicySpec(config.policy, features, self.policy.windows)
        freeze(self.policy, training.freeze)
        freeze(self.policy, self.policy.frozen(), where=f"policy={config.policy.name}")
        training_mode(self.policy)
        recompute(self.policy.checkpointed_units())
        if training.master_weights == "bf16":
            lower(self.policy)
        self.parallel = Parallel(training, self.policy, self.device, world)
        self.optimizer = make_optimizer(training, self.policy)
        self.named = {name: p for name, p in self.policy.named_parameters() if p.requires_grad}
        self.parameters = list(self.named.values())
        self.ema = Ema(config.ema, self.named) if config.ema.enable else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=training.precision == "fp16")  # type: ignore[attr-defined]
        self.steps_per_epoch = 1  # the loop knows the data and says how many
        self.memories: list[Memory] = [None] * training.gradient_accumulation_steps
        self.num_skipped = torch.zeros((), device=self.device)
        self.at: Callable[[int, str], None] = lambda step, stage: None  # is told where an update is
        if world.rank:
            seed_everything(config.seed + world.rank * 1_000_003)

    def set_texts(self, texts: Sequence[str]) -> None:
        """The table that the texts of batches point into, for a policy that reads one; saved with its description."""
        if any(feature.kind == "text" for feature in self.info.features.values()):
            self.policy.set_texts(texts)
            self.info = replace(self.info, texts=tuple(texts))

    def prepare(self, batches: Iterator[Batch]) -> None:
        """What the policy fits to data before its first update: in the first process, whose buffers the others take."""
        if type(self.policy).prepare is Policy.prepare:
            return
        if self.world.is_first:
            with torch.no_grad():
                self.policy.prepare(batches)
        buffers = dict(self.policy.named_buffers())
        sent: dict[str, Tensor] = self.world.from_first(
            {name: buffer.cpu() for name, buffer in buffers.items()} if self.world.is_first else None
        )
        for name, buffer in buffers.items():
            buffer.copy_(sent[name])

    def update(self, batch: Batch, step: int, *, measure: bool) -> Update:
        """Loss, backward, clip, step; ``measure``: metrics are read, of which a policy may leave out what is costly if not.

        The gradient's norm is computed once, and only to clip, to skip or to measure.
        """
        training = self.config.training
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr_scale"] * self._rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        self.policy.measured = measure
        loss, metrics = self._backward(batch, step)
        self.policy.measured = True
        self._keep_phase(step)
        grad_norm = None
        if training.grad_clip_norm > 0 or measure or training.nonfinite == "skip":
            self.scaler.unscale_(self.optimizer)
            grads = [p.grad for p in self.parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
            if training.grad_clip_norm > 0:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, training.grad_clip_norm, norm)
            grad_norm = full_tensor(norm)
        self._step(grad_norm)
        with torch.no_grad():
            self.policy.after_update(step)
        if self.ema is not None:
            self.ema.update(step)
        return Update(loss, metrics, grad_norm, self._rate(step + 1))

    def _keep_phase(self, step: int) -> None:
        """Only what the policy lets learn now keeps its gradient; without one the optimiser leaves values and moments alone."""
        learning = self.policy.phase(step)
        if learning is None:
            return
        for name, parameter in self.named.items():
            if not under(name, learning):
                parameter.grad = None

    def _backward(self, batch: Batch, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The gradients of an update's batch, part by part; the loss and its terms are means over the parts."""
        num_parts = len(self.memories)
        self.at(step, "forward")
        if num_parts == 1:
            output = self._loss(self.parallel.forward, batch, self.memories[0], step)
            self.at(step, "backward")
            self.scaler.scale(output.loss).backward()  # type: ignore[no-untyped-call]
            self.memories[0] = detach(output.memory)
            return output.loss.detach(), output.metrics
        parts = split_batch(batch, num_parts)
        outputs = []
        for i, part in enumerate(parts):
            with self.parallel.gradients_stay_here(i + 1 < num_parts):
                output = self._loss(self.parallel.forward, part, self.memories[i], step)
                self.at(step, "backward" if i + 1 == num_parts else "forward")
                self.scaler.scale(output.loss / num_parts).backward()  # type: ignore[no-untyped-call]
            self.memories[i] = detach(output.memory)
            outputs.append(output)
        metrics = {name: torch.stack([o.metrics[name] for o in outputs]).mean() for name in outputs[0].metrics}
        return torch.stack([output.loss.detach() for output in outputs]).mean(), metrics

    def _loss(self, module: torch.nn.Module, batch: Batch, memory: Memory, step: int) -> LossOutput:
        with self._precision():
            output: LossOutput = module(batch, memory, step)
            return weighed(output, self.config.training.objective_weights)

    def _step(self, grad_norm: Tensor | None) -> None:
        """The optimiser's step; one with gradients that are no numbers is left out on the device, without waiting for it."""
        if self.config.training.nonfinite == "skip":
            assert grad_norm is not None
            bad = (~grad_norm.isfinite()).float()
            self.num_skipped += bad
            if not self.scaler.is_enabled():  # a scaler finds and leaves out by itself
                self.optimizer.grad_scale, self.optimizer.found_inf = None, bad  # type: ignore[attr-defined]
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()

    def _rate(self, step: int) -> float:
        at = self.policy.schedule_step(step)
        training = self.config.training
        return training.lr if at is None else learning_rate(training, at, self.steps_per_epoch)

    def _precision(self) -> AbstractContextManager[Any]:
        low = LOW.get(self.config.training.precision)
        return torch.autocast(self.device.type, low) if low else nullcontext()

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch], step: int = 0) -> dict[str, float]:
        """Mean loss and metrics over batches of one size and all processes; training's randomness is left as it was."""
        sums: dict[str, list[Tensor]] = {}
        with self.judged():
            torch.manual_seed(self.config.seed + self.world.rank)
            for batch in batches:
                for part in split_batch(batch, len(self.memories)):
                    output = self._loss(self.parallel.loss, part, None, step)
                    for name, value in {"loss": output.loss, **output.metrics}.items():
                        sums.setdefault(name, []).append(value.double())
        means = self.world.mean(torch.stack([torch.stack(values).mean() for values in sums.values()]))
        return dict(zip(sums, means.tolist(), strict=True))

    @contextmanager
    def judged(self) -> Iterator[Policy]:
        """The policy in evaluation mode with the weights that are judged; randomness and weights are put back."""
        average = self.ema if self.ema and not self.config.ema.validate_original_weights else None
        self.policy.eval()
        gpus = [self.device] if self.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=gpus),
            raised(self.parameters),
            average.applied() if average else nullcontext(),
        ):
            yield self.policy
        training_mode(self.policy)

    def average_anew(self) -> None:
        """Before the first update, when the weights were changed: the average begins as they are."""
        if self.ema is not None:
            self.ema = Ema(self.config.ema, self.named)

    def check_used(self, step: int = 0) -> None:
        """After the first update: every learning parameter has a gradient; several processes would wait for it for ever.

        Raises:
            ConfigError: one has none, and there are several processes.
        """
        phase = self.policy.phase(step)
        learning = self.named if phase is None else {n: p for n, p in self.named.items() if under(n, phase)}
        unused = [name for name, parameter in learning.items() if parameter.grad is None]
        if unused and self.world.is_many:
            raise ConfigError(
                f"{len(unused)} learning parameter(s) take no part in the loss",
                where="training.freeze",
                why=f"several processes wait for the gradient of each: {', '.join(unused[:5])}",
                fix=f"training.freeze=[{','.join(sorted({name.rpartition('.')[0] for name in unused})[:5])}]",
            )
        if unused:
            logger.warning("train: %d parameter(s) get no gradient: %s", len(unused), ", ".join(unused[:5]))

    def weights_are_finite(self) -> bool:
        """Whether every weight is a number."""
        return bool(torch.stack([full_tensor(parameter.isfinite().all()) for parameter in self.parameters]).all())


def split_batch(batch: Batch, num_parts: int) -> list[Batch]:
    """Equal parts of a batch, in order; views, not copies."""
    size = len(next(iter(batch.values()))) // num_parts
    return [{key: value[i * size : (i + 1) * size] for key, value in batch.items()} for i in range(num_parts)]


def seed_everything(seed: int) -> None:
    """Python's, numpy's and torch's global generators; the checkpoint holds them from here on."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def select_features(
    config: TrainConfig, stats: Mapping[str, FeatureStats], found: Mapping[str, Feature] = NO_FEATURES
) -> dict[str, Feature]:
    """The observations and goals that the configuration names, and the action or its parts, as batches have them.

    Raises:
        ConfigError: the dataset lacks one of them.
    """
    known = found or {
        key: Feature(key, kind_in_vocabulary(key), (len(one.mean),), "float32") for key, one in stats.items()
    }
    features: dict[str, Feature] = {}
    missing: dict[str, list[str]] = {}
    feature_map = FeatureMap.of(config.env)
    for section, prefix in (("observation", ""), ("goal", GOAL)):
        for name in getattr(config.env, section):
            key = name if name in known else feature_map.stored_key(name, known)
            if key in known:
                features[prefix + key] = _in_batches(known[key], prefix + key)
            else:
                missing.setdefault(f"env.{section}", []).append(key)
    actions = [ACTION] if ACTION in known else [key for key in known if is_action_part(key)]
    if not actions:
        missing.setdefault("env.observation", []).append("action")
    if missing:
        why = f"it has {', '.join(sorted(known))}"
        fix = "choose the env of the demonstrations, or name what the dataset has"
        raise ConfigError.of(
            [Problem(f"the dataset has no {', '.join(names)}", at, why, fix) for at, names in missing.items()]
        )
    return features | {key: _in_batches(known[key], key) for key in actions}


def _in_batches(feature: Feature, key: str) -> Feature:
    """A feature as a batch has it: numbers flat and float32, whatever they are stored as."""
    if feature.kind in ("image", "depth", "mask"):
        return Feature(key, feature.kind, feature.shape, feature.dtype)
    dtype = "int64" if feature.is_integer else "float32"
    return Feature(key, feature.kind, () if feature.kind == "text" else (feature.dim,), dtype, feature.names)
