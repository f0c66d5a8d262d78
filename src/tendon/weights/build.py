"""A policy with its base weights in place: what training, export and the formats build. Called by engine and bundle."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tendon.config.schema import PolicyConfig
from tendon.data.stats import FeatureStats
from tendon.policies.base import Policy, Shape
from tendon.policies.registry import make_policy
from tendon.weights.kept import fetch_weights
from tendon.weights.load import demand_filled, fill


def build_policy(
    config: PolicyConfig,
    features: Mapping[str, Shape],
    stats: Mapping[str, FeatureStats] | None = None,
    *,
    kept_uri: str = "",
    device: torch.device | str = "cpu",
) -> Policy:
    """As ``make_policy``; modules that ``config.base_weights()`` names are filled, straight onto the device.

    Args:
        config: the policy's part of a training configuration.
        features: dimensions of every feature the policy reads or predicts.
        stats: numbers for the normalisers; None when weights are loaded next.
        kept_uri: where the store keeps weights by their hash (``kept.weights_uri``).
        device: where the base weights go; all else is moved there by the caller.
    """
    policy = make_policy(config, features, stats)
    base = config.base_weights()
    for prefix, spec in base.items():
        folder = fetch_weights(spec, kept_uri or "outputs/weights")
        fill(policy, prefix, folder, spec.dtype, device, spec.uri)
    policy.base_prefixes = tuple(base)
    demand_filled(policy)
    return policy
