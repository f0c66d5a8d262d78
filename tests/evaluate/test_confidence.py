"""Intervals against worked examples from the literature, coverage by simulation, and the selection rule."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendon.evaluate.confidence import (
    Interval,
    LeaderboardRow,
    Outcomes,
    Pairs,
    TrialScore,
    describe_rate,
    difference_paired,
    difference_unpaired,
    episodes_to_reach,
    episodes_to_tell,
    mcnemar_exact,
    rank_trials,
    wilson,
)


def discordant(only_first: int, only_second: int, n: int) -> Pairs:
    return Pairs(n - only_first - only_second, only_first, only_second, 0)


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_matches_newcombe(successes, n, expected):
    assert wilson(successes, n) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [  # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((10, 10, 0, 10), (0.6075, 1.0000)),
        ((7, 34, 1, 34), (0.0189, 0.3404)),  # Perondi 2004, in Fagerland et al. 2017, chapter 4
    ],
)
def test_unpaired_difference_matches_newcombe(counts, expected):
    assert difference_unpaired(*counts) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("only_first", "only_second", "n", "level", "expected"),
    [
        (9, 3, 32, 0.95, (-0.027, 0.390)),  # Tango 1998
        (0, 1, 44, 0.90, (-0.096, 0.037)),  # Tango 1998
        (16, 8, 86, 0.95, (-0.020, 0.207)),  # Agresti & Min 2005
        (1, 7, 21, 0.95, (-0.517, -0.026)),  # Bentur 2009, in Fagerland et al. 2014
        (6, 16, 161, 0.95, (-0.1240, -0.0054)),  # Cavo 2012, in Fagerland et al. 2017, chapter 8
        (25, 2, 102, 0.95, (0.139, 0.321)),  # Chang 2024
    ],
)
def test_paired_difference_matches_published_tango_intervals(only_first, only_second, n, level, expected):
    assert difference_paired(discordant(only_first, only_second, n), level) == pytest.approx(expected, abs=6e-4)


def test_mcnemar_exact_matches_published_values():
    assert mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=1e-6)  # Cavo 2012
    assert mcnemar_exact(1, 7) == pytest.approx(0.0703, abs=1e-4)  # Bentur 2009
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 10) == 2 / 2**10
    assert mcnemar_exact(5000, 5000) == 1.0  # no overflow


def test_paired_interval_leaves_out_zero_exactly_when_the_score_test_rejects():
    z = 1.959963984540054
    for only_first in range(25):
        for only_second in range(25):
            low, high = difference_paired(discordant(only_first, only_second, 60))
            total = only_first + only_second
            rejects = total > 0 and (only_first - only_second) ** 2 / total > z * z
            assert (low > 0 or high < 0) == rejects, (only_first, only_second)


def test_paired_interval_mirrors_when_the_two_change_places():
    low, high = difference_paired(discordant(9, 3, 40))
    assert difference_paired(discordant(3, 9, 40)) == pytest.approx((-high, -low))


@pytest.mark.parametrize(("n", "rates"), [(50, (0.9, 0.9)), (50, (0.95, 0.85)), (100, (0.7, 0.6)), (300, (0.96, 0.9))])
@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_coverage_of_the_paired_interval_is_near_95_percent(n, rates, correlation):
    first, second = rates
    both = first * second + correlation * math.sqrt(first * (1 - first) * second * (1 - second))
    both = min(both, first, second)
    cells = [both, first - both, second - both, 1 - first - second + both]
    tables, repeats = np.unique(np.random.default_rng(7).multinomial(n, cells, 4000), axis=0, return_counts=True)
    covered = falsely_better = 0
    for table, count in zip(tables.tolist(), repeats.tolist(), strict=True):
        low, high = difference_paired(Pairs(*table))
        covered += count * (low <= first - second <= high)
        falsely_better += count * (low > first - second)
    assert 0.935 <= covered / 4000 <= 0.985
    assert falsely_better / 4000 <= 0.035  # nominal 0.025


def test_coverage_of_wilson():
    for rate, n in [(0.95, 50), (0.8, 50), (0.98, 300)]:
        draws = np.random.default_rng(3).binomial(n, rate, 4000).tolist()
        covered = sum(low <= rate <= high for low, high in (wilson(s, n) for s in draws))
        assert 0.93 <= covered / 4000 <= 0.985


def test_intervals_at_the_edges():
    assert wilson(0, 0) == (0, 1)
    assert wilson(50, 50).high == 1.0
    assert wilson(0, 50).low == 0.0
    assert difference_paired(Pairs(0, 0, 0, 0)) == (-1, 1)
    assert difference_paired(Pairs(0, 20, 0, 0)).high == 1.0
    assert difference_paired(Pairs(0, 0, 20, 0)).low == -1.0
    low, high = difference_paired(Pairs(50, 0, 0, 0))
    assert low == pytest.approx(-high)
    assert high > 0
    assert difference_unpaired(0, 0, 3, 4) == pytest.approx((0 - wilson(3, 4).high, 1 - wilson(3, 4).low))
    with pytest.raises(ValueError, match="5 successes of 4"):
        wilson(5, 4)


def test_intervals_shrink_with_more_episodes():
    widths = [high - low for low, high in (difference_paired(Pairs(60 * k, 20 * k, 10 * k, 10 * k)) for k in (1, 3, 9))]
    assert widths == sorted(widths, reverse=True)


def test_outcomes_leave_crashes_out_and_pairs_match_by_seed():
    rows = [
        {"seed": 1, "status": "success"},
        {"seed": 2, "status": "failure"},
        {"seed": 3, "status": "crashed"},
        {"seed": 4, "status": "success"},
    ]
    outcomes = Outcomes.of(rows)
    assert (outcomes.n, outcomes.successes, outcomes.crashed) == (3, 2, 1)
    assert Pairs.of(outcomes.by_seed, {1: False, 2: False, 3: True, 9: True}) == Pairs(0, 1, 0, 1)


def test_episodes_to_tell_is_enough_four_times_in_five():
    pairs = Pairs(62, 16, 10, 12)
    more = episodes_to_tell(pairs)
    assert more is not None
    assert more > 0
    cells = np.array([62, 16, 10, 12]) / 100
    tables = np.random.default_rng(5).multinomial(100 + more, cells, 1000).tolist()
    told = sum(difference_paired(Pairs(*table)).low > 0 for table in tables)
    assert 0.75 <= told / 1000 <= 0.86


def test_episodes_to_tell_says_when_it_is_told_or_hopeless():
    assert episodes_to_tell(Pairs(50, 30, 2, 18)) == 0
    assert episodes_to_tell(Pairs(80, 10, 10, 0)) is None  # nothing points either way
    assert episodes_to_tell(Pairs(100, 0, 0, 0)) is None
    assert episodes_to_tell(Pairs(500, 251, 249, 0)) is None  # far too many
    assert episodes_to_tell(Pairs(0, 0, 0, 0)) is None
    small, large = episodes_to_tell(Pairs(70, 18, 12, 0)), episodes_to_tell(Pairs(70, 20, 10, 0))
    assert small is not None
    assert large is not None
    assert small > large


def test_episodes_to_reach():
    assert episodes_to_reach(45, 50, 0.5) == 0
    assert episodes_to_reach(27, 50, 0.5) is not None
    assert episodes_to_reach(5, 10, 0.5) is None
    assert episodes_to_reach(0, 0, 0.5) is None


def test_a_rate_never_stands_alone():
    assert describe_rate(252, 300, 0, "confirmation") == "0.84 (252/300, 95% 0.79-0.88, confirmation seeds)"
    assert describe_rate(49, 49, 1, "selection") == "1.00 (49/49, 95% 0.93-1.00, 1 crashed, selection seeds)"
    assert describe_rate(0, 0, 3, "selection") == "no rate (no episode finished, 3 crashed, selection seeds)"


def test_trials_are_ranked_by_rate_then_steps_then_name_and_the_dead_are_listed_last():
    rows = rank_trials(
        [
            TrialScore("crashed_everywhere", crashed=50),
            TrialScore("slow", 45, 50, 0, mean_steps=80.0),
            TrialScore("b_same", 45, 50, 0, mean_steps=60.0),
            TrialScore("a_same", 45, 50, 0, mean_steps=60.0),
            TrialScore("a_dead", failed_step="train", error="error: loss is NaN"),
            TrialScore("fewer_but_higher", 19, 20, 0, mean_steps=90.0),
        ]
    )
    names = ["fewer_but_higher", "a_same", "b_same", "slow", "a_dead", "crashed_everywhere"]
    assert [row.name for row in rows] == names
    assert [row.rank for row in rows] == [1, 2, 3, 4, 0, 0]
    assert rows[0].behind is None
    assert rows[1].behind == pytest.approx(-0.05)
    assert rows[1].behind_95 == difference_unpaired(45, 50, 19, 20)
    assert (rows[4].failed_step, rows[4].error) == ("train", "error: loss is NaN")
    assert (rows[5].failed_step, rows[5].error, rows[5].crashed) == ("evaluate", "no episode finished", 50)
    assert rank_trials([]) == ()


def test_a_trial_score_comes_from_the_outcome_and_the_summary():
    summary = {"successes": 45, "n": 49, "crashed": 1, "mean_steps": 61.5, "block": "selection"}
    outcome = {"trial": "a", "status": "ok", "failed_step": "", "error": ""}
    assert TrialScore.of(outcome, summary) == TrialScore("a", 45, 49, 1, 61.5)
    assert TrialScore.of(outcome, None).failed_step == "evaluate"
    failed = {"trial": "a", "status": "failed", "failed_step": "export", "error": "error: e"}
    assert TrialScore.of(failed, None) == TrialScore("a", failed_step="export", error="error: e")


counts = st.integers(0, 60)


@given(counts, counts, counts, counts)
def test_paired_interval_holds_its_estimate_and_stays_in_range(both, only_first, only_second, neither):
    pairs = Pairs(both, only_first, only_second, neither)
    low, high = difference_paired(pairs)
    assert -1 <= low <= pairs.difference + 1e-9
    assert pairs.difference - 1e-9 <= high <= 1
    wider_low, wider_high = difference_paired(pairs, level=0.99)
    assert wider_low <= low + 1e-9
    assert high <= wider_high + 1e-9


@given(counts, counts, counts, counts)
def test_unpaired_interval_holds_its_estimate_and_mirrors(successes_1, failures_1, successes_2, failures_2):
    n_1, n_2 = successes_1 + failures_1, successes_2 + failures_2
    low, high = difference_unpaired(successes_1, n_1, successes_2, n_2)
    assert -1 <= low <= high <= 1
    assert difference_unpaired(successes_2, n_2, successes_1, n_1) == pytest.approx((-high, -low))
    if n_1 and n_2:
        assert low - 1e-12 <= successes_1 / n_1 - successes_2 / n_2 <= high + 1e-12


def test_leaderboard_rows_survive_json():
    rows = rank_trials(
        [TrialScore("a", 9, 10), TrialScore("b", 8, 10), TrialScore("c", failed_step="export", error="e")]
    )
    again = [LeaderboardRow.from_dict(json.loads(json.dumps(dataclasses.asdict(row)))) for row in rows]
    assert tuple(again) == rows
    assert isinstance(again[0].interval_95, Interval)
