"""One way to touch bytes that outlive a process: a Store over a folder or an S3 prefix.

Keys are relative, ``/``-separated. Every write is atomic: a reader sees the old object, the new one, or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tendon.errors import ConfigError

Bytes = bytes | memoryview

HIDDEN = ".tendon-"  # names of temporaries, locks, probes and claims; never listed


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing or a HEAD says of one object; ``etag`` changes when the bytes change."""

    key: str
    size: int
    etag: str
    modified: float = field(default=0.0, compare=False)  # seconds since 1970


class Store(Protocol):
    """A prefix of an object store, or a folder that behaves like one."""

    uri: str

    def read(self, key: str) -> bytes:
        """The whole object; a DataError when it does not exist."""

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``; a DataError when the object is shorter."""

    def write(self, key: str, data: Bytes) -> None:
        """Put the object, replacing what was there."""

    def put_file(self, key: str, path: Path) -> None:
        """Put a file, replacing what was there, without holding it in memory."""

    def create(self, key: str, data: bytes) -> bool:
        """Put the object unless one is there; False when one was."""

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        """Compare and swap: put only if the object still has ``etag`` (None: does not exist); False when it has not."""

    def head(self, key: str) -> ObjectInfo | None:
        """What is known of the object, None when it does not exist."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object under ``prefix``, in key order, however many."""

    def delete(self, key: str) -> None:
        """Remove the object; no error when it is gone already."""

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Hidden objects that killed processes left; no listing shows them."""

    def sweep(self, key: str) -> None:
        """Delete a leftover."""

    def at(self, prefix: str) -> Store:
        """The same store, rooted deeper."""


def checked_key(key: str) -> str:
    """``key`` itself, or a ConfigError when it would leave the store or has no name."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\0" in key:
        raise ConfigError(
            "a storage key is not allowed",
            where=repr(key),
            why="a key is relative, has no empty part and never goes up with '..'",
            fix="use names joined by single slashes, such as shards/000001.tar",
        )
    return key
