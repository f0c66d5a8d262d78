"""Names weights that do not learn: by address, revision and content. No torch; a policy's ``config.py`` returns these."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tendon.config.schema import Conflict
from tendon.storage.trees import file_sha256

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightSpec:
    """Weights as they are published. ``sha256`` is what counts: the address is only asked where no store holds them.

    Example: ``WeightSpec("s3://models/resnet18.safetensors", sha256="5f...")``.
    """

    uri: str  # a file or a folder of safetensors: a path, s3://..., hf://owner/name
    sha256: str  # of the file; of a folder: ``content_sha256``
    revision: str = ""  # of hf://, a commit
    format: Literal["safetensors"] = "safetensors"
    dtype: Literal["float32", "bfloat16", "float16", ""] = ""  # as which it is held; empty: as it is stored

    def conflicts(self, key: str) -> Iterator[Conflict]:
        """What is wrong with it, for ``conflicts`` of a policy's configuration; ``key`` names where it was written."""
        if not SHA256.fullmatch(self.sha256):
            what, why = f"{self.uri} has no sha256", "weights are named by their content, 64 hex digits"
            yield Conflict(key, what, why, f"tendon weights inspect {self.uri}")
        if self.uri.startswith("hf://") and not self.revision:
            what, why = f"{self.uri} has no revision", "a branch moves; a commit does not"
            yield Conflict(key, what, why, "name a commit of the repository")


BaseWeights = Mapping[str, WeightSpec]  # by the module of the policy that they fill


def content_sha256(path: Path) -> str:
    """The hash that a ``WeightSpec`` names: of a file its own, of a folder that of its safetensors files and their names."""
    if path.is_file():
        return file_sha256(path)
    whole = hashlib.sha256()
    for file in tensor_files(path):
        whole.update(f"{file.relative_to(path).as_posix()} {file_sha256(file)}\n".encode())
    return whole.hexdigest()


def tensor_files(path: Path) -> list[Path]:
    """The safetensors files of a folder, or the file itself."""
    return [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
