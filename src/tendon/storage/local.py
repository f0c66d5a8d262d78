"""A folder that behaves like an object store: atomic writes, create-once, compare-and-swap.

Called through ``open_store``. Every write goes to a hidden temporary name in the same folder, is synced, and renamed or
linked into place. A killed process may leave such a temporary; no listing shows it, ``leftovers`` does.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import time_ns
from typing import BinaryIO, TypeVar, cast

from tendon.errors import DataError, StorageError, TendonError
from tendon.storage.store import HIDDEN, Bytes, ObjectInfo, checked_key

FULL = {errno.ENOSPC, errno.EDQUOT}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
ABSENT = {errno.ENOENT, errno.ENOTDIR}
TEMPORARY = re.compile(re.escape(HIDDEN) + "[0-9a-f]{32}")
MAX_ATTEMPTS = 100
T = TypeVar("T")
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class LocalStore:
    """A Store over a folder, which need not exist before the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)

    def at(self, prefix: str) -> LocalStore:
        """The same store, rooted deeper."""
        return LocalStore(self._path(prefix.strip("/"))) if prefix.strip("/") else self

    def read(self, key: str) -> bytes:
        """The whole object; a DataError when it does not exist."""
        path = self._path(key)
        with _named(path, "read"), open(path, "rb") as file:
            return file.read()

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``; a DataError when the object is shorter."""
        path = self._path(key)
        with _named(path, "read"), open(path, "rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, start)
            while len(data) < length and (more := os.pread(file.fileno(), length - len(data), start + len(data))):
                data += more
        if len(data) < length:
            raise too_short(str(path), start, length, start + len(data))
        return data

    def write(self, key: str, data: Bytes) -> None:
        """Put the object, replacing what was there."""
        path = self._path(key)
        with _named(path, "write"), _temporary(path, data) as temporary:
            os.replace(temporary, path)
            _sync_folder(path.parent)

    def put_file(self, key: str, path: Path) -> None:
        """Put a file, replacing what was there, without holding it in memory."""
        target = self._path(key)
        with reading(path) as source, _named(target, "write"), _temporary(target, source) as temporary:
            os.replace(temporary, target)
            _sync_folder(target.parent)

    def create(self, key: str, data: bytes) -> bool:
        """Put the object unless one is there; False when one was."""
        path = self._path(key)
        if self.head(key) is not None:
            return False
        with _named(path, "write"), _temporary(path, data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                with _lock(path):  # a file system without hard links
                    if path.exists():
                        return False
                    os.replace(temporary, path)
            _sync_folder(path.parent)
        return True

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        """Compare and swap: put only if the object still has ``etag`` (None: does not exist); False when it has not."""
        if etag is None:
            return self.create(key, data)
        path = self._path(key)
        with _named(path, "write"), _lock(path):
            there = self.head(key)
            if there is None or there.etag != etag:
                return False
            self.write(key, data)
        return True

    def link(self, key: str, target: str) -> None:
        """Make ``key`` another name of ``target``, which lies in the same folder; a listing does not follow it."""
        path = self._path(key)
        with _named(path, "write"):
            temporary = path.with_name(f"{HIDDEN}{uuid.uuid4().hex}")
            _in_folder(path.parent, partial(os.symlink, target, temporary, target_is_directory=True))
            try:
                os.replace(temporary, path)
            except OSError:
                temporary.unlink()
                raise
            _sync_folder(path.parent)

    def head(self, key: str) -> ObjectInfo | None:
        """What is known of the object, None when it does not exist."""
        path = self._path(key)
        with _named(path, "read"):
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _info(key, status) if stat.S_ISREG(status.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object under ``prefix``, in key order, however many."""
        start = self.root / prefix.rpartition("/")[0]
        found: list[ObjectInfo] = []
        with _named(start, "read"):
            for folder, _, names in os.walk(start, onerror=_reraise):
                base = Path(folder).relative_to(self.root).as_posix()
                for name in names:
                    key = name if base == "." else f"{base}/{name}"
                    if key.startswith(prefix) and not name.startswith(HIDDEN):
                        with suppress(FileNotFoundError):  # deleted while we walk
                            status = os.stat(os.path.join(folder, name))
                            found.append(_info(key, status))
        yield from sorted(found, key=lambda info: info.key)

    def delete(self, key: str) -> None:
        """Remove the object, and the folders that are empty then; no error when it is gone already."""
        path = self._path(key)
        with _named(path, "delete"), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            with suppress(OSError):  # something is in it
                for folder in path.parents[: len(path.parents) - len(self.root.parents) - 1]:
                    folder.rmdir()

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Temporaries of writers that were killed: nobody holds their locks."""
        for folder, _, names in os.walk(self.root):
            for name in filter(TEMPORARY.fullmatch, names):
                path = Path(folder, name)
                with suppress(OSError), _abandoned(path) as status:
                    if status is not None:
                        yield _info(path.relative_to(self.root).as_posix(), status)

    def sweep(self, key: str) -> None:
        """Delete a leftover, unless somebody has begun to write it since."""
        path = self._path(key)
        with suppress(OSError), _abandoned(path) as status:
            if status is not None:
                path.unlink()

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """A local file opened for an upload; both stores open theirs with it."""
    with _named(path, "read"), open(path, "rb") as file:
        yield file


def too_short(where: str, start: int, length: int, size: int) -> DataError:
    """The error of a range that ends behind the object; both stores raise it."""
    return DataError(
        "a stored object is shorter than it should be",
        where=where,
        why=f"bytes {start} to {start + length} were asked for, it ends at {size}",
        fix="it was cut or replaced after it was written: make it again with the step that wrote it",
    )


@contextmanager
def _temporary(path: Path, data: Bytes | BinaryIO) -> Iterator[Path]:
    """A synced file with ``data`` (bytes or an open file) beside ``path``; gone afterwards unless it was renamed."""
    temporary, file = _locked_temporary(path.parent)
    try:
        with file:  # and its lock: whoever finds it unlocked knows that its writer is dead
            if isinstance(data, Bytes):
                file.write(data)
            else:
                shutil.copyfileobj(data, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
            now = time_ns()  # finer than the kernel's clock tick: two quick writes never share an etag
            os.utime(temporary, ns=(now, now))
            yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


def _in_folder(folder: Path, make: Callable[[], T]) -> T:
    """``make()``, its folder made first, and again where a delete of its last object took it away meanwhile."""
    for _ in range(MAX_ATTEMPTS):
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return make()
    return make()


def _locked_temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file that is locked; made again if it was swept before the lock was there."""
    import fcntl

    while True:
        temporary = folder / f"{HIDDEN}{uuid.uuid4().hex}"
        file = cast("BinaryIO", _in_folder(folder, partial(open, temporary, "xb")))  # the caller closes it
        with suppress(OSError):  # a file system without locks: nothing is swept there
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if temporary.exists():
            return temporary, file
        file.close()


@contextmanager
def _abandoned(path: Path) -> Iterator[os.stat_result | None]:
    """The status of a temporary that nobody writes, locked meanwhile; None where somebody does."""
    import fcntl

    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield os.fstat(file.fileno())


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time swaps ``path``; the lock dies with its holder."""
    import fcntl

    lock = path.parent / f"{HIDDEN}lock-{path.name}"[:250]
    with _in_folder(path.parent, partial(open, lock, "ab")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, _etag(status), status.st_mtime)


def _etag(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def _reraise(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


@contextmanager
def _named(path: Path, doing: str) -> Iterator[None]:
    """Turn an OSError into four lines."""
    try:
        yield
    except OSError as error:
        raise _explained(error, path, doing) from error


def _explained(error: OSError, path: Path, doing: str) -> TendonError:
    reason = f"{os.strerror(error.errno)} (errno {error.errno})" if error.errno else str(error)
    if error.errno in FULL:
        return StorageError(
            "the disk is full",
            where=str(path),
            why=f"{reason} while writing; nothing half-written was left",
            fix="free some space or name a store on another disk, then run the same command again",
        )
    if error.errno in REFUSED:
        return StorageError(
            f"not allowed to {doing} in this folder",
            where=str(path),
            why=f"{reason}: the folder is read-only or belongs to another user",
            fix="change its permissions, or name a store that this user may write",
        )
    if error.errno in ABSENT and doing == "read":
        return DataError(
            "a file does not exist",
            where=str(path),
            why="nothing was ever written there, or it was deleted",
            fix="check the address, or run the step that makes it",
        )
    return StorageError(
        f"could not {doing} a file",
        where=str(path),
        why=reason,
        fix="check the address and the disk, then run the same command again",
    )
