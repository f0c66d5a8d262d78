"""Disk cache for blocks of shards, so that the second epoch does not read the store. Wraps another Bytes.

One file per block of 4 MB, renamed into place when it is whole. Several processes may share the folder: one of them
fetches a block while the others wait for it (flock, which ends with its process), and one file counts the bytes of all.
The block that is needed last is evicted first; a block needed later than all cached ones is not kept. The first error of
the disk is logged, and reading goes on without the cache.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tendon.loader.fetch import Bytes

log = logging.getLogger(__name__)

BLOCK = 4 << 20
COUNT_AGAIN = 64  # blocks after which the folder is counted again, because other processes write too

Name = tuple[str, int]  # shard key, number of the block


class CachedBytes:
    """Reads through a folder of cached blocks."""

    def __init__(self, source: Bytes, folder: Path, budget: int, sizes: Mapping[str, int]) -> None:
        """Read through ``folder``.

        Args:
            source: what is cached.
            folder: of this dataset; made when needed.
            budget: bytes that may lie there.
            sizes: bytes of every shard by its key.
        """
        self.waits = source.waits
        self.hits = self.misses = 0
        self.next_use: Callable[[list[Name]], list[float]] = lambda names: [0.0] * len(names)
        self._source, self._folder, self._budget, self._sizes = source, folder, budget, sizes
        self._lock = threading.Lock()
        self._held: dict[Name, int] = {}
        self._since_count, self._broken = 0, False
        try:
            with self._counted():
                pass
        except OSError as error:
            self._give_up(error)

    def read_into(self, key: str, start: int, view: memoryview, *, fresh: bool = False) -> None:
        """Fill ``view`` block by block; ``fresh`` forgets the blocks first."""
        got = 0
        while got < len(view):
            block, inside = divmod(start + got, BLOCK)
            size = min(BLOCK - inside, len(view) - got)
            self._read_block(key, block, inside, view[got : got + size], fresh)
            got += size

    def connect(self, key: str) -> None:
        """Connect to what is cached."""
        self._source.connect(key)

    def _read_block(self, key: str, block: int, inside: int, view: memoryview, fresh: bool) -> None:
        name = (key, block)
        if fresh:
            self._forget(name)
        elif self._from_disk(name, inside, view):
            return
        if self._broken or not self._wanted(name) or not self._fetch_and_keep(name, inside, view, fresh):
            self._source.read_into(key, block * BLOCK + inside, view, fresh=fresh)

    def _fetch_and_keep(self, name: Name, inside: int, view: memoryview, fresh: bool) -> bool:
        """Fill ``view`` from a block that is fetched by whoever asks first; False when the disk does not allow it."""
        path = self._path(name)
        part = path.with_name(f".{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(part, "ab")  # noqa: SIM115 - closed below
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            self._give_up(error)
            return False
        with file:
            if not fresh and self._from_disk(name, inside, view):
                part.unlink(missing_ok=True)
                return True
            content = bytearray(min(BLOCK, self._sizes[name[0]] - name[1] * BLOCK))
            self._source.read_into(name[0], name[1] * BLOCK, memoryview(content), fresh=fresh)
            self.misses += 1
            view[:] = content[inside : inside + len(view)]
            try:
                part.write_bytes(content)
                self._keep(name, part, len(content))
            except OSError as error:
                part.unlink(missing_ok=True)
                self._give_up(error)
        return True

    def _from_disk(self, name: Name, inside: int, view: memoryview) -> bool:
        try:
            with open(self._path(name), "rb", buffering=0) as file:
                whole = os.preadv(file.fileno(), [view], inside) == len(view)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._give_up(error)
            return False
        self.hits += whole
        return whole

    def _wanted(self, name: Name) -> bool:
        """Whether there is room for the block, or a cached one is needed later."""
        with self._lock:
            if sum(self._held.values()) + BLOCK <= self._budget:
                return True
            held = list(self._held)
        uses = self.next_use([name, *held])
        return bool(held) and uses[0] < max(uses[1:])

    def _keep(self, name: Name, part: Path, size: int) -> None:
        """Make room for a whole block and rename it into place."""
        with self._counted() as total:
            total[0] += size - self._make_room(total[0] + size - self._budget)
            os.replace(part, self._path(name))
            with self._lock:
                self._held[name] = size

    def _make_room(self, size: int) -> int:
        """Evict blocks of at least so many bytes, if there are enough; return how many bytes that freed."""
        freed = 0
        for count_first in (False, True):  # evict other processes' blocks only when those known here are not enough
            if freed >= size:
                break
            if count_first:
                self._count()
            with self._lock:
                names = list(self._held)
            for _, name in sorted(zip(self.next_use(names), names, strict=True), reverse=True):
                if freed < size:
                    freed += self._thrown_away(name)
        return freed

    def _thrown_away(self, name: Name) -> int:
        with self._lock:
            self._held.pop(name, None)
        path = self._path(name)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:  # by another process
            return 0
        return size

    def _forget(self, name: Name) -> None:
        try:
            with self._counted() as total:
                total[0] -= self._thrown_away(name)
        except OSError as error:
            self._give_up(error)

    @contextmanager
    def _counted(self) -> Iterator[list[int]]:
        """Lock the count of all processes' bytes in the folder. The caller may change it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / ".bytes", "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            total = [self._read_total(file)]
            yield total
            file.seek(0)
            file.truncate()
            file.write(str(total[0]).encode())

    def _read_total(self, file: BinaryIO) -> int:
        """The count as last written, or a new count now and then: a process may have been killed before it wrote."""
        file.seek(0)
        text = file.read()
        self._since_count -= 1
        if text.isdigit() and self._since_count > 0:
            return int(text)
        return self._count()

    def _count(self) -> int:
        sizes: dict[Name, int] = {}
        by_name = {key.rsplit("/", 1)[-1]: key for key in self._sizes}
        for path in self._folder.glob("*/[0-9]*"):
            key = by_name.get(path.parent.name)
            if key is not None:
                try:
                    sizes[(key, int(path.name))] = path.stat().st_size
                except FileNotFoundError:
                    continue
        with self._lock:
            self._held, self._since_count = sizes, COUNT_AGAIN
        return sum(sizes.values())

    def _path(self, name: Name) -> Path:
        return self._folder / name[0].rsplit("/", 1)[-1] / f"{name[1]:06d}"

    def _give_up(self, error: OSError) -> None:
        if not self._broken:
            log.warning("loader: the cache in %s is not used any more: %s", self._folder, error)
        self._broken = True
