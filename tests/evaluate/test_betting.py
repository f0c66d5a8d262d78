"""The anytime-valid test: what it may err, what it costs, and that simulations stop where it does."""

import json

import numpy as np
import pytest

from tendon.evaluate.betting import Path, bar, bet, error_of, paired_differences, wins_needed
from tendon.evaluate.confidence import Outcomes, attained_alpha, better_exact, mcnemar_exact
from tests.evaluate.simulated import anytime, gate_error, ratio_to_exact, wilson_coverage


@pytest.mark.parametrize("budget", [1, 7, 50, 200])
@pytest.mark.parametrize("alpha", [0.025, 1e-3])
def test_the_bar_spends_what_may_be_erred_and_no_more(budget, alpha):
    needed = wins_needed(bar(alpha, budget), budget)
    assert error_of(needed) <= alpha
    assert bar(alpha, budget) <= 1 / alpha
    if budget >= 50:
        assert error_of(needed) > 0.5 * alpha
    assert (np.diff(needed) >= 0).all()
    assert (np.diff(needed) <= 1).all()


def test_the_error_is_that_of_a_fair_coin_by_counting_all_paths():
    needed = np.array([1, 2, 3, 3, 3])  # three wins of three or four, and no other way
    paths = [[bool(bits >> k & 1) for k in range(4)] for bits in range(16)]
    reached = sum(any(sum(path[:m]) >= needed[m] for m in range(1, 5)) for path in paths)
    assert error_of(needed) == reached / 16


def test_clear_winners_losers_and_equals():
    assert bet([1.0] * 100, 100).decision == "better"
    assert bet([1.0] * 100, 100).pairs < 12
    assert bet([-1.0] * 100, 100).decision == "worse"
    assert bet([0.0] * 100, 100).decision == "budget"
    assert bet([0.0] * 100, 100).pairs < 100  # what is left could not tell
    assert bet([1.0, -1.0] * 50, 100).decision == "budget"
    assert bet([1.0] * 3, 100).decision == "open"
    assert bet([], 100).decision == "open"


def test_a_margin_asks_for_more():
    differences = ([1.0] * 3 + [0.0] * 17) * 20
    assert bet(differences, 400).decision == "better"
    assert bet(differences, 400, margin=0.05).pairs > bet(differences, 400).pairs
    assert bet(differences, 400, margin=0.15).decision == "budget"


def test_partial_progress_is_a_difference_of_shares():
    generator = np.random.default_rng(0)
    gains = np.clip(generator.normal(0.2, 0.3, 300), -1, 1)
    assert bet(gains, 300, is_binary=False).decision == "better"
    assert bet(-gains, 300, is_binary=False).decision == "worse"
    with pytest.raises(ValueError, match="difference"):
        bet([1.5], 10, is_binary=False)
    equal = [np.clip(generator.normal(0.0, 0.3, 60), -1, 1) for _ in range(200)]
    assert np.mean([bet(one, 60, is_binary=False).decision == "better" for one in equal]) <= 0.025


def test_an_error_rate_of_nothing_never_calls_anything_better():
    path = bet([1.0] * 50, 50, alpha=0.0)
    assert path.decision != "better"
    assert Path.from_dict(json.loads(json.dumps(path.to_dict(), allow_nan=False))) == path


def test_pairs_come_in_the_order_of_the_seeds_and_a_crash_is_left_out_or_counted():
    first = Outcomes({1: True, 2: False, 4: True}, 1, frozenset({3}))
    second = Outcomes({1: False, 2: True, 3: True, 4: True})
    assert paired_differences(first, second, [4, 2, 1, 3]) == [0.0, -1.0, 1.0]
    assert paired_differences(first, second, [1, 2, 3, 4], crashes_for_first=False) == [1.0, -1.0, -1.0, 0.0]
    assert paired_differences(first, second, [1, 2, 3, 4], crashes_for_first=True) == [1.0, -1.0, 0.0, 0.0]


def test_the_simulation_stops_where_the_test_stops():
    generator = np.random.default_rng(5)
    for budget in (20, 61):
        for _ in range(40):
            first, second = generator.random(budget) < 0.7, generator.random(budget) < 0.5
            path = bet(first.astype(float) - second, budget)
            wins, losses = int((first & ~second)[: path.pairs].sum()), int((second & ~first)[: path.pairs].sum())
            needed = wins_needed(bar(0.025, budget), budget)
            assert (path.decision == "better") == (wins >= needed[wins + losses])
            assert (path.decision == "worse") == (losses >= needed[wins + losses])


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("n", [50, 100])
def test_equal_policies_are_seldom_promoted(n, rate):
    assert gate_error(rate, n, 500) <= 0.05
    better, worse, _ = anytime(rate, rate, n, 2000)
    assert better + worse <= 0.05


def test_it_costs_far_fewer_episodes_than_the_exact_test():
    assert ratio_to_exact(0.85, 0.70, times=2000) <= 0.60


def test_wilson_holds_the_rate_nearly_as_often_as_it_says():
    assert all(wilson_coverage(rate, n) >= 0.92 for rate in (0.5, 0.7, 0.8, 0.95) for n in (50, 100, 200))


def test_one_sided_and_attained():
    assert better_exact(10, 2) == pytest.approx(mcnemar_exact(10, 2) / 2)
    assert better_exact(0, 0) == 1.0
    assert better_exact(2, 10) > 0.9
    assert attained_alpha(5, 0.025) == 0.0
    assert attained_alpha(6, 0.025) == 1 / 64
    assert all(better_exact(15 - k, k) <= 0.01 or better_exact(15 - k, k) > attained_alpha(15, 0.01) for k in range(8))
