"""The base of LeRobot's policies: what is read is checked and scaled, and comes out as state, environment and cameras."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, Problem
from tendon.policies.base import Batch, Policy
from tendon.policies.lerobot.config import LeRobotConfig
from tendon.policies.processing.processing import Processing
from tendon.policies.windows import ACTION, bare

NUMERICS = 1

READABLE = ("state", "image", "action", "reward", "flag")


class LeRobotPolicy(Policy):
    """Subclasses build their network from ``state_dim``, ``environment_dim``, ``cameras`` and ``action_dim``."""

    config: LeRobotConfig
    processing: Processing
    readable: tuple[str, ...] = READABLE  # kinds of features

    def __init__(
        self, config: LeRobotConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features)
        problems = [*_problems(self, features)]
        if problems:
            raise ConfigError.of(problems)
        used = {key: features[key] for key in (*self.reads, *self.writes)}
        times = {key: len(span.deltas) for key, span in self.windows.training.items()}
        self.processing = Processing(config.processing(used), used, stats, times=times)
        self.num_draws = self.processing.num_draws
        self.states, self.environment, self.cameras = (
            config.states(features),
            config.environment(features),
            config.cameras(features),
        )
        self.state_dim = sum(features[key].dim for key in self.states)
        self.environment_dim = sum(features[key].dim for key in self.environment)
        self.action_dim = features[ACTION].dim
        self.fetches = getattr(config, "pretrained_backbone_weights", None) is not None and stats is not None

    def camera_shape(self, key: str) -> tuple[int, int, int]:
        """Channels, height and width of a camera as the network sees it."""
        height, width, channels = self.processing.after[key].shape
        return channels, height, width

    def numbers_of(self, seen: Batch) -> list[Tensor]:
        """The robot's state ``[B, T, D]``, then the environment's, of those that are read."""
        parts = []
        if self.states:
            parts.append(torch.cat([seen[key] for key in self.states], -1))
        return parts + [seen[key] for key in self.environment]


def _problems(policy: LeRobotPolicy, features: Mapping[str, Feature]) -> Iterator[Problem]:
    name = policy.config.name
    for key, feature in features.items():
        if feature.kind not in policy.readable:
            why = f"its network takes numbers and cameras, {key} is a {feature.kind}"
            fix = "leave it out of env.observation"
            yield Problem(f"{name} cannot read {bare(key)}", "env.observation", why, fix)
    if policy.writes != (ACTION,):
        why = f"the key of its action is {ACTION}, the dataset's are {', '.join(policy.writes) or 'none'}"
        fix = "choose a policy of several actions, or a dataset with one"
        yield Problem(f"{name} predicts one action, the dataset has {len(policy.writes)}", f"policy={name}", why, fix)
    if not policy.reads:
        why = "no observation of numbers and no camera was selected"
        yield Problem(f"{name} has nothing to look at", "env.observation", why, "name at least one observation")
