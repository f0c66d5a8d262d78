"""A Store over a folder, just enough of it for the champion pointer, with real files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from tendon.storage.store import ObjectInfo


class FolderStore:
    def __init__(self, folder: Path, before_replace: Callable[[], None] = lambda: None) -> None:
        self.uri = str(folder)
        self.folder = folder
        self.before_replace = before_replace

    def read(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def head(self, key: str) -> ObjectInfo | None:
        path = self.folder / key
        if not path.exists():
            return None
        data = path.read_bytes()
        return ObjectInfo(key, len(data), hashlib.sha256(data).hexdigest())

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        self.before_replace()
        info = self.head(key)
        if (info.etag if info else None) != etag:
            return False
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return True
