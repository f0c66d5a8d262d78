"""Which numbers the code makes: versions that its files state, for the keys of what was made with them.

A file that makes numbers has ``NUMERICS = 1`` at its top. Whoever changes a number raises it, and only what uses that
file gets other keys; a new file, a comment or another name changes none. tests/golden/numerics.json holds the files to
it. Nothing is imported here: the statements are read from the sources, so that a plan needs no torch and no simulator.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tendon.config.schema import PolicyConfig
from tendon.plugins import OWN

Numerics = Mapping[str, int | str]  # versions other than 1, by the name of what states them

STATEMENT = "NUMERICS"
TRAINING = ("tendon.data", "tendon.loader", "tendon.policies", "tendon.train")  # what every trial uses
ROLLOUTS = ("tendon.evaluate", "tendon.sim")  # what every rollout uses, beside its simulator and its policy
SHARED_BY_POLICIES = "tendon.policies."  # the only files of tendon that a policy's imports are followed into


def training_numerics(policy: PolicyConfig) -> Numerics:
    """What a trial of this policy is made with."""
    return {**_raised(TRAINING), **module_numerics(*_modules_of(policy))}


def rollout_numerics(policy: PolicyConfig | None = None) -> Numerics:
    """What rolls out a policy, or a scripted expert; the simulator's own are in ``evaluate.sims.sim_numerics``."""
    if policy is None:
        return _raised(ROLLOUTS)
    return {**_raised((*ROLLOUTS, "tendon.policies")), **module_numerics(*_modules_of(policy))}


def statement(file: Path, name: str = STATEMENT) -> Any:
    """The literal that a source file gives a name at its top; None where it gives none."""
    return _read(file).literals.get(name)


def source_digest(files: Sequence[Path]) -> str:
    """What code is known by that states no version: its bytes."""
    whole = hashlib.sha256()
    for file in sorted(files):
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()[:16]


def file_of(module: str) -> Path | None:
    """The source of a module, found without importing it or a package above it."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None:
        return None
    if not rest and spec.origin is not None:
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        place = Path(folder).joinpath(*rest)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def files_used(module: str) -> dict[str, Path]:
    """A module and what it imports, however far, of its own package; of tendon's only what policies share."""
    top = module.partition(".")[0]
    inside = (SHARED_BY_POLICIES,) if top == OWN else (f"{top}.", SHARED_BY_POLICIES)
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in files or not (name == module or f"{name}.".startswith(inside)):
            continue
        file = file_of(name)
        if file is not None:
            files[name] = file
            waiting += _read(file).imports(name, is_package=file.name == "__init__.py")
    return files


def module_numerics(*modules: str) -> Numerics:
    """Of modules and what they use. Code of another package that states no version is known by its bytes."""
    files = {name: file for module in modules for name, file in files_used(module).items()}
    stated = {name: number for name, file in files.items() if (number := statement(file)) is not None}
    numerics: dict[str, int | str] = {name: number for name, number in stated.items() if number != 1}
    for top in {module.partition(".")[0] for module in modules} - {OWN}:
        inside = {name: file for name, file in files.items() if name.partition(".")[0] == top}
        if not inside.keys() & stated.keys():
            numerics[top] = source_digest(list(inside.values()))
    return numerics


def policy_statements(policy: PolicyConfig) -> dict[str, int]:
    """Every version that counts for a policy, by module: its own and those of what it imports."""
    files = {name: file for module in _modules_of(policy) for name, file in files_used(module).items()}
    return {name: number for name, file in files.items() if (number := statement(file)) is not None}


def _modules_of(policy: PolicyConfig) -> tuple[str, str]:
    return type(policy).__module__, policy.model.partition(":")[0]


def _raised(packages: Sequence[str]) -> dict[str, int | str]:
    """Versions of packages other than 1."""
    files = {name: file_of(name) for name in packages}
    stated = {name: statement(file) for name, file in files.items() if file is not None}
    return {name: number for name, number in stated.items() if number is not None and number != 1}


class _Source:
    """What is needed of one file: the literals at its top and the names that it imports."""

    def __init__(self, tree: ast.Module) -> None:
        self.literals: dict[str, Any] = {}
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and STATEMENT in target.id and getattr(node, "value", None) is not None:
                self.literals[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
        kinds = (ast.Import, ast.ImportFrom)
        self.nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]

    def imports(self, module: str, *, is_package: bool) -> Iterator[str]:
        """Names that may be modules: of ``from a import b`` both a and a.b."""
        package = module.split(".") if is_package else module.split(".")[:-1]
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
                continue
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def _read_version(file: Path, changed_ns: int) -> _Source:
    return _Source(ast.parse(file.read_bytes(), str(file)))


def _read(file: Path) -> _Source:
    return _read_version(file, file.stat().st_mtime_ns)
