"""The error rate of a champion's lifetime."""

import pytest

from tendon.registry.alpha import episodes_needed, next_alpha
from tests.evaluate.simulated import years


def test_all_of_it_is_spent_and_never_more():
    left = 0.05
    for challenger in range(1, 100_000):
        left -= next_alpha(challenger, left)
    assert 0 < left < 0.001


def test_the_first_is_judged_nearly_alone_and_the_later_ones_not_at_nothing():
    assert next_alpha(1, 0.05) > 0.0025
    assert next_alpha(400, 0.03) > 2e-5


def test_a_year_of_equal_challengers_and_of_better_ones():
    """The full numbers: make bench ROWS=verdict."""
    assert years(0.8, 0.8, 200, 0, 40)[0] <= 0.05
    assert years(0.8, 0.9, 200, 1, 100, nights=14)[1] >= 0.9
    assert years(0.8, 0.9, 200, 180, 40, nights=193)[1] >= 0.7


def test_how_many_episodes_a_gain_needs():
    assert episodes_needed(0.025, 0.8) == pytest.approx(200, rel=0.05)
    assert episodes_needed(1e-4, 0.8) > 2 * episodes_needed(0.025, 0.8)
    assert episodes_needed(0.0, 0.8) == 0
    assert episodes_needed(0.025, 1.0) == 0
