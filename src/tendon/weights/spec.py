"""What lies beside weights and in them: which base they stand on, their hash, their files. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tendon.errors import DataError
from tendon.policies.weight_spec import SHA256, WeightSpec
from tendon.storage.trees import file_sha256

__all__ = [
    "INDEX",
    "SHA256",
    "SPEC_FILE",
    "BaseWeights",
    "SavedWeights",
    "WeightSpec",
    "content_sha256",
    "opened",
    "tensor_files",
]
INDEX = "model.safetensors.index.json"
BESIDE = "tendon"  # the subfolder with what we say of weights in another layout
SPEC_FILE = "weights.json"  # beside model.safetensors, where that holds only what learnt


BaseWeights = Mapping[str, WeightSpec]  # by the module of the policy that they fill


@dataclass(frozen=True)
class SavedWeights:
    """What weights.json says: which base weights belong to a checkpoint or bundle, or that they are merged into it."""

    base: BaseWeights
    merged: bool = False

    def to_json(self) -> str:
        """The text of the file."""
        content = {"base": {prefix: asdict(spec) for prefix, spec in self.base.items()}, "merged": self.merged}
        return json.dumps(content, indent=1) + "\n"

    @staticmethod
    def read(folder: Path) -> SavedWeights | None:
        """What the file in a folder says; None when there is none: model.safetensors is all there is."""
        file = folder / SPEC_FILE
        if not file.is_file():
            return None
        content = json.loads(file.read_text())
        base = {prefix: WeightSpec(**spec) for prefix, spec in content["base"].items()}
        return SavedWeights(base, content["merged"])


def content_sha256(path: Path) -> str:
    """The hash that a ``WeightSpec`` names: of a file its own, of a folder that of its safetensors files and their names."""
    if path.is_file():
        return file_sha256(path)
    whole = hashlib.sha256()
    for file in tensor_files(path):
        whole.update(f"{file.relative_to(path).as_posix()} {file_sha256(file)}\n".encode())
    return whole.hexdigest()


def tensor_files(path: Path) -> list[Path]:
    """The safetensors files of a folder (those that its index names, where it has one), or the file itself.

    What lies in a subfolder ``tendon`` describes the weights and is none of them.

    Raises:
        DataError: the index cannot be read, or names a file that is not there; or there is no file at all.
    """
    if path.is_file():
        return [path]
    index = path / INDEX
    found = [file for file in sorted(path.rglob("*.safetensors")) if BESIDE not in file.relative_to(path).parts[:-1]]
    files = [path / name for name in _indexed(index)] if index.is_file() else found
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise DataError(
            "weights are incomplete" if missing else "there are no weights",
            where=str(path),
            why=f"the index names {', '.join(missing)}" if missing else "the folder has no safetensors file",
            fix="copy the folder again" if missing else "name a folder or a file with safetensors",
        )
    return files


@contextmanager
def opened(file: Path, framework: str, device: str = "cpu") -> Iterator[Any]:
    """A safetensors file, open.

    Raises:
        DataError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework=framework, device=device) as content:
            yield content
    except SafetensorError as error:
        why, fix = str(error).splitlines()[0], "copy it again: it is cut short or damaged"
        raise DataError("a file of weights cannot be read", where=str(file), why=why, fix=fix) from None


def _indexed(index: Path) -> list[str]:
    """The shards that an index names, in order."""
    try:
        places: Any = json.loads(index.read_text())["weight_map"]
        return sorted({str(name) for name in places.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "the index of the weights cannot be read",
            where=str(index),
            why=f"{type(error).__name__}: {error}",
            fix="copy the folder again",
        ) from None
