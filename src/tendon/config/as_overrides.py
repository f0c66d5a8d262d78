"""A configuration that uses a folder of the user's, said in overrides alone: the steps of a pipeline have no such folder.

``tendon run --config-dir lab`` with an experiment of that folder becomes ``policy=bc env.simulator=... training.lr=...``: what differs from
the files of tendon and of installed packages. Composing the result must give the same configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from tendon.config.compose import compose, to_dict
from tendon.config.override_text import quote
from tendon.config.schema import ONLINE_SETTINGS, Section
from tendon.config.tree import search_path
from tendon.errors import ConfigError

UNUSED = "data.uri=unused"  # the run says which dataset it is


def as_overrides(overrides: Sequence[str], config_dir: str, config_name: str | None = None) -> list[str]:
    """What gives the same configuration without the folder.

    Raises:
        ConfigError: the configuration itself is wrong, or nothing but the folder can say it.

    Example: ``as_overrides(["experiment=reach_bc"], "lab")``.
    """
    wanted = compose([UNUSED, *overrides], config_dir=config_dir, config_name=config_name)
    policies = search_path(None).groups()["policy"]
    if wanted.policy.name not in policies:
        raise ConfigError(
            f"policy {wanted.policy.name} has no file of its own",
            where=f"--config-dir {config_dir}",
            why=f"the steps of a run begin with conf/policy/{wanted.policy.name}.yaml, and there are {', '.join(policies)}",
            fix=f"add conf/policy/{wanted.policy.name}.yaml to the package that brings the policy",
        )
    begun = [f"policy={wanted.policy.name}"]
    steps = [f"training.offline_steps={wanted.training.offline_steps}"]
    if wanted.training.online_steps:  # one cannot be said without the other
        online = ("online_steps", *ONLINE_SETTINGS)
        steps += [f"training.{key}={quote(getattr(wanted.training, key))}" for key in online]
    base = compose([UNUSED, *begun, *steps])
    idle = {f"policy.{key}" for key in wanted.policy.without_effect()}
    idle |= {f"training.{key}" for key in wanted.training.without_effect()}
    changes = [
        f"++{change}" if change.partition("=")[0] in idle else change
        for change in _changes(base, wanted, to_dict(base))
    ]
    words = [*begun, *steps, *changes]
    words = [word for word in words if word.partition("=")[0] != "data.uri"]
    if compose([UNUSED, *words]) != wanted:
        raise ConfigError(
            "this configuration cannot be said without its folder",
            where=f"--config-dir {config_dir}",
            why="composed again without it, it is another one",
            fix="bring it as an installed package with a folder conf/, or write its keys as KEY=VALUE",
        )
    return words


def _changes(base: Section, wanted: Section, tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The overrides that make one configuration of the other; mappings that take any key are joined, so names are removed."""
    values = to_dict(wanted)
    for field in fields(base):  # type: ignore[arg-type]
        name, key = field.name, f"{prefix}{field.name}"
        before, after = getattr(base, name), getattr(wanted, name)
        if isinstance(before, Section):
            yield from _changes(before, after, tree[name], f"{key}.")
        elif before == after or key in ("policy.name", "training.offline_steps"):
            continue
        elif isinstance(before, dict):
            yield from (f"~{key}.{gone}" for gone in before if gone not in after)
            changed = {one: value for one, value in values[name].items() if tree[name].get(one) != value}
            yield from (f"++{key}.{one}={quote(value)}" for one, value in changed.items())
        else:
            yield f"{key}={quote(values[name])}"
