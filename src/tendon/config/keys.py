"""Which keys a configuration has, asked of the schema: types, the nearest valid key, what to say of a wrong one.

Used by overrides.py (before a value is set), typed.py (while a tree is read) and sweep.py (is it a whole number?).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from tendon.config.policies import policy_configs
from tendon.config.schema import Must, PolicyConfig, TrainConfig
from tendon.errors import Problem

COMMAND_LINE = "command line"

# What other systems call a key of ours; the rest is found by spelling.
RENAMED = {
    "training.save_model": "training.save_checkpoint",
    "training.learning_rate": "training.lr",
    "training.num_epochs": "training.offline_steps",
    "dataset_repo_id": "data.uri",
    "train.data": "data.uri",
    "train.batch_size": "training.batch_size",
    "train.seed": "seed",
}


def plain(hint: Any) -> Any:
    """The type itself, without what it must hold."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def musts(hint: Any) -> tuple[Must, ...]:
    """What a value of this type must hold."""
    return tuple(note for note in get_args(hint)[1:] if isinstance(note, Must)) if get_origin(hint) is Annotated else ()


@cache
def fields_of(section: type) -> dict[str, Any]:
    """Key to type of one section, in the order of the schema."""
    hints = get_type_hints(section, include_extras=True)
    return {field.name: hints[field.name] for field in (fields(section) if is_dataclass(section) else ())}


def hint_of(key: str, policy: str | None = None) -> Any | None:
    """The type of a dotted key, None when there is none; without a policy, a key of any policy counts."""
    if key.startswith("policy.") and policy is None:
        found = [hint_of(key, name) for name in policy_configs()]
        return next((one for one in found if one is not None), None)
    hint: Any = TrainConfig
    for part in key.split("."):
        hint = plain(hint)
        if hint is PolicyConfig:
            hint = policy_configs()[policy or next(iter(policy_configs()))]
        if is_free(hint):
            return Any
        if not (isinstance(hint, type) and is_dataclass(hint)):
            return None
        hint = fields_of(hint).get(part)
        if hint is None:
            return None
    return hint


def is_section(hint: Any) -> bool:
    """Whether a key holds keys."""
    return is_dataclass(plain(hint))


def is_free(hint: Any) -> bool:
    """Whether a key is a mapping that takes any key."""
    return get_origin(plain(hint)) is dict


def all_keys(policy: str | None = None) -> tuple[str, ...]:
    """Every dotted key that can be set in a configuration with this policy (with any policy, without one)."""
    known = policy_configs()
    policies = [known[policy]] if policy is not None and policy in known else list(known.values())
    keys = dict.fromkeys(key for one in policies for key in _keys(TrainConfig, one, ""))
    return tuple(key for key in keys if key != "policy.name")  # chosen by the group policy, never set


def _keys(section: type, policy: type[PolicyConfig], prefix: str) -> Iterator[str]:
    for name, hint in fields_of(section).items():
        if is_section(hint):
            inner = policy if plain(hint) is PolicyConfig else plain(hint)
            yield from _keys(inner, policy, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def nearest(word: str, options: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The option that is spelled most like the word."""
    found = difflib.get_close_matches(word.lower(), list(options), n=1, cutoff=cutoff)
    return found[0] if found else None


def nearest_keys(key: str, policy: str | None) -> list[str]:
    """The valid keys that a wrong one may have meant, best first."""
    valid = all_keys(policy)
    if key in RENAMED:
        return [RENAMED[key]]
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [other for other in valid if other.rsplit(".", 1)[-1] == leaf]
    if same_leaf:
        return same_leaf[:3]
    section = key.rpartition(".")[0]
    siblings = {other.rsplit(".", 1)[-1]: other for other in valid if other.rpartition(".")[0] == section}
    leaves = {other.rsplit(".", 1)[-1]: other for other in valid}
    sibling = nearest(leaf, siblings)
    if sibling:
        return [siblings[sibling]]
    holding = [other for name, other in siblings.items() if len(leaf) > 3 and leaf in name]
    if holding:
        return holding[:2]
    found = nearest(key, valid, 0.8) or leaves.get(nearest(leaf, leaves, 0.75) or "")
    return [found] if found else []


def unknown_key(key: str, where: str, policy: str | None, value: str = "") -> Problem:
    """What to say of a key that the schema does not have."""
    owners = (
        []
        if policy is None
        else [name for name in policy_configs() if name != policy and hint_of(key, name) is not None]
    )
    if owners:
        return Problem(
            f"{key} is not a key of policy {policy}",
            where,
            f"it belongs to policy {', '.join(owners)}",
            f"policy={owners[0]}, or leave {key} out (~{key} drops it)",
        )
    section, _, leaf = key.rpartition(".")
    hint = hint_of(section, policy) if section else TrainConfig
    start = f"{section}." if section else ""
    siblings = [other.removeprefix(start).split(".")[0] for other in all_keys(policy) if other.startswith(start)]
    if hint is not None and not is_section(hint):
        why, siblings = f"{section} is a value, not a section of keys", []
    elif hint is None:
        why, siblings = f"there is no section {section}", list(fields_of(TrainConfig))
    else:
        why = f"{section or 'the root'} has no key {leaf}"
    found = nearest_keys(key, policy)
    if found:
        text = f"={value}" if value else ""
        fix = " or ".join(f"{one}{text}" for one in found) + " (the nearest valid key)"
    else:
        fix = f"leave it out; there are {', '.join(dict.fromkeys(siblings))}" if siblings else "leave it out"
    return Problem(f"unknown key {key}", where, why, fix)
