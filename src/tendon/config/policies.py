"""The policies by name, without importing the layer above: entry points of group ``tendon.policies``, and tendon's own folders.

An entry names the class of a policy's configuration (``policies/<name>/config.py``); torch is imported by nobody here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from tendon.config.schema import PolicyConfig
from tendon.errors import ConfigError
from tendon.plugins import OWN, Claim, claims

GROUP = "policies"
PACKAGE = Path(__file__).resolve().parent.parent / GROUP


@cache
def policy_claims() -> Mapping[str, Claim]:
    """Which package brings each policy.

    Raises:
        ConfigError: two packages bring one name.
    """
    return claims(GROUP, tuple(_own()))


@cache
def policy_configs() -> Mapping[str, type[PolicyConfig]]:
    """Name to the dataclass of its keys, for every policy that is installed; ``bc`` first.

    Raises:
        ConfigError: two packages bring one name, or an entry is no configuration.
        MissingDependency: a package cannot be imported.
    """
    configs: dict[str, type[PolicyConfig]] = {}
    for name, claim in policy_claims().items():
        kind = claim.load()
        if not (isinstance(kind, type) and issubclass(kind, PolicyConfig)):
            raise ConfigError(
                f"{claim.value} configures no policy",
                where=f"entry point tendon.{GROUP} of {claim.package}",
                why="it is no class that derives from tendon.config.schema.PolicyConfig",
                fix=f"{name} = package.config:ConfigClass",
            )
        configs[name] = kind
    return configs


def deciding_keys() -> frozenset[str]:
    """Keys whose values decide which others have an effect, of all policies."""
    return frozenset(f"policy.{key}" for config in policy_configs().values() for key in config.decides)


def _own() -> Iterator[Claim]:
    """Tendon's, as a source checkout has them: the folders with a ``config.py`` whose class names a model."""
    for file in sorted(PACKAGE.glob("*/config.py")):
        module = f"{OWN}.{GROUP}.{file.parent.name}.config"
        kinds = [kind for kind in vars(import_module(module)).values() if isinstance(kind, type)]
        for kind in kinds:
            if kind.__module__ == module and issubclass(kind, PolicyConfig) and kind.model:
                yield Claim(file.parent.name, f"{module}:{kind.__name__}", OWN)
