"""A policy with its base weights in place: what training, export and the formats build. Called by engine and bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from tendon.config.schema import PolicyConfig
from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.base import Policy, under
from tendon.policies.registry import make_policy
from tendon.weights.kept import fetch_weights
from tendon.weights.load import demand_filled, fill, read_tensors
from tendon.weights.lora import without_adapters
from tendon.weights.spec import BaseWeights


def build_policy(
    config: PolicyConfig,
    features: Mapping[str, Feature],
    stats: Mapping[str, FeatureStats] | None = None,
    *,
    kept_uri: str = "",
    device: torch.device | str = "cpu",
    base: BaseWeights | None = None,
) -> Policy:
    """As ``make_policy``; modules that ``config.base_weights()`` names are filled, straight onto the device.

    Args:
        config: the policy's part of a training configuration.
        features: every feature the policy reads or predicts, by key.
        stats: numbers for the normalisers; None when weights are loaded next.
        kept_uri: where the store keeps weights by their hash (``kept.weights_uri``).
        device: where the base weights go; all else is moved there by the caller.
        base: the base weights that a checkpoint was made with; None: those of the configuration.
    """
    policy = make_policy(config, features, stats)
    specs = config.base_weights() if base is None else base
    still = policy.frozen() if specs else ()
    for name, parameter in policy.named_parameters():  # what learns is held in full precision, so that must be known
        if under(name, still):
            parameter.requires_grad_(False)
    for prefix, spec in specs.items():
        folder = fetch_weights(spec, kept_uri or "outputs/weights")
        published = read_tensors(folder, device, one_by_one=bool(spec.dtype))
        tensors = ((ours, tensor) for name, tensor in published if (ours := policy.base_tensor(name)))
        fill(policy.get_submodule(prefix), tensors, spec.dtype, spec.uri, prefix)
    policy.base_prefixes = tuple(specs)
    demand_filled(policy)
    return policy


def build_merged(
    config: PolicyConfig, features: Mapping[str, Feature], file: Path, where: str, device: torch.device | str = "cpu"
) -> Policy:
    """A policy all of whose weights are in one file, or a folder of shards, adapters merged."""
    with without_adapters():
        policy = make_policy(config, features)
    fill(policy, read_tensors(file, device), "", where)
    demand_filled(policy)
    return policy
