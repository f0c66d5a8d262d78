"""The numbers of LeRobot's episodes as arrays: blocks of rows are decoded together, episodes are cut out of them.

A conversion reads episodes in the order of shards, which is no order of files. Blocks that memory has no room for are
written to a scratch file when they are decoded for the second time; from then on an episode is one read. A file whose
footer alone is large is decoded as a whole when it is open. lerobot.py reads through it.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tendon.data.sources.lerobot_layout import EpisodeAt
from tendon.data.sources.lerobot_table import EPISODE_INDEX, Block, DataFiles
from tendon.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

KEPT_BYTES = 192 << 20  # of decoded blocks in memory
LEAST_EPISODES = 4  # in a block that is worth a place on the disk
LEAST_FREE = 1 << 30  # bytes that others find on the disk

Arrays = dict[str, np.ndarray]
AsArrays = Callable[["pa.Table", str], Arrays]  # features of some rows; the text says where they lie


class _Spilled(NamedTuple):
    """Where a block lies in the scratch file."""

    offset: int
    dtype: np.dtype[np.void]


class NumberBlocks:
    """The features of episodes out of decoded blocks. ``columns`` are read, ``as_arrays`` makes features of them."""

    def __init__(self, files: DataFiles, columns: list[str], as_arrays: AsArrays) -> None:
        self._files, self._columns, self._as_arrays = files, columns, as_arrays
        self._rows: OrderedDict[Block, np.ndarray] = OrderedDict()
        self._kept = 0  # bytes of _rows
        self._decoded: set[Block] = set()  # once at least
        self._odd: set[Block] = set()  # an episode in it has no features
        self._spilled: dict[Block, _Spilled] = {}
        self._end = 0  # of the scratch file

    def features(self, at: EpisodeAt) -> Arrays:
        """The features of an episode, ``[T, ...]``.

        Raises:
            DataError: the file is unreadable, or its rows are not those of the episode, or one of them is not usable.
        """
        blocks = self._files.blocks(at)
        parts = [self._part(block, at) for block in blocks]
        there = [part for part in parts if part is not None]
        if not there or len(there) < len(parts):  # in a block of which another episode may be damaged
            return self._as_arrays(self._files.rows(at, self._columns), self._where(at))
        rows = there[0] if len(there) == 1 else np.concatenate(there)
        self._files.check_rows(at, rows[EPISODE_INDEX])
        return {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or () if name != EPISODE_INDEX}

    def _part(self, block: Block, at: EpisodeAt) -> np.ndarray | None:
        """The rows of an episode in a block; None where the block as a whole cannot be decoded."""
        begin = max(at.first_row, block.first_row) - block.first_row
        end = max(begin, min(at.first_row + at.length, block.last_row) - block.first_row)
        if block in self._spilled and block not in self._rows:
            return self._read(self._spilled[block], begin, end)
        rows = self._block(block, at)
        return None if rows is None else rows[begin:end]

    def _block(self, block: Block, at: EpisodeAt) -> np.ndarray | None:
        if block in self._rows:
            self._rows.move_to_end(block)
            return self._rows[block]
        if block in self._odd or (rows := self._decode(block, at)) is None:
            return None
        if block in self._decoded and block.last_row - block.first_row >= LEAST_EPISODES * at.length:
            self._spill(block, rows)
        if self._files.has_large_footer(block.key):  # which is not read again for every block
            for other in self._files.all_blocks(block.key):
                known = other == block or other in self._decoded or other in self._odd
                if not known and (its_rows := self._decode(other, at)) is not None:
                    self._keep(other, its_rows)
            self._files.close(block.key)
        self._keep(block, rows)
        return rows

    def _keep(self, block: Block, rows: np.ndarray) -> None:
        """Keep the rows of a block in memory, in the place of those that were used longest ago."""
        self._decoded.add(block)
        while self._rows and self._kept + rows.nbytes > KEPT_BYTES:
            oldest, its_rows = self._rows.popitem(last=False)
            self._kept -= its_rows.nbytes
            if oldest not in self._spilled and self._files.has_large_footer(oldest.key):
                self._spill(oldest, its_rows)
        self._rows[block] = rows
        self._kept += rows.nbytes

    def _decode(self, block: Block, at: EpisodeAt) -> np.ndarray | None:
        import pyarrow as pa

        try:
            table = self._files.decode(block, self._columns)
            arrays = self._as_arrays(table, self._where(at))
            arrays[EPISODE_INDEX] = table.column(EPISODE_INDEX).to_numpy()
        except (OSError, pa.ArrowException, KeyError, DataError) as error:  # told with the episode that has it
            log.debug("convert: rows %d to %d of %s: %s", block.first_row, block.last_row, block.key, error)
            self._odd.add(block)
            return None
        dtype = np.dtype([(name, values.dtype, values.shape[1:]) for name, values in arrays.items()])
        rows = np.empty(len(table), dtype)
        for name, values in arrays.items():
            rows[name] = values
        return rows

    def _spill(self, block: Block, rows: np.ndarray) -> None:
        """Write a block to the scratch file, unless the disk is nearly full."""
        try:
            if shutil.disk_usage(tempfile.gettempdir()).free < LEAST_FREE + rows.nbytes:
                return
            at, content = self._end, rows.view(np.uint8).reshape(-1).data
            while len(content):
                written = os.pwrite(self._scratch.fileno(), content, at)
                at, content = at + written, content[written:]
        except OSError as error:
            log.debug("convert: decoded rows are not kept on the disk: %s", error)
            return
        self._spilled[block] = _Spilled(self._end, rows.dtype)
        self._end = at

    def _read(self, place: _Spilled, begin: int, end: int) -> np.ndarray:
        size = place.dtype.itemsize
        content = bytearray((end - begin) * size)
        read = os.preadv(self._scratch.fileno(), [content], place.offset + begin * size)
        assert read == len(content), "nobody else writes to the scratch file"
        return np.frombuffer(content, place.dtype)

    @cached_property
    def _scratch(self) -> tempfile._TemporaryFileWrapper[bytes]:
        return tempfile.TemporaryFile(prefix="tendon-rows-")  # type: ignore[return-value]

    def _where(self, at: EpisodeAt) -> str:
        return f"{self._files.folder.uri}/{at.data_key}, {at.episode_id}"
