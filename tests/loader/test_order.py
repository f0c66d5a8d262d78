from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tendon.errors import ConfigError
from tendon.loader.mixture import PERIOD, DatasetMixture, tempered
from tendon.loader.order import Order, Units, argsort, keyed_order, splitmix64
from tendon.loader.sample_weights import changing_frames, sample_weights
from tendon.loader.slots import MineStudioOrder, Slots, minestudio_batches
from tendon.loader.windows import Span, window_table

lengths_strategy = st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any)


def test_splitmix64_gives_the_published_sequence() -> None:
    """First outputs of the reference generator for seed 1234567: mixing seed + n * gamma."""
    gamma = np.uint64(0x9E3779B97F4A7C15)
    seeds = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * gamma
    assert splitmix64(seeds).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_order_never_changes() -> None:
    assert keyed_order(8, 1000, 0, 0).tolist() == [6, 1, 0, 2, 4, 5, 7, 3]
    lanes = Order(12, 1000, 3, Units.single(np.array([3, 1, 2, 2, 4])), block=2)
    assert lanes.windows(0, 12).tolist() == LANES_GOLDEN


LANES_GOLDEN = [9, 1, 4, 10, 2, 6, 8, 0, 5, 3, 7, 11]


@given(lengths_strategy, st.integers(-5, 2**70), st.integers(1, 37), st.integers(1, 7), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_every_window_once_per_epoch(lengths: list[int], seed: int, batch: int, lanes: int, block: int) -> None:
    units = Units.single(np.array(lengths))
    num = int(units.bounds[-1])
    order = Order(num, seed, lanes, units, block)
    epochs = 3
    stream = np.concatenate([order.windows(first, batch) for first in range(0, epochs * num, batch)])
    for epoch in range(epochs):
        assert sorted(stream[epoch * num : (epoch + 1) * num]) == list(range(num))
    again = Order(num, seed, lanes, units, block)  # any position, in any order of asking, across spans
    for at in (2 * num + 1, num - 1, 0):
        assert again.windows(at, batch).tolist() == Order(num, seed, lanes, units, block).windows(at, batch).tolist()
    picked = np.array([3 * num - 1, 0, num])
    assert again.at(picked).tolist() == [stream[3 * num - 1], stream[0], stream[num]]


def test_lanes_mix_episodes_as_well_as_a_permutation() -> None:
    lengths = np.random.default_rng(0).integers(50, 150, 4000)
    units = Units.single(lengths)
    order = Order(int(units.bounds[-1]), 3, 96, units)
    of = np.searchsorted(units.bounds, order.windows(SPAN_IN_THE_MIDDLE, 256 * 64), side="right") - 1
    same = np.mean([np.mean(batch[:, None] == batch) for batch in of.reshape(64, 256)])
    p = (same * 256 - 1) / 255
    ideal = (lengths / lengths.sum() @ (lengths - 1)) / (lengths.sum() - 1)
    assert (1 + 255 * ideal) / (1 + 255 * p) > 0.95


SPAN_IN_THE_MIDDLE = 100_000


def test_next_use() -> None:
    units = Units.single(np.full(60, 5))
    order = Order(300, 1, 3, units, block=4)
    stream = order.windows(0, 900) // 5
    for now in (0, 70, 299, 300, 450):
        said = order.next_use(np.arange(60), now)
        for unit in range(60):
            used = now + np.flatnonzero(stream[now : now + 450] == unit)
            if len(used):
                assert said[unit] <= used[0]  # never too late, so what is needed soon is never thrown away first


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=6), st.integers(0, 9), st.booleans())
@settings(deadline=None, max_examples=40)
def test_mixtures_are_exact_in_any_4096_samples(weights: list[float], seed: int, stratified: bool) -> None:
    try:
        mixture = DatasetMixture(weights, seed, stratified=stratified)
    except ConfigError:
        return
    exact = np.array(weights) / sum(weights) * PERIOD
    datasets, own = mixture.at(np.arange(3 * PERIOD))
    for begin in (0, 1, 777, PERIOD, 2 * PERIOD):
        counts = np.bincount(datasets[begin : begin + PERIOD], minlength=len(weights))
        assert np.abs(counts - exact).max() <= 1
    for dataset in range(len(weights)):
        assert own[datasets == dataset].tolist() == list(range((datasets == dataset).sum()))


def test_mistakes_in_mixtures() -> None:
    for weights in ([], [0, 0], [1, -1], [1, float("nan")], [1, 1e-6]):
        with pytest.raises(ConfigError, match="mixture"):
            DatasetMixture(weights, 0)
    assert tempered([100, 1], 2) == [10.0, 1.0]


@given(lengths_strategy, st.integers(1, 9), st.integers(0, 9))
@example([1, 1, 1, 8], 2, 1)  # one episode is longer than a slot's share of an epoch
@settings(deadline=None, max_examples=60)
def test_slots_lose_double_and_break_nothing(sizes: list[int], num_slots: int, seed: int) -> None:
    slots = Slots(sizes, num_slots, seed)
    num, starts = sum(sizes), np.cumsum(sizes) - sizes
    batches = 3 * num // num_slots + 2
    grid = slots.windows(0, batches * num_slots).reshape(batches, num_slots)
    of = np.searchsorted(starts, grid, side="right") - 1
    first = grid == starts[of]
    for slot in range(num_slots):
        for batch in range(1, batches):  # either the next window, or another episode's first after a last
            ends = grid[batch - 1, slot] == starts[of[batch - 1, slot]] + sizes[of[batch - 1, slot]] - 1
            assert first[batch, slot] if ends else grid[batch, slot] == grid[batch - 1, slot] + 1
    counts = np.bincount(grid.reshape(-1), minlength=num)
    assert counts.max() - counts.min() <= 2 + num_slots  # slots are at most one episode each ahead of one another
    again = Slots(sizes, num_slots, seed)
    for batch in (batches - 1, 1, 0):
        assert again.windows(batch * num_slots, num_slots).tolist() == grid[batch].tolist()


def test_slots_hold_an_episode_once() -> None:
    slots = Slots([40] * 30, 10, 0)
    grid = slots.windows(0, 100 * 10).reshape(100, 10) // 40
    assert all(len(set(row)) == 10 for row in grid.tolist())


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (1, [[[0, 3], [1, 4], [2, 5], [6, 7], [8, 9]]]),
        (2, [[[0, 3], [1, 4]], [[5, 6], [7, 8]]]),
        (3, [[[0, 1]], [[3, 5]], [[6, 7]]]),
    ],
)
def test_minestudios_golden_cases(world: int, expected: list[list[list[int]]]) -> None:
    assert [minestudio_batches([3, 2, 1, 4], 2, rank, world) for rank in range(world)] == expected
    order = MineStudioOrder([3, 2, 1, 4], 2 * world, world)
    first = order.windows(0, 2 * world).tolist()
    assert first == [window for rank in expected for window in rank[0]]
    assert order.windows(order.num_windows, 2 * world).tolist() == first


def test_emphasis_is_even() -> None:
    table = window_table([5, 7, 3], [Span((0,))])
    chosen = sample_weights(table, {0: 0.4, 2: 2.5}, {1: [2, 3]}, times=3)
    assert chosen.counts.tolist() == [2, 7 + 6, 8]  # 7.5 rounds to even
    seen = np.zeros(15, np.int64)
    for epoch in range(35):
        items = np.arange(chosen.num_items)
        windows = chosen.windows(items, np.full(len(items), epoch))
        seen += np.bincount(windows, minlength=15)
    assert seen[:5].tolist() == [14] * 5
    assert seen[5:12].tolist() == [35, 35, 140, 140, 35, 35, 35]
    assert np.ptp(seen[12:]) <= 1


def test_changing_frames() -> None:
    assert changing_frames(np.array([0, 0, 0, 1, 1, 1, 0])).tolist() == [2, 3, 5, 6]
    assert changing_frames(np.zeros(4)).tolist() == []


def test_argsort_where_only_the_lower_bits_of_keys_differ() -> None:
    """Keys with equal upper bits, which are rare, come in the order of what is left."""
    chance = np.random.default_rng(0)
    for num in (1, 2, 300, 5000):
        keys = chance.permutation(num).astype(np.uint64)
        assert (argsort(keys) == np.argsort(keys)).all()
        keys[::3] += np.uint64(1 << 60)
        assert (argsort(keys) == np.argsort(keys)).all()
    assert len(argsort(np.empty(0, np.uint64))) == 0
