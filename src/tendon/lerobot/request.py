"""What a LeRobot command asks for, in our words: filled by page.py and today.py, carried out by command.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from tendon.config.override_text import quote, shown
from tendon.config.policies import policy_configs
from tendon.config.schema import ONLINE_SETTINGS
from tendon.errors import Problem, nearest

SWITCH = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
    "": False,
}
Shape = tuple[int, ...]  # of one step, channels last


@dataclass
class Request:
    """Overrides of ours, a dataset by name, a folder; and what there was to say of each key."""

    choices: dict[str, str] = field(default_factory=dict)  # policy, env
    overrides: dict[str, str] = field(default_factory=dict)  # key of ours to the whole override
    repo_ids: tuple[str, ...] = ()
    root: str = ""  # of datasets, or a dataset itself
    episodes: tuple[int, ...] | None = None  # numbers of those that are trained on
    run_dir: str = ""
    resume: bool = False
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    declared: Mapping[str, Shape] | None = None  # what the policy's file says that it reads and writes
    deltas: dict[str, Any] = field(default_factory=dict)  # feature to a list of seconds, or to a text that makes one
    statistics: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    observations: tuple[str, ...] | None = None  # None: as the env says; (): every one that the dataset has
    imagenet: bool | None = None  # None: as the policy says

    def set(self, key: str, value: Any) -> None:
        """One of our keys. A policy's key, and one of an online phase, may be without effect, as it may in LeRobot."""
        prefix = "++" if key.startswith("policy.") or key.removeprefix("training.") in ONLINE_SETTINGS else ""
        self.overrides[key] = f"{prefix}{key}={quote(value)}"

    def note(self, text: str) -> None:
        """What the user should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def refuse(self, key: str, value: Any, why: str, fix: str) -> None:
        """A key that cannot be kept."""
        self.problems.append(Problem(f"{key} is {shown(value)}", "command line or configuration", why, fix))

    def words(self) -> list[str]:
        """Every override, choices first."""
        return [*(f"{group}={option}" for group, option in self.choices.items()), *self.overrides.values()]


def policy_keys(name: str) -> set[str]:
    """The keys of ours that a policy of LeRobot's may set: those that both have."""
    own = ("name", "init_from", "statistics", "mean_over_valid")
    return {one.name for one in fields(policy_configs()[name]) if one.name not in own}


def unknown_key(key: str, known: Sequence[str], text: str) -> Problem:
    """A key that neither LeRobot nor we have."""
    near = nearest(key, known, 0.6)
    why = "it is no key of LeRobot's" + (f"; the nearest is {near}" if near else "")
    fix = f"{near}=<value>" if near else f"leave {text} out"
    return Problem(f"unknown key {key}", "command line or configuration", why, fix)


def truth(value: Any) -> bool:
    """A switch, as YAML, JSON or a flag has it.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        return bool(value)
    if value.lower() not in SWITCH:
        raise ValueError("it is a switch: true or false")
    return SWITCH[value.lower()]


def numbers_of(value: Any) -> list[float]:
    """Nested lists of numbers, flat: LeRobot writes those of cameras as (c, 1, 1)."""
    if isinstance(value, (list, tuple)):
        return [number for one in value for number in numbers_of(one)]
    return [float(value)]
