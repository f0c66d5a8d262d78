"""Blocks of shards on a local disk, so that the second epoch does not touch the store. Wraps another Bytes.

One file per block of 4 MB, renamed into place when it is whole, so several processes may share the folder. What is
needed last is thrown away first; a block that is needed later than all that is held is not kept. An error of the disk
is said once, and reading goes on without it.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from tendon.loader.fetch import Bytes

log = logging.getLogger(__name__)

BLOCK = 4 << 20
COUNT_AGAIN = 64  # blocks after which what other processes wrote is counted

Name = tuple[str, int]  # shard key, number of the block


class CachedBytes:
    """Reads through a folder of blocks."""

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
        self._making: dict[Name, threading.Lock] = {}
        self._held: dict[Name, int] = {}
        self._since_count, self._broken = 0, False
        self._count()

    def read_into(self, key: str, start: int, view: memoryview, *, fresh: bool = False) -> None:
        """Fill ``view`` block by block; ``fresh`` forgets the blocks first."""
        got = 0
        while got < len(view):
            block, inside = divmod(start + got, BLOCK)
            size = min(BLOCK - inside, len(view) - got)
            self._read_block(key, block, inside, view[got : got + size], fresh)
            got += size

    def _read_block(self, key: str, block: int, inside: int, view: memoryview, fresh: bool) -> None:
        name = (key, block)
        if fresh:
            self._forget(name)
        elif self._from_disk(name, inside, view):
            return
        if self._broken or not self._wanted(name):
            self._source.read_into(key, block * BLOCK + inside, view, fresh=fresh)
            return
        with self._lock:
            making = self._making.setdefault(name, threading.Lock())
        with making:
            if not fresh and self._from_disk(name, inside, view):
                return
            size = min(BLOCK, self._sizes[key] - block * BLOCK)
            content = bytearray(size)
            self._source.read_into(key, block * BLOCK, memoryview(content), fresh=fresh)
            self.misses += 1
            view[:] = content[inside : inside + len(view)]
            self._keep(name, content)
        with self._lock:
            self._making.pop(name, None)

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
        """Whether the block is needed sooner than something that is held, or there is room."""
        with self._lock:
            if sum(self._held.values()) + BLOCK <= self._budget:
                return True
            held = list(self._held)
        uses = self.next_use([name, *held])
        return bool(held) and uses[0] < max(uses[1:])

    def _keep(self, name: Name, content: bytearray) -> None:
        path = self._path(name)
        temporary = path.parent / f".{uuid.uuid4().hex}"
        try:
            with self._lock:
                self._make_room(len(content))
                self._held[name] = len(content)
                self._since_count += 1
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self._give_up(error)
            return
        if self._since_count >= COUNT_AGAIN:
            self._count()

    def _make_room(self, size: int) -> None:
        total = sum(self._held.values())
        if total + size <= self._budget:
            return
        names = list(self._held)
        uses = self.next_use(names)
        for _, name in sorted(zip(uses, names, strict=True), reverse=True):
            if total + size <= self._budget:
                return
            total -= self._held.pop(name)
            self._path(name).unlink(missing_ok=True)

    def _forget(self, name: Name) -> None:
        with self._lock:
            self._held.pop(name, None)
        self._path(name).unlink(missing_ok=True)

    def _count(self) -> None:
        found: dict[Name, int] = {}
        by_name = {key.rsplit("/", 1)[-1]: key for key in self._sizes}
        for path in self._folder.glob("*/[0-9]*"):
            key = by_name.get(path.parent.name)
            if key is not None:
                try:
                    found[(key, int(path.name))] = path.stat().st_size
                except FileNotFoundError:
                    continue
        with self._lock:
            self._held, self._since_count = found, 0

    def _path(self, name: Name) -> Path:
        return self._folder / name[0].rsplit("/", 1)[-1] / f"{name[1]:06d}"

    def _give_up(self, error: OSError) -> None:
        if not self._broken:
            log.warning("loader: the cache in %s is not used any more: %s", self._folder, error)
        self._broken = True
