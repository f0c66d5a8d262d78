"""The local store with a moment to step in just before a swap, where a race is decided."""

from collections.abc import Callable
from pathlib import Path

from tendon.storage.local import LocalStore


class FolderStore(LocalStore):
    def __init__(self, folder: Path, before_replace: Callable[[], object] = lambda: None) -> None:
        super().__init__(folder)
        self.before_replace = before_replace

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        self.before_replace()
        return super().replace(key, data, etag)
