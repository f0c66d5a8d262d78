"""Policies by name: a configuration and the features of a dataset in, a policy out. Called by train, export and weights."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from tendon.config.policies import policy_claims
from tendon.config.schema import PolicyConfig
from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.plugins import Claim
from tendon.policies.base import Policy


def make_policy(
    config: PolicyConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None = None
) -> Policy:
    """The policy that ``config`` configures, weights fresh from torch's global generator.

    Args:
        config: the policy's part of a training configuration; it names its module.
        features: every feature the policy reads or predicts, by key.
        stats: numbers for the normalisers, by feature; None when weights are loaded next (they hold them).
    """
    claim = policy_claims().get(config.name)
    if claim is None or not config.model:
        near = get_close_matches(config.name, policy_claims(), n=1)
        known = f"the policies are {', '.join(policy_claims())}"
        raise ConfigError(
            f"there is no policy named {config.name}" if claim is None else f"policy {config.name} cannot be built",
            where="policy.name",
            why=known if claim is None else f"{type(config).__name__} names no model",
            fix=f"policy={near[0] if near else next(iter(policy_claims()))}",
        )
    policy: Policy = Claim(config.name, config.model, claim.package).load()(config, features, stats)
    return policy
