"""The table of weight formats of other systems: each one recognises its files, reads them, and writes them.

A format is one file with a ``FORMAT``, an object like ``WeightFormat``: in weights/formats, or in another package that
claims an entry point of group ``tendon.weights`` (``name = package.module:FORMAT``). Called by export/foreign.py,
inspect.py and start.py; no format is named anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon.errors import ConfigError, DataError, nearest
from tendon.plugins import OWN, Claim, claims

if TYPE_CHECKING:
    from tendon.policies.base import Policy
    from tendon.policies.spec import PolicySpec

GROUP = "weights"
FOLDER = Path(__file__).resolve().parent / "formats"


@dataclass(frozen=True)
class ForeignPolicy:
    """A policy of another system as one of ours."""

    policy: Policy
    info: PolicySpec
    kept: Mapping[str, Any] = field(default_factory=dict)  # what has no place in a bundle: tensors and plain values
    notes: tuple[str, ...] = ()  # what the user should know


class WeightFormat:
    """One format. Example of an entry point: ``acme = "acme_tendon.weights:FORMAT"``, with ``FORMAT = Acme()``."""

    name: str  # what --format says
    versions: tuple[str, ...] = ()  # layouts that ``write`` knows, as --format NAME-VERSION

    def sniff(self, path: Path) -> bool:
        """Whether a file or folder is of this format; cheap, and never an error."""
        raise NotImplementedError

    def read(self, path: Path) -> ForeignPolicy:
        """The policy that a file holds. Runs no code of the file.

        Raises:
            DataError: it is damaged, or tensors are missing, left over or of another shape.
            ConfigError: the policy needs what tendon does not have.
        """
        raise NotImplementedError

    def write(self, policy: Policy, info: PolicySpec, path: Path, version: str, kept: Mapping[str, Any]) -> None:
        """Write a policy; ``kept`` is what ``read`` kept of the file that it came from, or empty.

        Raises:
            DataError: the other system has no such policy.
        """
        raise NotImplementedError


@cache
def format_claims() -> Mapping[str, Claim]:
    """Which package brings each format; nothing is imported.

    Raises:
        ConfigError: two packages bring one name.
    """
    return claims(GROUP, tuple(_own()))


def weight_format(name: str) -> tuple[WeightFormat, str]:
    """The format and the version that a name says: ``robomimic``, ``robomimic-0.5``; none said: empty, the format chooses.

    Raises:
        ConfigError: there is no such format or version.
    """
    base, _, version = name.partition("-")
    if name in format_claims():
        base, version = name, ""
    if base not in format_claims():
        near = nearest(base, format_claims()) or next(iter(format_claims()))
        why = f"the formats are {', '.join(format_claims())}"
        raise ConfigError(f"there is no weight format {name}", where="--format", why=why, fix=f"--format {near}")
    found: WeightFormat = format_claims()[base].load()
    if version and version not in found.versions:
        why = f"{base} has {', '.join(found.versions) or 'one version only'}"
        fix = f"--format {'-'.join([base, *found.versions[:1]])}"
        raise ConfigError(f"there is no weight format {name}", where="--format", why=why, fix=fix)
    return found, version


def format_of(path: Path) -> WeightFormat:
    """The format that recognises a file.

    Raises:
        DataError: there is no such file, or none does.
    """
    if not path.exists():
        raise DataError("there is no such file", where=str(path), why="no such file", fix="check the path")
    found = recognised(path)
    if found is not None:
        return found
    raise DataError(
        "the format of these weights is not recognised",
        where=str(path),
        why=f"it is none of {', '.join(format_claims())}",
        fix=f"--format {next(iter(format_claims()))}, or install the package that brings its format",
    )


def recognised(path: Path) -> WeightFormat | None:
    """The format that recognises a file or folder; None where none does."""
    formats: Iterator[WeightFormat] = (claim.load() for claim in format_claims().values())
    return next((one for one in formats if one.sniff(path)), None)


def load_plain(file: Any) -> Any:
    """Tensors, plain values and numpy scalars of a torch file; anything else is an error, nothing is called."""
    import numpy as np
    import torch

    scalar = np.core.multiarray.scalar if np.__version__ < "2" else np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    with torch.serialization.safe_globals([np.dtype, scalar, *kinds]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _own() -> Iterator[Claim]:
    """Tendon's, as a source checkout has them: the modules and packages of weights/formats."""
    for path in sorted(FOLDER.iterdir()):
        is_module = path.suffix == ".py" or (path / "__init__.py").is_file()
        if is_module and not path.stem.startswith("_"):
            yield Claim(path.stem, f"{OWN}.{GROUP}.formats.{path.stem}:FORMAT", OWN)
