"""The files of a source that is a folder, local or on S3: listed once, read through maps of local files.

A remote file is copied to a scratch folder at its first use; the scratch is bounded, the oldest copies go first.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tendon.data.manifest import digest_of
from tendon.errors import DataError, StorageError
from tendon.storage import Store, open_store
from tendon.storage.store import checked_key
from tendon.storage.trees import download, file_sha256
from tendon.storage.uri import local_path, scheme_of

SCRATCH_BYTES = 8 << 30
LISTED_AT_ONCE = 1000  # by a request
SMALL = 1 << 20  # bytes of a file that is read at once


class SourceFolder:
    """A folder of files by their key, such as ``meta/info.json``. Can be pickled: each process has its own scratch."""

    def __init__(self, uri: str, scratch_bytes: int = SCRATCH_BYTES) -> None:
        self.uri, self.scratch_bytes = uri, scratch_bytes
        self._sizes: dict[str, int] | None = None
        self._etags: dict[str, str] = {}
        self._copies: OrderedDict[str, Path] = OrderedDict()
        self._used: set[str] = set()  # since the last proof

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "scratch_bytes": self.scratch_bytes, "sizes": self._sizes, "etags": self._etags}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["uri"], state["scratch_bytes"])  # type: ignore[misc]
        self._sizes, self._etags = state["sizes"], state["etags"]

    @cached_property
    def is_local(self) -> bool:
        """Whether files are read where they lie."""
        return scheme_of(self.uri) == "file"

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every file by its key, in key order; hidden files are not part of a source."""
        if self._sizes is None:
            self._sizes, self._etags = self._listed()
        return self._sizes

    def _listed(self) -> tuple[dict[str, int], dict[str, str]]:
        try:
            listed = sorted(self._store.list(), key=lambda info: info.key)
        except StorageError as error:
            if not self.is_local:
                raise
            raise DataError.of(error.problems) from error  # a link loop, a file that may not be read
        listed = [info for info in listed if not any(part.startswith(".") for part in info.key.split("/"))]
        if self.is_local:
            self._refuse_pipes([info.key for info in listed])
        return {info.key: info.size for info in listed}, {info.key: info.etag for info in listed}

    def _refuse_pipes(self, keys: list[str]) -> None:
        """Reading a pipe or a device waits, or never ends."""
        odd = [key for key in keys if not (self._root / key).is_file()]
        if odd:
            raise DataError(
                "a file of the dataset is no plain file",
                where=f"{self.uri}/{odd[0]}",
                why=f"it is a pipe, a socket or a device; there {'is' if len(odd) == 1 else 'are'} {len(odd)} such",
                fix="copy the dataset's files again",
            )

    def check_unchanged(self) -> None:
        """Nothing, if every file is still the one that was listed before the digest was taken.

        Raises:
            DataError: a file was written, replaced, added or removed.
        """
        if self._sizes is not None:
            sizes, etags = self._listed()
            self._compare({*sizes, *self._sizes}, {key: (sizes[key], etags[key]) for key in sizes})

    def check_used_unchanged(self) -> None:
        """The same for the files that were used since this was asked last: many thousand others cost nothing.

        Raises:
            DataError: one of them was written, replaced or removed.
        """
        used, self._used = self._used, set()
        if self._sizes is None or not used:
            return
        if not self.is_local and len(used) > len(self._sizes) // LISTED_AT_ONCE:  # a listing asks less often
            self.check_unchanged()
            return
        found = {key: self._store.head(key) for key in used}
        self._compare(used, {key: (each.size, each.etag) for key, each in found.items() if each is not None})

    def _compare(self, keys: set[str], after: Mapping[str, tuple[int, str]]) -> None:
        before = self.sizes
        changed = sorted(k for k in keys if k not in before or (before[k], self._etags[k]) != after.get(k))
        if changed:
            raise DataError(
                "the folder of demonstrations was changed while it was converted",
                where=f"{self.uri}/{changed[0]}",
                why=f"size or time of {len(changed)} files is not what it was when the digest was taken",
                fix="run the same command again, when nobody writes to the folder",
            )

    def read(self, key: str) -> bytes:
        """A small file as a whole."""
        self._check(key)
        return self._store.read(key)

    def path(self, key: str) -> Path:
        """A local file with the bytes of ``key``."""
        self._check(key)
        if self.is_local:
            return self._root / key
        if key in self._copies:
            self._copies.move_to_end(key)
            return self._copies[key]
        while self._copies and sum(self.sizes[each] for each in self._copies) + self.sizes[key] > self.scratch_bytes:
            self._copies.popitem(last=False)[1].unlink()
        target = Path(self._scratch.name) / hashlib.sha256(key.encode()).hexdigest()[:32]
        download(self._store, key, target)
        self._copies[key] = target
        return target

    def view(self, key: str) -> memoryview:
        """The bytes of ``key`` without reading them; they stay valid when the copy is dropped."""
        with open(self.path(key), "rb") as file:
            if not self.sizes[key]:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def digest(self, keys: list[str]) -> str:
        """Changes when the bytes of a file do: by sha256 where files are local, by the store's etags where not."""
        if self.is_local:
            return digest_of({key: self._sha256(key) for key in sorted(keys)})
        return digest_of({key: [self.sizes[key], self._etags[key]] for key in sorted(keys)})

    def _sha256(self, key: str) -> str:
        if self.sizes[key] > SMALL:
            return file_sha256(self.path(key))
        return hashlib.sha256(self.path(key).read_bytes()).hexdigest()

    def _check(self, key: str) -> None:
        self._used.add(key)
        if checked_key(key) not in self.sizes:
            raise DataError(
                "a file of the dataset is missing",
                where=f"{self.uri}/{key}",
                why="the dataset's own tables name it",
                fix="copy the dataset again, or leave out the episodes that are in it with data.skip_episodes",
            )

    @cached_property
    def _root(self) -> Path:
        return local_path(self.uri)

    @cached_property
    def _store(self) -> Store:
        return open_store(self.uri)

    @cached_property
    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="tendon-source-")
