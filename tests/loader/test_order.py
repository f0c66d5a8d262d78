from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tendon.loader.order import Order, keyed_order, splitmix64


def test_splitmix64_gives_the_published_sequence() -> None:
    """First outputs of the reference generator for seed 1234567: mixing seed + n * gamma."""
    gamma = np.uint64(0x9E3779B97F4A7C15)
    seeds = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * gamma
    assert splitmix64(seeds).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_order_never_changes() -> None:
    assert keyed_order(8, 1000, 0, 0).tolist() == keyed_order(8, 1000, 0, 0).tolist()
    assert keyed_order(8, 1000, 0, 0).tolist() == [6, 1, 0, 2, 4, 5, 7, 3]


@given(st.integers(1, 60), st.integers(-5, 2**70), st.integers(1, 37))
def test_every_window_once_per_epoch(num: int, seed: int, batch: int) -> None:
    order = Order(num, seed)
    epochs = 3
    stream = np.concatenate([order.windows(first, batch) for first in range(0, epochs * num, batch)])
    for epoch in range(epochs):
        assert sorted(stream[epoch * num : (epoch + 1) * num]) == list(range(num))


@given(st.integers(1, 40), st.integers(0, 500), st.integers(0, 90))
def test_any_part_can_be_asked_for_alone(num: int, first: int, count: int) -> None:
    whole = Order(num, 7).windows(0, first + count)
    assert Order(num, 7).windows(first, count).tolist() == whole[first:].tolist()


def test_epochs_and_seeds_differ_and_look_random() -> None:
    a, b, c = keyed_order(5000, 1, 0, 0), keyed_order(5000, 1, 1, 0), keyed_order(5000, 2, 0, 0)
    for one, other in ((a, b), (a, c), (b, c), (a, np.arange(5000))):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.06
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 0.06
