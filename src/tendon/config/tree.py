"""The Hydra tree conf/ (and a folder of the user's before it): groups, options, and the chosen files composed.

Hydra does the composing (defaults lists, packages, override); this file adds what it lacks: all wrong choices at once,
and the file and line of every key.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tendon.config.keys import COMMAND_LINE
from tendon.config.override_text import quote
from tendon.config.overrides import Change
from tendon.config.places import Places
from tendon.config.resolvers import TOO_LARGE, resolver_problems
from tendon.config.yaml_text import YamlFile, read_yaml
from tendon.errors import ConfigError, Problem, nearest
from tendon.plugins import config_folders

CONF = Path(__file__).resolve().parent.parent / "conf"
ROOT = "train"
_HYDRA_IS_GLOBAL = threading.Lock()
_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)


@dataclass
class Composed:
    """A tree of plain values and the place of each key."""

    values: dict[str, Any]
    places: Places
    problems: list[Problem] = field(default_factory=list)

    def copy(self) -> Composed:
        """One that can be changed."""
        return Composed(copy.deepcopy(self.values), self.places.copy(), list(self.problems))


@dataclass(frozen=True)
class SearchPath:
    """The folders of a tree; the first has the root, and of two files with one name the first counts."""

    folders: tuple[Path, ...]

    def groups(self) -> dict[str, list[str]]:
        """Group to the options it has."""
        found: dict[str, set[str]] = {}
        for folder in self.folders:
            for file in folder.glob("*/[!_]*.yaml"):  # _name.yaml: shared by a family, in no list of options
                found.setdefault(file.parent.name, set()).add(file.stem)
        return {group: sorted(found[group]) for group in sorted(found)}

    def roots(self) -> list[str]:
        """The names that can stand at the root of a composition."""
        return sorted({file.stem for folder in self.folders for file in folder.glob("*.yaml")})

    def hidden(self) -> list[Path]:
        """Files of the user's that tendon's own hide."""
        _, *others = self.folders
        return [
            file for folder in others if folder != CONF for file in sorted(folder.glob("*/*.yaml")) if self._hides(file)
        ]

    def _hides(self, file: Path) -> bool:
        """Whether a folder before the file's own has one of that name."""
        before = self.folders[: self.folders.index(file.parent.parent)]
        return any((folder / file.parent.name / file.name).is_file() for folder in before)

    def file(self, name: str) -> Path | None:
        """The first folder's file of that name."""
        return next((path for folder in self.folders if (path := folder / f"{name}.yaml").is_file()), None)


def search_path(config_dir: Path | None, root: str = ROOT) -> SearchPath:
    """Tendon's own tree, those of installed packages, and the user's folder before them (when that has the root) or behind."""
    packages = tuple(folder for _, folder in config_folders())
    if config_dir is None:
        return SearchPath((CONF, *packages))
    owns_root = (config_dir / f"{root}.yaml").is_file()
    return SearchPath((config_dir, CONF, *packages) if owns_root else (CONF, *packages, config_dir))


def label(path: Path) -> str:
    """How a message calls a file: conf/... for our own, with its package before it for another's, its path otherwise."""
    if path.is_relative_to(CONF):
        return f"conf/{path.relative_to(CONF).as_posix()}"
    for package, folder in config_folders():
        if path.is_relative_to(folder):
            return f"{package}: conf/{path.relative_to(folder).as_posix()}"
    return str(path)


def choose(changes: Sequence[Change], groups: Mapping[str, list[str]]) -> tuple[dict[str, str], list[Problem]]:
    """Group to option; a wrong option is a problem and its nearest is taken, so that other problems can be found."""
    choices: dict[str, str] = {}
    problems = []
    for change in changes:
        group, options = change.key, groups[change.key]
        option = "null" if change.value is None else str(change.value)
        if change.kind != "set":
            why = f"{group} is a group of files: it is neither appended nor removed, one of its options is chosen"
            fix = change.text.lstrip("+") if change.kind == "add" else f"{group}={options[0]}"
            problems.append(Problem(f"{change.text} cannot be", COMMAND_LINE, why, fix))
        elif option in options:
            choices[group] = option  # the last one wins
        elif group == "experiment" and change.value is None:
            choices.pop(group, None)
        else:
            near = nearest(option, options, 0.5)
            why = f"the options are {', '.join(options)}"
            fix = f"{group}={near} (the nearest)" if near else " or ".join(f"{group}={one}" for one in options)
            problems.append(Problem(f"unknown {group} {option!r}", COMMAND_LINE, why, fix))
            if near:
                choices[group] = near
    return choices, problems


def compose_tree(config_dir: Path | None, root: str, choices: Mapping[str, str]) -> Composed:
    """The files of the chosen options, merged by Hydra."""
    chosen = tuple(sorted(choices.items()))
    if config_dir is None:
        return _compose_own(root, chosen).copy()
    path = search_path(config_dir, root)
    _refuse_hidden(path)
    _refuse_unread(config_dir)
    return _compose(path, root, chosen)


def _refuse_unread(config_dir: Path) -> None:
    """Files of the user's that Hydra must not read: it would run their resolvers and write out their aliases."""
    problems: list[Problem] = []
    for path in sorted([*config_dir.glob("*.yaml"), *config_dir.glob("*/*.yaml")]):
        file = read_yaml(path, label(path))
        too_large = [one for one in file.problems if one.what == TOO_LARGE]
        problems += too_large + resolver_problems(file.tree, lambda key, file=file: _place(file, key))  # type: ignore[misc]
    if problems:
        raise ConfigError.of(problems)


def _place(file: YamlFile, key: str) -> str:
    mark = file.marks.get(key.partition("[")[0])
    return f"{label(file.path)}:{mark.line}" if mark else label(file.path)


def _refuse_hidden(path: SearchPath) -> None:
    """Two files of one name: the user's and ours, or those of two packages."""
    packages = {folder: package for package, folder in config_folders()}
    problems = []
    for file in path.hidden():
        package = packages.get(file.parent.parent)
        owners = [
            packages.get(folder, "tendon")
            for folder in path.folders
            if (folder / file.parent.name / file.name).is_file()
        ]
        why = f"{owners[0]} has one of that name, and it would be taken"
        fix = f"pip uninstall {package}" if package else f"rename yours, e.g. {file.parent.name}/my_{file.name}"
        named = f" of {package}" if package else ""
        problems.append(Problem(f"{file.parent.name}={file.stem}{named} means two files", str(file), why, fix))
    if problems:
        raise ConfigError.of(problems)


@cache
def _compose_own(root: str, chosen: tuple[tuple[str, str], ...]) -> Composed:
    _refuse_hidden(search_path(None))
    return _compose(search_path(None), root, chosen)


def _compose(path: SearchPath, root: str, chosen: tuple[tuple[str, str], ...]) -> Composed:
    import yaml
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    first, *others = path.folders
    overrides = [f"{group}={quote(option)}" for group, option in chosen]
    if others:
        overrides.append(f"hydra.searchpath={quote([f'file://{one}' for one in others])}")
    try:
        with _HYDRA_IS_GLOBAL, initialize_config_dir(str(first.resolve()), version_base="1.3"):
            made = compose(root, overrides=overrides, return_hydra_config=True)
            options = {str(group): str(option) for group, option in made.hydra.runtime.choices.items()}
            values = OmegaConf.to_container(OmegaConf.masked_copy(made, [str(key) for key in made if key != "hydra"]))
    except RecursionError:
        named = ValueError("a defaults list leads back to the file that it stands in")
        raise ConfigError.of(_broken_tree(path, root, named)) from None
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise ConfigError.of(_broken_tree(path, root, error)) from None
    assert isinstance(values, dict)
    places = Places(label(path.file(root) or first))
    problems: list[Problem] = []
    for prefix, file in _files(path, root, options):
        # an experiment's keys are a person's choice, unless another policy than the experiment's was asked for
        wanted = file.path.parent.name == "experiment" and "policy" not in dict(chosen)
        places.put_file(label(file.path), file.marks, prefix, chosen=wanted)
        problems += file.problems
    return Composed({str(key): value for key, value in values.items()}, places, problems)


def _broken_tree(path: SearchPath, root: str, error: Exception) -> list[Problem]:
    """Why Hydra could not compose: the files that are not YAML, else its own words."""
    unreadable = [
        problem
        for folder in path.folders
        if folder != CONF
        for file in sorted([*folder.glob("*.yaml"), *folder.glob("*/*.yaml")])
        for problem in read_yaml(file, label(file)).problems
    ]
    if unreadable:
        return unreadable
    why = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    place = label(path.file(root) or path.folders[0])
    return [Problem("the configuration tree does not compose", place, why, "mend the defaults list that names it")]


def _files(path: SearchPath, name: str, options: Mapping[str, str]) -> Iterator[tuple[str, YamlFile]]:
    """The files of a composition with the prefix of their keys, later ones winning."""
    found = path.file(name)
    if found is None:
        return
    file = read_yaml(found, label(found))
    tree = file.tree if isinstance(file.tree, dict) else {}
    package = _PACKAGE.search("\n".join(file.lines[:5]))
    group = name.rpartition("/")[0]
    prefix = "" if (package and package[1] == "_global_") or not group else f"{group.replace('/', '.')}."
    entries = tree.get("defaults") or []
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        if entry == "_self_":
            yield prefix, file
        elif isinstance(entry, str):
            yield from _files(path, entry.removeprefix("optional ").strip("/"), options)
        elif isinstance(entry, dict):
            for key, option in entry.items():
                words = str(key).split()
                if "override" not in words:
                    chosen = options.get(words[-1].strip("/"), option)
                    yield from _files(path, f"{words[-1].strip('/')}/{chosen}", options)
