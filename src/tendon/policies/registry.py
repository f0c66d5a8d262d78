"""Policies by name: a configuration and the features of a dataset in, a policy out. Called by train and export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tendon.config.schema import PolicyConfig
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, nearest
from tendon.policies.base import Policy, Shape

Maker = Callable[[Any, Mapping[str, Shape], "Mapping[str, FeatureStats] | None"], Policy]
Stats = Mapping[str, FeatureStats] | None


def _bc(config: Any, features: Mapping[str, Shape], stats: Stats) -> Policy:
    from tendon.policies.bc import Bc

    return Bc(config, features, stats)


def _bc_vae(config: Any, features: Mapping[str, Shape], stats: Stats) -> Policy:
    from tendon.policies.bc_vae import BcVae

    return BcVae(config, features, stats)


def _bc_rnn(config: Any, features: Mapping[str, Shape], stats: Stats) -> Policy:
    from tendon.policies.bc_rnn import BcRnn

    return BcRnn(config, features, stats)


def _bc_transformer(config: Any, features: Mapping[str, Shape], stats: Stats) -> Policy:
    from tendon.policies.bc_transformer import BcTransformer

    return BcTransformer(config, features, stats)


# One line and one function per policy: imports stay inside the function.
MAKERS: Mapping[str, Maker] = {"bc": _bc, "bc_vae": _bc_vae, "bc_rnn": _bc_rnn, "bc_transformer": _bc_transformer}


def make_policy(
    config: PolicyConfig, features: Mapping[str, Shape], stats: Mapping[str, FeatureStats] | None = None
) -> Policy:
    """The policy that ``config.name`` names, weights fresh from torch's global generator.

    Args:
        config: the policy's part of a training configuration.
        features: dimensions of every feature the policy reads or predicts; observations and ``action``.
        stats: numbers for the normalisers, by feature; None when weights are loaded next (they hold them).
    """
    maker = MAKERS.get(config.name)
    if maker is None:
        near = nearest(config.name, MAKERS)
        raise ConfigError(
            f"there is no policy named {config.name}",
            where="policy.name",
            why=f"the policies are {', '.join(sorted(MAKERS))}",
            fix=f"policy={near or min(MAKERS)}",
        )
    return maker(config, features, stats)
