"""Where the adapter of a simulator is: a file of sim/adapters/, of another installed package, or the user's own.

Its requirements, if it has any, are a list of pinned packages: sim/requirements/<name>.txt for tendon's, a .txt of the
same name beside the adapter for another package's. Nothing of an adapter is imported here. Called by sims.py, guest.py
and those who name what a simulator made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tendon.config.digest import digest
from tendon.config.numerics import Numerics, file_of, module_numerics, source_digest, statement
from tendon.config.schema import EnvConfig
from tendon.errors import ConfigError, MissingDependency, nearest
from tendon.plugins import OWN, Claim, claims

GUEST_FOLDER = Path(__file__).resolve().parent.parent / "sim"
EXPERT_STATEMENT = "EXPERT_NUMERICS"


@dataclass(frozen=True)
class AdapterFile:
    """One adapter, and how a guest is told of it."""

    name: str
    file: Path
    module: str = ""  # empty: a user's own file
    package: str = ""

    @property
    def requirements(self) -> Path:
        """The list of what it is installed with; a file that need not exist."""
        if self.package == OWN:
            return GUEST_FOLDER / "requirements" / f"{self.name}.txt"
        return self.file.with_suffix(".txt")

    @property
    def pins(self) -> tuple[str, ...]:
        """The pinned packages, () when it runs in this interpreter."""
        if not self.module or not self.requirements.is_file():
            return ()
        lines = [line.split("#")[0].strip() for line in self.requirements.read_text().splitlines()]
        return tuple(line for line in lines if line)


def is_file(name: str) -> bool:
    """Whether a simulator's name is the path of a user's own adapter."""
    return name.endswith(".py")


def simulator_claims() -> Mapping[str, Claim]:
    """Which package brings each simulator.

    Raises:
        ConfigError: two packages bring one name.
    """
    names = sorted(path.stem for path in (GUEST_FOLDER / "adapters").glob("[!_]*.py"))
    return claims("simulators", [Claim(name, f"tendon.sim.adapters.{name}", OWN) for name in names])


def is_known(name: str) -> bool:
    """Whether this interpreter can find the simulator's adapter; another image may have more."""
    return Path(name).is_file() if is_file(name) else name in simulator_claims()


def find_adapter(name: str) -> AdapterFile:
    """The adapter of ``env.simulator``.

    Raises:
        ConfigError: there is none of that name, or no such file.
        MissingDependency: the package that brings it has no such file.
    """
    if is_file(name):
        if not Path(name).is_file():
            raise ConfigError(
                "the simulator file does not exist",
                where=f"env.simulator={name}",
                why=f"no file at {name}",
                fix="give its right path",
            )
        return AdapterFile(name, Path(name).resolve())
    claim = simulator_claims().get(name)
    if claim is None:
        known = tuple(simulator_claims())
        near = nearest(name, known)
        raise ConfigError(
            f"no simulator is called {name!r}",
            where="env.simulator",
            why=f"known are {', '.join(known)}, and the path of a .py file with a class Adapter",
            fix=f"env.simulator={near}" if near else f"env.simulator={known[0]}",
        )
    own = GUEST_FOLDER / "adapters" / f"{name}.py"
    file = own if claim.package == OWN else file_of(claim.module)
    if file is None:
        raise MissingDependency(
            f"simulator {name} of package {claim.package} has no file",
            where=f"entry point {claim.value}",
            why=f"there is no module {claim.module}",
            fix=f"mend or remove {claim.package}: pip uninstall {claim.package}",
        )
    return AdapterFile(name, file, claim.module, claim.package)


def sim_numerics(env: EnvConfig, *, expert: bool = False) -> Numerics:
    """What the steps of a simulator are made with, and with ``expert`` the actions of the task's scripted expert.

    A user's own file is known by its bytes, a simulator with an environment of its own by its pinned packages too.
    """
    adapter = find_adapter(env.simulator)
    if not adapter.module:
        return {"file": source_digest([adapter.file])}
    numerics = dict(module_numerics(adapter.module))
    if adapter.pins:
        numerics["packages"] = digest(adapter.pins)
    if env.options.get("perturb"):
        numerics |= module_numerics("tendon.sim.perturbations")
    version = (statement(adapter.file, EXPERT_STATEMENT) or {}).get(env.task, 1)
    return numerics | ({"expert": version} if expert and version != 1 else {})
