"""A tree of plain values (from YAML, Hydra or a dict) becomes the frozen dataclasses of schema.py, and back.

Generic over the schema: nested sections, tuple[...], Literal, dict[str, Any], ranges, the policy picked by policy.name.
Nothing stops at the first problem: every one is collected, with the place its key came from.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

from tendon.config.keys import fields_of, is_free, is_section, musts, plain, unknown_key
from tendon.config.override_text import quote, shown
from tendon.config.places import Places
from tendon.config.policies import policy_configs
from tendon.config.schema import DATA_DEFAULTS, DataConfig, PolicyConfig, Section, TrainConfig, TrainingConfig
from tendon.errors import ConfigError, Problem, nearest

MISSING = "???"
_BAD: Any = object()


def from_dict(tree: Mapping[str, Any], where: str = "the configuration") -> TrainConfig:
    """The typed configuration of a whole tree; a ConfigError with every problem."""
    config, problems = read_tree(tree, Places(where))
    if config is None:
        raise ConfigError.of(problems)
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """The tree of a configuration: plain values only, lists for tuples, keys in the order of the schema."""
    tree: dict[str, Any] = _plain_values(config)
    return tree


def read_tree(tree: Mapping[str, Any], where: Places) -> tuple[TrainConfig | None, list[Problem]]:
    """The typed configuration, or None and every problem; ``where`` tells the place of a dotted key."""
    reader = ValueReader(where)
    config = reader.section(TrainConfig, tree, "")
    return (None if config is _BAD or reader.problems else config), reader.problems


def words_of(hint: Any) -> str:
    """A type as a user would say it."""
    kind, arguments = get_origin(plain(hint)) or plain(hint), get_args(plain(hint))
    if kind is tuple:
        return f"a list of {words_of(arguments[0]).removeprefix('a ')}s".replace("texts", "names")
    if kind is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if kind in (Union, types.UnionType):
        return " or ".join(words_of(one) for one in arguments)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
    return names.get(kind, "null" if kind is type(None) else "a section of keys")


def example_of(hint: Any) -> str:
    """A value of that type, to show how one is written."""
    for must in musts(hint):
        return must.example
    kind, arguments = get_origin(plain(hint)) or plain(hint), get_args(plain(hint))
    if kind is tuple:
        return f"[{example_of(arguments[0])}]"
    if kind is Literal:
        return str(arguments[0])
    if kind in (Union, types.UnionType):
        return example_of(arguments[0])
    return {int: "8", float: "0.1", bool: "true", str: "TEXT", dict: "{}"}.get(kind, "null")


class ValueReader:
    """Reads one tree and remembers what is wrong with it."""

    def __init__(self, where: Places) -> None:
        self.where = where
        self.problems: list[Problem] = []

    def section(self, cls: type, tree: Any, prefix: str) -> Any:
        """A dataclass of the schema from its part of the tree."""
        name = prefix.rstrip(".")
        if not isinstance(tree, Mapping):
            self._wrong(name, tree, "it holds keys, not one value", f"{name}.<key>=<value>")
            return _BAD
        if cls is PolicyConfig:
            return self._policy(tree, prefix)
        tree = {**cls.absent, **tree} if issubclass(cls, Section) else tree
        hints = fields_of(cls)
        if cls is DataConfig:  # configurations that were saved before these keys existed
            tree = {**DATA_DEFAULTS, **tree}
        policy = str(tree["name"]) if issubclass(cls, PolicyConfig) else None
        for key in tree:
            if key not in hints:
                self.problems.append(unknown_key(f"{prefix}{key}", self.where(f"{prefix}{key}"), policy))
        may_be_absent = {field.name for field in fields(cls) if field.kw_only and field.name not in tree}
        asked = {key: hint for key, hint in hints.items() if key not in may_be_absent}
        values = {key: self._value_at(key, hint, tree, prefix) for key, hint in asked.items()}
        if any(value is _BAD for value in values.values()):
            return _BAD
        made: Section = cls(**values)
        for conflict in made.conflicts():
            place = self.where(f"{prefix}{conflict.key}")
            self.problems.append(Problem(conflict.what, place, conflict.why, conflict.fix))
        if isinstance(made, (PolicyConfig, TrainingConfig)):
            self._no_effect(made, prefix)
        return made

    def _no_effect(self, policy: PolicyConfig | TrainingConfig, prefix: str) -> None:
        """Keys that a person set and that change nothing; those of a file that holds every key are let be."""
        refused = {conflict.key for conflict in policy.conflicts()}
        for key, instead in policy.without_effect().items():
            full = f"{prefix}{key}"
            if full in self.where.chosen and key not in refused:
                whose = f"policy {policy.name}" if isinstance(policy, PolicyConfig) else "this training"
                why = f"no number of {whose} depends on it with these settings"
                fix = f"{instead}, or leave {full} out (++{full}=VALUE keeps it all the same)"
                self.problems.append(Problem(f"{full} has no effect", self.where(full), why, fix))

    def _policy(self, tree: Mapping[str, Any], prefix: str) -> Any:
        name = tree.get("name", MISSING)
        policies = policy_configs()
        if isinstance(name, str) and name in policies:
            return self.section(policies[name], tree, prefix)
        near = nearest(str(name), policies) or next(iter(policies))
        self._wrong(f"{prefix}name", name, f"the policies are {', '.join(policies)}", f"policy={near}")
        return _BAD

    def _value_at(self, key: str, hint: Any, tree: Mapping[str, Any], prefix: str) -> Any:
        full = f"{prefix}{key}"
        value = tree.get(key, MISSING)
        if value == MISSING:
            how = "it has no default" if key in tree else "every key of the schema must be there"
            text = "a section of keys" if is_section(hint) else self.where.comment(full) or words_of(hint)
            fix = f"{full}.<key>=<value>" if is_section(hint) else self._example(hint, full)
            self.problems.append(Problem(f"{full} is missing", self.where(full), f"{how}: {text}", fix))
            return _BAD
        if is_section(hint):
            return self.section(plain(hint), value, f"{full}.")
        return self.value(hint, value, full)

    def value(self, hint: Any, value: Any, key: str) -> Any:
        """One value, converted if its type allows it."""
        if isinstance(value, str) and "${" in value:
            self._wrong(key, value, "nothing resolves this interpolation", self._example(hint, key))
            return _BAD
        kind = plain(hint)
        if get_origin(kind) is tuple:
            made = self._list(hint, get_args(kind)[0], value, key)
        elif get_origin(kind) is Literal:
            made = self._literal(get_args(kind), value, key)
        elif is_free(kind):
            made = self._mapping(value, key)
        else:
            made = _scalar(kind, value)
            if made is _BAD:
                why = f"it takes {words_of(hint)}{_hint_of_mistake(kind, value)}"
                self._wrong(key, value, why, self._example(hint, key))
        if made is not _BAD:
            made = self._held(hint, made, key)
        return made

    def _held(self, hint: Any, made: Any, key: str) -> Any:
        for must in musts(hint):
            if not must.holds(made):
                near = nearest(str(made), must.options, 0.7)
                fix = f"{key}={near}" if near else self._example(hint, key)
                self._wrong(key, made, f"it must be {must.words}", fix)
                return _BAD
        return made

    def _list(self, hint: Any, item: Any, value: Any, key: str) -> Any:
        if isinstance(value, str) or not isinstance(value, Sequence):
            fix = f"{key}={example_of(hint)}" if isinstance(value, Mapping) else f"{key}=[{shown(value)}]"
            self._wrong(key, value, f"it takes {words_of(hint)}", fix)
            return _BAD
        items = tuple(self.value(item, one, f"{key}[{index}]") for index, one in enumerate(value))
        return _BAD if any(one is _BAD for one in items) else items

    def _literal(self, options: tuple[Any, ...], value: Any, key: str) -> Any:
        if any(value == option and type(value) is type(option) for option in options):
            return value
        near = nearest(str(value), [str(one) for one in options]) or str(options[0])
        self._wrong(key, value, f"it is one of {', '.join(map(str, options))}", f"{key}={near}")
        return _BAD

    def _mapping(self, value: Any, key: str) -> Any:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            self._wrong(key, value, "it takes a mapping from names to values", f"{key}={{name: value}}")
            return _BAD
        return {name: self._any(one, f"{key}.{name}") for name, one in value.items()}

    def _any(self, value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, key)
        if isinstance(value, (list, tuple)):
            return [self._any(one, f"{key}[{index}]") for index, one in enumerate(value)]
        plain_value = value is None or isinstance(value, (str, int, float, bool))
        unfit = (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, str) and "${" in value)
        if unfit or not plain_value:
            self._wrong(key, value, "it takes plain values: text, finite numbers, true, false, null, lists", f"{key}=1")
            return _BAD
        return value

    def _example(self, hint: Any, key: str) -> str:
        """How the key is written: with the value that the command line replaced, when there is one."""
        key = key.partition("[")[0]
        before = self.where.before.get(key, MISSING)
        return f"{key}={example_of(hint) if before == MISSING or isinstance(before, Mapping) else quote(before)}"

    def _wrong(self, key: str, value: Any, why: str, fix: str) -> None:
        self.problems.append(Problem(f"{key} is {shown(value)}", self.where(key), why, fix))


def _scalar(kind: Any, value: Any) -> Any:
    """The value as int, float, bool, str or an optional one; 3.0 is an int too: KFP sends every int as a float."""
    if kind is Any:
        return value
    if get_origin(kind) in (Union, types.UnionType):
        return next((made for one in get_args(kind) if (made := _scalar(plain(one), value)) is not _BAD), _BAD)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is type(None):
        return None if value is None else _BAD
    if kind is bool:
        return value if isinstance(value, bool) else _BAD
    if kind is int:
        return int(value) if number and value == int(value) else _BAD
    if kind is float:
        return float(value) if number else _BAD
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # an episode called 12 is written without quotes
    return value if isinstance(value, str) else _BAD


def _hint_of_mistake(kind: Any, value: Any) -> str:
    if kind in (int, float) and isinstance(value, str) and value.strip("'\"").replace(".", "", 1).isdigit():
        return ", without quotes"
    if isinstance(value, float) and not math.isfinite(value):
        return ", and a finite one"
    if kind is int and isinstance(value, float):
        return ", and is never rounded for you"
    return ""


def _plain_values(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain_values(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain_values(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_values(one) for one in value]
    return value
