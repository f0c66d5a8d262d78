"""What a user typed becomes a typed configuration: ``compose(["policy=bc", "env=lift", "training.lr=1e-3"])``.

Groups and defaults lists are Hydra's; keys, types and values are checked against schema.py. Every problem is found
before any is raised, each with the nearest valid name and the line it stands on. Called by plan (once per trial),
train and evaluate.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tendon.config.aliases import translated
from tendon.config.keys import COMMAND_LINE
from tendon.config.override_text import quote, shown
from tendon.config.overrides import Change, apply, parse_overrides
from tendon.config.places import Places
from tendon.config.policies import policy_configs
from tendon.config.resolvers import resolver_problems
from tendon.config.schema import TrainConfig
from tendon.config.tree import ROOT, Composed, choose, compose_tree, search_path
from tendon.config.typed import from_dict, read_tree, to_dict
from tendon.config.yaml_text import dump_yaml, read_yaml
from tendon.errors import ConfigError, Problem, nearest

__all__ = ["compose", "describe", "from_dict", "to_dict", "to_yaml"]


def compose(overrides: Sequence[str], *, config_dir: str | None = None, config_name: str | None = None) -> TrainConfig:
    """The configuration that these overrides describe.

    Args:
        overrides: ``group=option`` and ``key=value`` in Hydra's grammar; of two for the same key the later wins.
        config_dir: a folder of saved configurations, or of files that join the tree (``experiment/mine.yaml``).
        config_name: the file of that folder to start from, without .yaml. One without a defaults list is a saved
            configuration: it is run again as it is, and only single keys can be changed.

    Raises:
        ConfigError: with one Problem for each thing that is wrong.
    """
    folder, name = _start(config_dir, config_name)
    typed, problems = parse_overrides(overrides)
    changes = translated(typed)
    saved = _saved(folder, name)
    wrong_choices: list[Problem] = []
    if saved is not None:
        groups = search_path(None).groups()
        problems += [_no_groups(change) for change in changes if _is_choice(change, groups)]
        composed = saved
    else:
        groups = search_path(folder, name).groups()
        choices, wrong_choices = choose([change for change in changes if _is_choice(change, groups)], groups)
        composed = compose_tree(folder, name, choices)
    keyed = [change for change in changes if not _is_choice(change, groups)]
    policy = None if wrong_choices else _policy_of(composed.values)
    problems += [*composed.problems, *wrong_choices, *apply(keyed, composed.values, composed.places, policy)]
    calls = resolver_problems(composed.values, composed.places)
    if calls:
        raise ConfigError.of(list(dict.fromkeys([*problems, *calls])))
    _resolve(composed.values)
    config, wrong_values = read_tree(composed.values, composed.places)
    # A tree made of the nearest options is only good for judging what was typed.
    problems += [one for one in wrong_values if not wrong_choices or one.where == COMMAND_LINE]
    if problems or config is None:
        raise ConfigError.of(list(dict.fromkeys(problems)))
    return config


def to_yaml(config: TrainConfig) -> str:
    """The whole configuration as YAML, in the order of the schema; ``compose`` and ``from_dict`` read it back equal."""
    return dump_yaml(to_dict(config))


def describe(config: TrainConfig) -> str:
    """The whole configuration for the start of a log: one key per line, written as the override that sets it.

    A key that has no effect beside the others has ``++`` before it.
    """
    idle = {f"policy.{key}" for key in config.policy.without_effect()}
    idle |= {f"training.{key}" for key in config.training.without_effect()}
    rows = [(f"++{key}" if key in idle else key, value) for key, value in _rows(to_dict(config), "")]
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"  {key:<{width}}  {value}" for key, value in rows)


def _rows(tree: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            rows += _rows(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _typed_text(value)))
    return rows


def _typed_text(value: Any) -> str:
    try:
        return quote(value)
    except TypeError:  # a mapping with keys that no override can have
        return shown(value)


def _start(config_dir: str | None, config_name: str | None) -> tuple[Path | None, str]:
    """The folder and the name to start from, when both exist."""
    name = (config_name or ROOT).removesuffix(".yaml")
    if config_dir is None:
        folder = None
    elif "://" in config_dir:
        why, fix = "a configuration is read from a folder of this machine", "copy the file to a folder first"
        raise ConfigError(f"{config_dir} is not a folder", where="--config-dir", why=why, fix=fix)
    else:
        folder = Path(config_dir)
        if not folder.is_dir():
            why = "it is a file" if folder.is_file() else "it does not exist"
            fix = f"--config-dir {folder.parent} --config-name {folder.stem}" if folder.is_file() else "check the path"
            raise ConfigError(f"{config_dir} is not a folder", where="--config-dir", why=why, fix=fix)
    path = search_path(folder, name)
    if path.file(name) is None:
        near = nearest(name, path.roots(), 0.4) or ROOT
        raise ConfigError(
            f"there is no configuration {name}",
            where=f"--config-name {name}",
            why=f"{config_dir or 'conf'} has {', '.join(path.roots())}",
            fix=f"--config-name {near}",
        )
    adds_to_tree = folder is None or any(folder.glob("*/*.yaml")) or (folder / f"{ROOT}.yaml").is_file()
    if config_name is None and not adds_to_tree:
        assert folder is not None
        names = sorted(file.stem for file in folder.glob("*.yaml"))
        why = f"the folder has no groups of files; it has {', '.join(names) or 'no .yaml file'}"
        fix = f"--config-dir {config_dir} --config-name {names[0]}" if names else "check the path"
        raise ConfigError("no configuration is named", where="--config-dir", why=why, fix=fix)
    return folder, name


def _saved(folder: Path | None, name: str) -> Composed | None:
    """A whole configuration from one file, None when the file is the root of a tree."""
    path = folder / f"{name}.yaml" if folder is not None else None
    if path is None or not path.is_file():
        return None
    file = read_yaml(path)
    if isinstance(file.tree, dict) and "defaults" in file.tree:
        return None
    if file.problems and not file.tree:
        raise ConfigError.of(file.problems)
    if not isinstance(file.tree, dict):
        what = f"{name}.yaml is not a configuration"
        raise ConfigError(what, where=str(path), why="it holds no keys", fix="check the path")
    places = Places(str(path))
    places.put_file(str(path), file.marks)
    return Composed(file.tree, places, list(file.problems))


def _is_choice(change: Change, groups: dict[str, list[str]]) -> bool:
    return change.key in groups and not isinstance(change.value, dict)


def _no_groups(change: Change) -> Problem:
    return Problem(
        f"{change.text} cannot be chosen",
        COMMAND_LINE,
        "a saved configuration is whole: there are no groups to choose from",
        f"change single keys ({change.key}.<key>=<value>), or leave --config-dir and --config-name out",
    )


def _policy_of(values: dict[str, Any]) -> str | None:
    section = values.get("policy")
    name = section.get("name") if isinstance(section, dict) else None
    return name if name in policy_configs() else None


def _resolve(values: dict[str, Any]) -> None:
    """Replace ``${...}`` by what it stands for; what cannot be resolved stays, and is a problem when it is read."""
    paths = [path for path, value in _leaves(values, ()) if isinstance(value, str) and "${" in value]
    if not paths:
        return
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    config = OmegaConf.create(values)
    for path in paths:
        node: Any = config
        place: Any = values
        for part in path[:-1]:
            node, place = node[part], place[part]
        with suppress(OmegaConfBaseException):
            resolved = node[path[-1]]
            is_tree = OmegaConf.is_config(resolved)
            place[path[-1]] = OmegaConf.to_container(resolved, resolve=True) if is_tree else resolved


def _leaves(value: Any, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        return [leaf for key, one in value.items() for leaf in _leaves(one, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, one in enumerate(value) for leaf in _leaves(one, (*path, index))]
    return [(path, value)]
