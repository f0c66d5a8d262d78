"""The episodes of a dataset as a lazy sequence: opening a million of them costs nothing until they are read.

``Rows`` are made by dataset; stats and loaders take ``numbers`` and ``lengths`` (arrays) where there are many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from tendon.data.index import IndexTable

COLUMNS = ("episode_index", "episode_id", "shard", "length", "task", "success", "splits")
AT_ONCE = 4096  # rows made together


@dataclass(frozen=True)
class EpisodeRow:
    """One row of the index."""

    index: int  # the number in ep_<number>, which is also its row in the index
    episode_id: str
    shard: int
    length: int
    task: str
    success: bool | None
    splits: tuple[str, ...]


class Rows(Sequence[EpisodeRow]):
    """Some rows of an index, by their ``numbers`` in it; slices are Rows too."""

    def __init__(self, table: IndexTable, numbers: np.ndarray) -> None:
        self._table, self.numbers = table, numbers

    @cached_property
    def lengths(self) -> np.ndarray:
        """Steps of every episode, ``[E]``."""
        return np.asarray(self._table.array("length")[self.numbers])

    def ids(self) -> list[str]:
        """The ids alone."""
        ids: list[str] = self._taken("episode_id", self.numbers).to_pylist()
        return ids

    def chosen(self, mask: np.ndarray) -> Rows:
        """Those where ``mask [E]`` holds; places in any order do as well."""
        return Rows(self._table, self.numbers[mask])

    def column(self, name: str) -> pa.Array:
        """Any column of the index, of these rows."""
        return self._taken(name, self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[EpisodeRow]:
        for start in range(0, len(self), AT_ONCE):
            yield from self._made(self.numbers[start : start + AT_ONCE])

    @overload
    def __getitem__(self, at: int) -> EpisodeRow: ...

    @overload
    def __getitem__(self, at: slice) -> Rows: ...

    def __getitem__(self, at: int | slice) -> EpisodeRow | Rows:
        if isinstance(at, slice):
            return Rows(self._table, self.numbers[at])
        return self._made(self.numbers[[at]])[0]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(a == b for a, b in zip(self, other, strict=True))
        )

    def __hash__(self) -> int:
        return hash(self.numbers.tobytes())

    def _taken(self, name: str, numbers: np.ndarray) -> pa.Array:
        import pyarrow as pa

        return self._table.combined(name).take(pa.array(numbers))

    def _made(self, numbers: np.ndarray) -> list[EpisodeRow]:
        columns = [self._taken(name, numbers).to_pylist() for name in COLUMNS]
        return [EpisodeRow(i, n, s, t, k, ok, tuple(of)) for i, n, s, t, k, ok, of in zip(*columns, strict=True)]
