"""Tiny vision-language-action policies for tests: features, statistics, batches."""

from __future__ import annotations

from itertools import count
from typing import Any

import torch

from tendon.config.compose import compose
from tendon.data.features import Feature
from tendon.policies.registry import make_policy
from tests.train.small_trial import feature_stats

NAMES = ("pi0", "pi0fast", "gr00t_n1", "gr00t_n1_5")
STATE, GRIPPER, FRONT, WRIST = (
    "observation.state",
    "observation.gripper",
    "observation.images.front",
    "observation.images.wrist",
)
TEXTS = ("push_the block", "open the drawer and put the cup in it")
FEATURES = {
    STATE: Feature(STATE, "state", (5,), "float32"),
    GRIPPER: Feature(GRIPPER, "state", (1,), "float32"),
    FRONT: Feature(FRONT, "image", (40, 48, 3), "uint8"),
    WRIST: Feature(WRIST, "image", (30, 30, 3), "uint8"),
    "task": Feature("task", "text", (), "int64"),
    "action.arm": Feature("action.arm", "action", (4,), "float32"),
    "action.gripper": Feature("action.gripper", "action", (1,), "float32"),
}
STATS = {
    key: feature_stats(0.1, 0.8, -2.0, 2.0, feature.dim)
    for key, feature in FEATURES.items()
    if feature.kind in ("state", "action")
} | {"action": feature_stats(0.1, 0.8, -2.0, 2.0, 4)}


def config_of(name: str, *overrides: str) -> Any:
    """Of the tiny preset, without anything random but what a policy is about."""
    still = ("crop_scale=1.0", "brightness=0.0", "contrast=0.0", "saturation=0.0", "hue=0.0")
    return compose(["data.uri=x", f"policy={name}_tiny", *(f"policy.{one}" for one in still), *overrides]).policy


def policy_of(name: str, *overrides: str, features: dict[str, Feature] = FEATURES) -> Any:
    torch.manual_seed(0)
    policy = make_policy(config_of(name, *overrides), features, STATS)
    policy.set_texts(TEXTS)
    policy.prepare(batch_of(policy, seed) for seed in count())
    return policy


def batch_of(policy: Any, seed: int = 0, size: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, torch.Tensor] = {}
    for key, span in policy.windows.training.items():
        feature, steps = policy.features[key], len(span.deltas)
        if feature.kind == "image":
            made[key] = torch.randint(0, 256, (size, steps, *feature.shape), generator=generator, dtype=torch.uint8)
        elif feature.kind == "text":
            made[key] = torch.randint(0, len(TEXTS), (size, steps), generator=generator)
        else:
            made[key] = torch.rand(size, steps, feature.dim, generator=generator) * 2 - 1
        made[f"{key}_is_pad"] = torch.zeros(size, steps, dtype=torch.bool)
    return made


def seen_of(policy: Any, seed: int = 0, size: int = 3) -> dict[str, torch.Tensor]:
    """What is shown when acting."""
    return {key: value for key, value in batch_of(policy, seed, size).items() if key in policy.reads}
