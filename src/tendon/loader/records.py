"""Members of episodes by number, without a copy: for tools that want bytes, not windows.

A local dataset is mapped into memory; every member is verified by its crc32c when it is handed out.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from tendon.data.dataset import Dataset
from tendon.errors import ConfigError, DataError
from tendon.storage import join
from tendon.storage.local import LocalStore


class Records:
    """One member of every episode, such as ``lowdim.npy`` or ``front.mjpeg``."""

    def __init__(self, dataset: Dataset, member: str) -> None:
        """Map the shards.

        Raises:
            ConfigError: the dataset is not in a local folder, or has no such member.
        """
        if not isinstance(dataset.store, LocalStore) or f"{member}/offset" not in dataset.table.column_names:
            raise ConfigError(
                f"there are no records {member} to map",
                where=dataset.uri,
                why="the dataset is remote, or has no such member",
                fix="use Loader, which reads over a network too",
            )
        import google_crc32c

        self._crc32c, self._dataset, self._member = google_crc32c.value, dataset, member
        offset, size, crc = (
            dataset.table.column(f"{member}/{key}").to_pylist() for key in ("offset", "size", "crc32c")
        )
        self._places = list(zip(dataset.table.column("shard").to_pylist(), offset, size, crc, strict=True))
        self._shards = []
        for shard in dataset.manifest.shards:
            with open(Path(dataset.uri) / shard.key, "rb") as file:
                self._shards.append(np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        """The bytes of a member, uint8, a view.

        Raises:
            DataError: they are damaged.
        """
        shard, offset, size, crc = self._places[index]
        content: np.ndarray = self._shards[shard][offset : offset + size]
        if self._crc32c(content) != crc:
            row, key = self._dataset.rows[index], self._dataset.manifest.shards[shard].key
            raise DataError(
                "a shard is damaged",
                where=f"{join(self._dataset.uri, key)}, member {self._member}, episode {row.episode_id}",
                why="its bytes do not have the crc32c that the index names",
                fix="delete the shard and the dataset's manifest.json, then convert again: only what is missing is made",
            )
        return content
