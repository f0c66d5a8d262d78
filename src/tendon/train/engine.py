"""One policy being trained: an update from a batch, and the validation loss. No files, no clock; called by the loop."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tendon.config.schema import TrainConfig
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.policies.base import Batch, Policy
from tendon.policies.info import PolicyInfo
from tendon.policies.registry import make_policy
from tendon.train.device import pick_device
from tendon.train.optimizer import make_optimizer
from tendon.train.schedule import learning_rate


@dataclass(frozen=True)
class Update:
    """What one update leaves, still on the device."""

    loss: Tensor
    metrics: Mapping[str, Tensor]
    grad_norm: Tensor | None  # before clipping; None when nobody asked
    lr: float  # of the next update: LeRobot logs it after its scheduler has stepped

    def numbers(self) -> dict[str, float]:
        """As plain numbers; this waits for the device."""
        norm = {} if self.grad_norm is None else {"grad_norm": self.grad_norm.item()}
        metrics = {name: value.item() for name, value in self.metrics.items()}
        return {"loss": self.loss.item(), **norm, "lr": self.lr, **metrics}


class Engine:
    """A policy with its optimiser and schedule."""

    def __init__(self, config: TrainConfig, stats: Mapping[str, FeatureStats]) -> None:
        """Seeds every generator, builds the policy on the CPU (so that weights start alike everywhere) and moves it."""
        self.config = config
        self.device = pick_device(config.device)
        seed_everything(config.seed)
        features = select_features(config, stats)
        self.policy: Policy = make_policy(config.policy, features, stats).to(self.device)
        self.info = PolicyInfo(config.policy, features, self.policy.window)
        self.optimizer = make_optimizer(config.training, self.policy)
        self.parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]

    def update(self, batch: Batch, step: int, *, measure: bool) -> Update:
        """Loss, backward, clip, step; the gradient's norm is computed once, and only to clip or to ``measure``."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config.training, step)
        self.optimizer.zero_grad(set_to_none=True)
        output = self.policy.loss(batch)
        output.loss.backward()  # type: ignore[no-untyped-call]
        grad_norm = None
        if self.config.training.grad_clip_norm > 0:
            grad_norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.training.grad_clip_norm)
        elif measure:
            grad_norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        self.optimizer.step()
        return Update(output.loss.detach(), output.metrics, grad_norm, learning_rate(self.config.training, step + 1))

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Mean loss and metrics over batches of one size; training's randomness is left as it was."""
        sums: dict[str, list[Tensor]] = {}
        self.policy.eval()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.config.seed)
            for batch in batches:
                output = self.policy.loss(batch)
                for name, value in {"loss": output.loss, **output.metrics}.items():
                    sums.setdefault(name, []).append(value)
        self.policy.train()
        return {name: torch.stack(values).mean().item() for name, values in sums.items()}

    def weights_are_finite(self) -> bool:
        """Whether every weight is a number."""
        return bool(torch.stack([parameter.isfinite().all() for parameter in self.parameters]).all())


def seed_everything(seed: int) -> None:
    """Python's, numpy's and torch's global generators; the checkpoint holds them from here on."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def select_features(config: TrainConfig, stats: Mapping[str, FeatureStats]) -> dict[str, int]:
    """Dimensions of the observations that the environment offers, and of the action.

    Raises:
        ConfigError: the dataset lacks one of them.
    """
    wanted = [*(f"observation.{key}" for key in config.env.observation), "action"]
    missing = [key for key in wanted if key not in stats]
    if missing:
        raise ConfigError(
            f"the dataset has no {', '.join(missing)}",
            where="env.observation",
            why=f"it has {', '.join(sorted(stats))}",
            fix="choose the env of the demonstrations, or name in env.observation what the dataset has",
        )
    return {key: len(stats[key].mean) for key in wanted}
