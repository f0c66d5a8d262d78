"""How often a window came before, and numbers of chance that depend on that, the seed and the window alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tendon.loader.order import Order, keyed_uniform
from tendon.loader.slots import MineStudioOrder, Slots

SIZES = [3, 2, 1, 4, 7, 1, 2]


@pytest.mark.parametrize("order", [Slots(SIZES, 3, 5), Slots([1, 9], 3, 5), MineStudioOrder(SIZES, 2, 1), Order(20, 5)])
def test_epochs_count_how_often_a_window_came(order: Slots | MineStudioOrder | Order) -> None:
    positions = np.arange(6 * 20)
    windows, epochs = order.at(positions), order.epochs(positions)
    pairs = Counter(zip(windows.tolist(), epochs.tolist(), strict=True))
    assert set(pairs.values()) == {1}  # no window comes twice in an epoch
    for window in set(windows.tolist()):
        own = sorted(epoch for one, epoch in pairs if one == window)
        assert own == list(range(len(own)))


def test_numbers_of_a_row_depend_on_its_salts_alone() -> None:
    epochs, episodes, frames = np.array([0, 0, 1]), np.array([4, 5, 4]), np.array([0, 128, 0])
    together = keyed_uniform(1000, 7, epochs, episodes, frames)
    assert together.dtype == np.float32
    assert together.min() >= 0
    assert together.max() < 1
    assert abs(together.mean() - 0.5) < 0.03
    for i in range(3):
        alone = keyed_uniform(1000, 7, epochs[i : i + 1], episodes[i : i + 1], frames[i : i + 1])
        assert (alone[0] == together[i]).all()
    assert len({row.tobytes() for row in together}) == 3
    assert (keyed_uniform(3, 8, epochs, episodes, frames) != together[:, :3]).all()
    assert (keyed_uniform(3, 7, epochs, episodes, frames) == together[:, :3]).all()  # more numbers change no number
