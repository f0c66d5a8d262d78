"""Names weights that do not learn: by address, revision and content. No torch; a policy's ``config.py`` returns these."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tendon.config.schema import Conflict

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightSpec:
    """Weights as they are published. ``sha256`` is what counts: the address is only asked where no store holds them.

    Example: ``WeightSpec("s3://models/resnet18.safetensors", sha256="5f...")``.
    """

    uri: str  # a file or a folder of safetensors: a path, s3://..., hf://owner/name
    sha256: str  # of the file; of a folder: ``content_sha256``; `tendon weights inspect` prints it
    revision: str = ""  # of hf://, a commit
    format: Literal["safetensors", "torch"] = "safetensors"  # torch: a file with one mapping of names to tensors
    dtype: Literal["float32", "bfloat16", "float16", ""] = ""  # as which it is held; empty: as it is stored

    def conflicts(self, key: str) -> Iterator[Conflict]:
        """What is wrong with it, for ``conflicts`` of a policy's configuration; ``key`` names where it was written."""
        if not SHA256.fullmatch(self.sha256):
            what, why = f"{self.uri} has no sha256", "weights are named by their content, 64 hex digits"
            yield Conflict(key, what, why, f"tendon weights inspect {self.uri}")
        if self.uri.startswith("hf://") and not self.revision:
            what, why = f"{self.uri} has no revision", "a branch moves; a commit does not"
            yield Conflict(key, what, why, "name a commit of the repository")


def renamed(name: str, table: Sequence[tuple[str, str]]) -> str | None:
    """The name by the first pattern of the table that the whole of it fits; None where none does."""
    for pattern, replacement in table:
        fits = re.fullmatch(pattern, name)
        if fits:
            return fits.expand(replacement)
    return None
