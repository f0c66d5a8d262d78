"""What a source's bytes are known by: sha256 of files, read once, in parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from tendon.data.manifest import digest_of
from tendon.storage.trees import file_sha256

T = TypeVar("T")


class Meanwhile(Generic[T]):
    """A value that another thread works out while this one goes on: hashing leaves the interpreter free.

    Example:
        ``sha256 = Meanwhile(lambda: file_sha256(path))``, and later ``sha256.result()``
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, name="hash", daemon=True
        )  # nobody waits for it after an error
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        """The value, when it is there; the error that came instead is raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value


def folder_digest(root: Path, names: Sequence[str]) -> tuple[str, int]:
    """Of some files below ``root``, by name; and how many bytes they have."""
    hashes = {name: file_sha256(root / name) for name in sorted(names)}
    return digest_of(hashes), sum((root / name).stat().st_size for name in names)
