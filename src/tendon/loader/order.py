"""The order of samples as a pure function of (seed, epoch): no random object, no state, the same on every machine.

Order is the argsort of 64-bit keys made by splitmix64, so it depends on no library's random streams. The loader asks
for the windows at positions of one endless stream in which every epoch holds every window once. One lane: each epoch is
a true permutation. Several lanes, for sets that do not fit in memory: units (runs of neighbouring episodes) are dealt
to lanes in keyed order, a lane is cut into blocks, the windows of a block are permuted; the lanes take turns.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MASK = (1 << 64) - 1
EPOCHS_KEPT = 2  # a batch may hold the end of one epoch and the start of the next
SPAN = 1 << 14  # positions that are computed at once, at most two epochs
SPANS_KEPT = 8
LANES, BLOCK_EPISODES = 96, 24  # 98 % of the ideal number of episodes in a batch of 256


def splitmix64(values: np.ndarray) -> np.ndarray:
    """Mix 64-bit integers; neighbours become unrelated. A bijection. Its constants define every stream: never change them."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray(z)


def salt(*parts: int) -> np.ndarray:
    """One 64-bit salt from a chain of integers, as an array of one."""
    mixed = np.zeros(1, np.uint64)
    for part in parts:
        mixed = splitmix64(mixed ^ np.uint64(part & MASK))
    return mixed


def keyed_order(num: int, *salts: int) -> np.ndarray:
    """A permutation of ``range(num)`` that depends on the salts alone."""
    return argsort(splitmix64(np.arange(num, dtype=np.uint64) ^ salt(*salts)))


def keyed_uniform(num: int, *salts_B: int | np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) ``[B, num]`` that depend on the salts of each row alone, float32."""
    keys_B = np.zeros(1, np.uint64)
    for one in salts_B:
        keys_B = splitmix64(keys_B ^ (np.asarray(one) & np.int64(-1)).astype(np.uint64))
    mixed_BN = splitmix64(keys_B[:, None] ^ splitmix64(np.arange(num, dtype=np.uint64))[None])
    return np.asarray((mixed_BN >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))


def argsort(keys: np.ndarray) -> np.ndarray:
    """The argsort of 64-bit keys that are spread evenly and all different.

    Sorts integers made of a key's upper bits and its place, which takes half the time of numpy's argsort; the few
    neighbours with equal upper bits are sorted after that.
    """
    bits = max(1, (len(keys) - 1).bit_length())
    place = np.uint64((1 << bits) - 1)
    packed = keys & ~place
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order: np.ndarray = (packed & place).view(np.int64)
    packed >>= np.uint64(bits)
    equal = np.flatnonzero(packed[1:] == packed[:-1])
    for run in np.split(equal, np.flatnonzero(np.diff(equal) > 1) + 1) if len(equal) else ():
        begin, end = run[0], run[-1] + 2
        order[begin:end] = order[begin:end][np.argsort(keys[order[begin:end]])]
    return order


@dataclass(frozen=True)
class Units:
    """Runs of neighbouring episodes that are fetched together; unit u holds windows ``[bounds[u], bounds[u + 1])``."""

    bounds: np.ndarray
    episodes: np.ndarray  # how many a unit has

    @classmethod
    def single(cls, windows_per_episode: np.ndarray) -> Units:
        """Units of one episode each."""
        counts = np.asarray(windows_per_episode, np.int64)
        return cls(np.concatenate([[0], np.cumsum(counts)]), np.ones(len(counts), np.int64))


class Order:
    """The window at every position of the endless stream. The caches change speed, never a result."""

    def __init__(
        self, num_windows: int, seed: int, lanes: int = 1, units: Units | None = None, block: int = BLOCK_EPISODES
    ) -> None:
        assert num_windows > 0
        assert lanes >= 1
        assert lanes == 1 or units is not None
        self.num_windows, self.seed, self.lanes, self.block = num_windows, seed, lanes, block
        self.units = units
        self._reach = min(SPAN, 2 * num_windows)
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()
        self._spans: OrderedDict[int, np.ndarray] = OrderedDict()

    def epoch_of(self, position: int) -> int:
        """The epoch of a position."""
        return position // self.num_windows

    def epochs(self, positions: np.ndarray) -> np.ndarray:
        """How often the window at each position came before it."""
        return np.asarray(positions // self.num_windows)

    def windows(self, first: int, count: int) -> np.ndarray:
        """The windows at positions ``[first, first + count)``; not to be written to."""
        if self.lanes == 1:
            return self._worked_out(first, first + count)
        return self.at(np.arange(first, first + count))

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The windows at any positions."""
        spans, inside = np.divmod(positions, self._reach)
        if len(positions) and spans[0] == spans[-1] and (spans == spans[0]).all():
            return self._span(int(spans[0]))[inside]
        windows = np.empty(len(positions), np.int64)
        for span in np.unique(spans):
            chosen = spans == span
            windows[chosen] = self._span(int(span))[inside[chosen]]
        return windows

    def next_use(self, units: np.ndarray, position: int) -> np.ndarray:
        """The position at which each unit is needed next, seen from ``position``; exact to one round of the lanes."""
        epoch, now = divmod(position, self.num_windows)
        first, last = self._epoch(epoch).uses
        following, _ = self._epoch(epoch + 1).uses
        later = following[units] + self.num_windows
        here = np.where(first[units] > now, first[units], np.where(last[units] >= now, now, later))
        return np.asarray(here + epoch * self.num_windows)

    def _span(self, span: int) -> np.ndarray:
        if span not in self._spans:
            self._spans[span] = self._worked_out(span * self._reach, (span + 1) * self._reach)
            if len(self._spans) > SPANS_KEPT:
                self._spans.popitem(last=False)
        self._spans.move_to_end(span)
        return self._spans[span]

    def _worked_out(self, begin: int, end: int) -> np.ndarray:
        parts, N = [], self.num_windows
        while begin < end:
            epoch, start = divmod(begin, N)
            stop = min(N, start + end - begin)
            parts.append(self._epoch(epoch).between(start, stop))
            begin += stop - start
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            if self.lanes == 1:
                units = 1 if self.units is None else len(self.units.episodes)
                self._epochs[epoch] = _Permutation(self.num_windows, self.seed, epoch, units)
            else:
                assert self.units is not None
                self._epochs[epoch] = _Lanes(self.units, self.seed, epoch, self.lanes, self.block)
            if len(self._epochs) > EPOCHS_KEPT:
                self._epochs.popitem(last=False)
        self._epochs.move_to_end(epoch)
        return self._epochs[epoch]


class _Permutation:
    """An epoch that is one permutation of all windows."""

    def __init__(self, num_windows: int, seed: int, epoch: int, units: int) -> None:
        self._size, self._salts, self._units = num_windows, (seed, epoch, 0), units

    def between(self, begin: int, end: int) -> np.ndarray:
        """The windows at positions ``[begin, end)`` of the epoch."""
        return self._windows[begin:end]

    @cached_property
    def uses(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last position of every unit: all of them are in use all the time."""
        return np.zeros(self._units, np.int64), np.full(self._units, self._size, np.int64)

    @cached_property
    def _windows(self) -> np.ndarray:
        return keyed_order(self._size, *self._salts)


class _Lanes:
    """An epoch whose units are dealt to lanes; each lane is a sequence of blocks."""

    def __init__(self, units: Units, seed: int, epoch: int, lanes: int, block: int) -> None:
        self._units, self._seed, self._epoch, self._num = units, seed, epoch, lanes
        sizes = np.diff(units.bounds)
        dealt = self._dealt(keyed_order(len(sizes), seed, epoch, 0), sizes.tolist(), lanes)
        self._blocks: list[list[int]] = []  # units of every block
        lane_of_block, start_of_block, lengths = [], [], []
        for lane, units_of_lane in enumerate(dealt):
            at = held = 0
            for unit in units_of_lane:
                if not at or held >= block:
                    lane_of_block.append(lane)
                    start_of_block.append(at)
                    self._blocks.append([])
                    held = 0
                self._blocks[-1].append(unit)
                held += int(units.episodes[unit])
                at += int(sizes[unit])
            lengths.append(at)
        self._stride = max(lengths) + 1
        self._lane_of_block = np.array(lane_of_block, np.int64)
        self._start_of_block = np.array(start_of_block, np.int64)
        self._block_keys = self._lane_of_block * self._stride + self._start_of_block
        self._lengths = np.array(lengths, np.int64)
        self._sorted = np.sort(self._lengths)
        # positions before the round at which the i-th shortest lane ends
        live = lanes - np.arange(lanes)
        steps = np.diff(np.concatenate([[0], self._sorted]))
        self._before = np.cumsum(steps * live)
        self._permuted: OrderedDict[int, np.ndarray] = OrderedDict()

    @staticmethod
    def _dealt(order: np.ndarray, sizes: list[int], lanes: int) -> list[list[int]]:
        """Each unit to the shortest lane; a tie goes to the first. Units without windows are left out."""
        heap = [(0, lane) for lane in range(lanes)]
        units_by_lane: list[list[int]] = [[] for _ in range(lanes)]
        for unit in order.tolist():
            if sizes[unit]:
                length, lane = heap[0]
                units_by_lane[lane].append(unit)
                heapq.heapreplace(heap, (length + sizes[unit], lane))
        return units_by_lane

    def between(self, begin: int, end: int) -> np.ndarray:
        """The windows at positions ``[begin, end)`` of the epoch."""
        lanes, rounds = self._locate(np.arange(begin, end))
        blocks = np.searchsorted(self._block_keys, lanes * self._stride + rounds, side="right") - 1
        inside = rounds - self._start_of_block[blocks]
        by_block = np.argsort(blocks, kind="stable")
        cuts = np.flatnonzero(np.diff(blocks[by_block])) + 1
        windows = np.empty(end - begin, np.int64)
        for chosen in np.split(by_block, cuts):
            windows[chosen] = self._block(int(blocks[chosen[0]]))[inside[chosen]]
        return windows

    @cached_property
    def uses(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the first and last position of every unit."""
        ends = np.append(self._start_of_block[1:], 0)
        last_of_lane = np.append(np.diff(self._lane_of_block) != 0, True)
        ends = np.where(last_of_lane, self._lengths[self._lane_of_block], ends)
        first, last = (np.zeros(len(self._units.episodes), np.int64) for _ in range(2))
        begins_at, ends_at = self._position(self._start_of_block), self._position(ends)
        for block, units in enumerate(self._blocks):
            first[units], last[units] = begins_at[block], ends_at[block]
        return first, last

    def _position(self, rounds: np.ndarray) -> np.ndarray:
        """Positions before a round begins."""
        i = np.searchsorted(self._sorted, rounds, side="left")
        base = np.concatenate([[0], self._before])[i]
        since = rounds - np.concatenate([[0], self._sorted])[i]
        return np.asarray(base + since * (self._num - i))

    def _locate(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lane and round of positions: only lanes that have windows left take turns."""
        i = np.searchsorted(self._before, q, side="right")
        since = q - np.concatenate([[0], self._before])[i]
        rounds, turn = np.divmod(since, self._num - i)
        rounds += np.concatenate([[0], self._sorted])[i]
        if not i.any():
            return turn, rounds
        lanes = np.empty(len(q), np.int64)
        for segment in np.unique(i):
            live = np.flatnonzero(self._lengths > (self._sorted[segment - 1] if segment else -1))
            lanes[i == segment] = live[turn[i == segment]]
        return lanes, rounds

    def _block(self, block: int) -> np.ndarray:
        if block not in self._permuted:
            bounds = self._units.bounds
            windows = np.concatenate([np.arange(bounds[u], bounds[u + 1]) for u in self._blocks[block]])
            self._permuted[block] = windows[keyed_order(len(windows), self._seed, self._epoch, 1, block)]
            if len(self._permuted) > 4 * self._num:
                self._permuted.popitem(last=False)
        self._permuted.move_to_end(block)
        return self._permuted[block]


_Epoch = _Permutation | _Lanes
