"""What a source's bytes are known by: sha256 of files, read once, in parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tendon.data.manifest import digest_of
from tendon.storage.trees import file_sha256


def folder_digest(root: Path, names: Sequence[str]) -> tuple[str, int]:
    """Of some files below ``root``, by name; and how many bytes they have."""
    hashes = {name: file_sha256(root / name) for name in sorted(names)}
    return digest_of(hashes), sum((root / name).stat().st_size for name in names)
