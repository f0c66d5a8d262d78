"""Orders for recurrent policies: each row of the batch walks through an episode window by window.

``Slots`` loses, doubles and splits nothing, and has a new keyed order every epoch. ``minestudio_batches`` is MineStudio's
sampler, which loses windows. Both depend on the number of windows per episode alone.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tendon.loader.order import keyed_order


@dataclass(frozen=True)
class _Stay:
    """The batches during which an episode is in a slot."""

    begin: int  # the batch of its first window
    end: int
    first_window: int
    epoch: int  # how often the episode came before


class Slots:
    """Endless: a slot that has finished its episode takes the next one of the keyed order. Position = batch, slot.

    The plan is a simulation on lengths alone. Going forward costs what is passed; going back starts again.
    """

    lanes = 1

    def __init__(self, windows_per_episode: Sequence[int] | np.ndarray, num_slots: int, seed: int) -> None:
        self._sizes = np.asarray(windows_per_episode, np.int64)
        self._starts = (np.cumsum(self._sizes) - self._sizes).tolist()
        self.num_windows, self.num_slots, self.seed = int(self._sizes.sum()), num_slots, seed
        assert self.num_windows > 0
        self._begin()

    def epoch_of(self, position: int) -> int:
        """How often the set has been seen by then, about."""
        return position // self.num_windows

    def windows(self, first: int, count: int) -> np.ndarray:
        """The windows at positions ``[first, first + count)``."""
        return self.at(np.arange(first, first + count))

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The windows at any positions."""
        batches, slots = np.divmod(positions, self.num_slots)
        if len(batches):
            self._cover(int(batches.min()), int(batches.max()))
        windows = [self._window(b, s) for b, s in zip(batches.tolist(), slots.tolist(), strict=True)]
        return np.array(windows, np.int64)

    def epochs(self, positions: np.ndarray) -> np.ndarray:
        """How often the window at each position came before it."""
        batches, slots = np.divmod(positions, self.num_slots)
        if len(batches):
            self._cover(int(batches.min()), int(batches.max()))
        return np.array(
            [self._stay(b, s).epoch for b, s in zip(batches.tolist(), slots.tolist(), strict=True)], np.int64
        )

    def _window(self, batch: int, slot: int) -> int:
        stay = self._stay(batch, slot)
        return stay.first_window + batch - stay.begin

    def _stay(self, batch: int, slot: int) -> _Stay:
        for stay in self._stays[slot]:
            if stay.begin <= batch < stay.end:
                return stay
        raise AssertionError("the plan covers the batch")

    def _begin(self) -> None:
        self._free = [(0, slot) for slot in range(self.num_slots)]  # when a slot is free, and which
        self._stays: list[deque[_Stay]] = [deque() for _ in range(self.num_slots)]
        self._epoch = -1
        self._waiting = list[tuple[int, int]]()  # episodes with their epoch
        self._until = dict[int, int]()  # the batch at which an episode is over
        few = int((self._sizes > 0).sum()) < 2 * self.num_slots
        long = int(self._sizes.max()) * self.num_slots > self.num_windows  # one slot alone would never catch up with it
        self._crowded = few or long  # they cannot be kept apart
        self._queue: Iterator[int] = iter(())
        self._forgotten = 0  # batches before this one are no longer in the plan

    def _cover(self, first: int, last: int) -> None:
        if first < self._forgotten:
            self._begin()
        keep = max(self._forgotten, first - 64)  # readers run a little behind one another
        while self._free[0][0] <= last:
            begin, slot = self._free[0]
            episode, epoch = self._next(begin)
            end = self._until[episode] = begin + int(self._sizes[episode])
            heapq.heapreplace(self._free, (end, slot))
            stays = self._stays[slot]
            while stays and stays[0].end <= keep:
                stays.popleft()
            stays.append(_Stay(begin, end, self._starts[episode], epoch))
        self._forgotten = keep

    def _next(self, batch: int) -> tuple[int, int]:
        """The next episode and its epoch; one that is still in another slot, from the epoch before, waits until it is over."""
        for i, (episode, _) in enumerate(self._waiting):
            if self._until.get(episode, 0) <= batch:
                return self._waiting.pop(i)
        while True:
            for episode in self._queue:
                if not self._sizes[episode]:
                    continue
                if self._crowded or self._until.get(episode, 0) <= batch:
                    return episode, self._epoch
                self._waiting.append((episode, self._epoch))
            self._epoch += 1
            self._queue = iter(keyed_order(len(self._sizes), self.seed, self._epoch, 2).tolist())


class MineStudioOrder:
    """MineStudio's order as a compatibility option: the same batches in every epoch, the tail of each rank dropped."""

    lanes = 1

    def __init__(self, windows_per_episode: Sequence[int], num_slots: int, world: int) -> None:
        """Plan for ``num_slots`` rows over all ranks together; like theirs, it is another order for another world."""
        per_rank = num_slots // world
        plans = [minestudio_batches(windows_per_episode, per_rank, rank, world) for rank in range(world)]
        batches = [np.concatenate([plan[i] for plan in plans]) for i in range(min(map(len, plans)))]
        self._stream = np.concatenate(batches).astype(np.int64) if batches else np.zeros(0, np.int64)
        self.num_windows, self.num_slots = len(self._stream), num_slots

    def epoch_of(self, position: int) -> int:
        """The epoch of a position."""
        return position // self.num_windows

    def epochs(self, positions: np.ndarray) -> np.ndarray:
        """How often the window at each position came before it."""
        return np.asarray(positions // self.num_windows)

    def windows(self, first: int, count: int) -> np.ndarray:
        """The windows at positions ``[first, first + count)``."""
        return self.at(np.arange(first, first + count))

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The windows at any positions."""
        return np.asarray(self._stream[positions % self.num_windows])


def minestudio_batches(windows_per_episode: Sequence[int], batch_size: int, rank: int, world: int) -> list[list[int]]:
    """The batches of one rank and epoch, as window numbers."""
    total = sum(windows_per_episode)
    begin, end = rank * (total // world), (rank + 1) * (total // world)
    pieces, at = deque[deque[int]](), 0
    for count in windows_per_episode:
        piece = deque(range(max(at, begin), min(at + count, end)))
        if piece:
            pieces.append(piece)
        at += count
    slots: list[deque[int]] = [deque() for _ in range(batch_size)]
    batches: list[list[int]] = []
    while True:
        for i in range(batch_size):
            if not slots[i] and pieces:
                slots[i] = pieces.popleft()
        batch = []
        for slot in slots:
            filled_slots = [slot, *slots] if slot else [other for other in slots if other]
            if not filled_slots:
                return batches
            batch.append(filled_slots[0].popleft())
        batches.append(batch)
