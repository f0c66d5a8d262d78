"""Spearman's rho with its interval and its test: known values, ties, what chance gives."""

import numpy as np
import pytest

from tendon.evaluate.rank_correlation import rank_correlation, ranks


def test_known_values():
    # Kendall's example of ten students in two subjects (textbook rho -29/165)
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert rank_correlation(iq, hours).rho == pytest.approx(-29 / 165)
    assert list(ranks(np.array([3.0, 1.0, 3.0, 2.0]))) == [3.5, 1.0, 3.5, 2.0]
    assert rank_correlation([1, 2, 3], [3, 2, 1]).rho is None
    assert rank_correlation([1, 2, 3, 4], [5, 5, 5, 5]).rho is None


def test_the_exact_test_counts_all_orders():
    found = rank_correlation([1, 2, 3, 4, 5], [9, 7, 5, 3, 1])
    assert found.rho == -1
    assert found.p == pytest.approx(2 / 120)
    assert found.interval_95.low == -1


@pytest.mark.long
def test_chance_is_called_chance():
    rng = np.random.default_rng(3)
    p_values = [rank_correlation(rng.normal(size=12), rng.normal(size=12)).p for _ in range(40)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.15
    x = rng.normal(size=30)
    found = rank_correlation(x, -x + 0.2 * rng.normal(size=30))
    assert found.p < 0.001
    assert found.interval_95.high < -0.8


def test_checkpoints_of_one_trial_do_not_count_as_many():
    rng = np.random.default_rng(5)
    trial = np.repeat(np.arange(6), 5)
    loss, rate = (np.repeat(rng.normal(size=6), 5) + 0.01 * rng.normal(size=30) for _ in range(2))
    together, apart = rank_correlation(loss, rate, trial.tolist()), rank_correlation(loss, rate)
    assert together.rho == apart.rho
    assert together.groups == 6
    assert together.p > apart.p
    width = [one.interval_95.high - one.interval_95.low for one in (together, apart)]
    assert width[0] > width[1]
