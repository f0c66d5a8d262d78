"""Policies by name: a configuration and the features of a dataset in, a policy out. Called by train and export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

from tendon.config.schema import PolicyConfig
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.policies.base import Policy

Maker = Callable[[PolicyConfig, Mapping[str, int], "Mapping[str, FeatureStats] | None"], Policy]


def _bc(config: PolicyConfig, features: Mapping[str, int], stats: Mapping[str, FeatureStats] | None) -> Policy:
    from tendon.config.schema import BcConfig
    from tendon.policies.bc import Bc

    assert isinstance(config, BcConfig)
    return Bc(config, features, stats)


MAKERS: Mapping[str, Maker] = {"bc": _bc}  # one line and one function per policy: imports stay inside the function


def make_policy(
    config: PolicyConfig, features: Mapping[str, int], stats: Mapping[str, FeatureStats] | None = None
) -> Policy:
    """The policy that ``config.name`` names, weights fresh from torch's global generator.

    Args:
        config: the policy's part of a training configuration.
        features: dimensions of every feature the policy reads or predicts; observations and ``action``.
        stats: numbers for the normalisers, by feature; None when weights are loaded next (they hold them).
    """
    maker = MAKERS.get(config.name)
    if maker is None:
        near = get_close_matches(config.name, MAKERS, n=1)
        raise ConfigError(
            f"there is no policy named {config.name}",
            where="policy.name",
            why=f"the policies are {', '.join(sorted(MAKERS))}",
            fix=f"policy={near[0] if near else min(MAKERS)}",
        )
    return maker(config, features, stats)
