"""Many policies: letters, family-wise error, means over training seeds."""

import itertools
import json
import random

import numpy as np
import pytest

from tendon.evaluate.confidence import Outcomes
from tendon.evaluate.many import Entrant, compare_many, entrants_of, group_letters, holm, t_quantile, t_tail


def policy(generator, rate, n=100):
    return Outcomes({seed: bool(won) for seed, won in enumerate(generator.random(n) < rate)})


def test_students_t_is_that_of_the_tables():
    assert t_tail(0.0, 5) == pytest.approx(0.5)
    assert t_tail(2.571, 5) == pytest.approx(0.025, abs=2e-5)
    assert t_tail(12.706, 1) == pytest.approx(0.025, abs=2e-5)
    assert t_quantile(0.975, 2) == pytest.approx(4.3027, abs=1e-4)
    assert t_quantile(0.975, 30) == pytest.approx(2.0423, abs=1e-4)
    assert t_quantile(0.975, 1e6) == pytest.approx(1.95996, abs=1e-4)


def test_holm_is_ordered_and_never_smaller():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_two_share_a_letter_exactly_when_they_are_not_told_apart():
    generator = np.random.default_rng(0)
    for _ in range(60):
        names = [f"p{k}" for k in range(int(generator.integers(2, 9)))]
        pairs = [frozenset(pair) for pair in itertools.combinations(names, 2)]
        apart = {pair for pair in pairs if generator.random() < 0.4}
        letters = group_letters(names, apart)
        assert all(bool(set(letters[a]) & set(letters[b])) == (frozenset((a, b)) not in apart)
                   for a, b in itertools.combinations(names, 2))  # fmt: skip
        assert letters[names[0]].startswith("a")


def test_clear_groups_and_a_sentence():
    generator = np.random.default_rng(1)
    rates = {"a": 0.95, "b": 0.93, "c": 0.5, "d": 0.1}
    found = compare_many([Entrant(name, (policy(generator, rate, 200),)) for name, rate in rates.items()])
    assert [one.letters for one in found.standings] == ["a", "a", "b", "c"]
    assert "leads, and cannot be told from" in found.sentence()
    assert len(found.duels) == 6
    assert all(duel.interval.low <= duel.difference <= duel.interval.high for duel in found.duels)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["standings"][0]["letters"] == "a"


def test_the_chance_of_any_wrong_claim_among_six_equals_is_held():
    generator = np.random.default_rng(2)
    wrong = 0
    for _ in range(300):
        found = compare_many([Entrant(f"p{k}", (policy(generator, 0.7, 60),)) for k in range(6)])
        wrong += any(duel.told_apart for duel in found.duels)
    assert wrong / 300 <= 0.05


def test_a_configuration_is_not_its_lucky_seed():
    """One training of ``x`` at 0.95 and two at 0.55 is no better than three at 0.7, though its best one seems to be."""
    generator = np.random.default_rng(3)
    lucky = Entrant("x", tuple(policy(generator, rate) for rate in (0.95, 0.55, 0.55)))
    steady = Entrant("y", tuple(policy(generator, 0.7) for _ in range(3)))
    alone = compare_many([Entrant("x", lucky.trainings[:1]), Entrant("y", steady.trainings[:1])])
    assert alone.duels[0].told_apart
    both = compare_many([lucky, steady])
    assert not both.duels[0].told_apart
    assert both.standings[0].trainings == 3
    (wide,) = [one.interval_95 for one in both.standings if one.name == "x"]
    assert wide.high - wide.low > 0.4
    one_against_three = compare_many([Entrant("x", lucky.trainings[:1]), steady])
    assert "one training says nothing" in one_against_three.duels[0].test


def test_equal_configurations_with_lucky_seeds_are_seldom_told_apart():
    generator, wrong = np.random.default_rng(4), 0
    for _ in range(300):
        entrants = [Entrant(name, tuple(policy(generator, generator.choice([0.5, 0.7, 0.9]), 50) for _ in range(4)))
                    for name in "xyz"]  # fmt: skip
        wrong += any(duel.told_apart for duel in compare_many(entrants).duels)
    assert wrong / 300 <= 0.06


def test_trainings_of_one_configuration_are_one_entrant():
    generator = np.random.default_rng(5)
    named = {name: (group, policy(generator, 0.5)) for name, group in {"s1": "g", "s22": "g", "other": "h"}.items()}
    assert [(one.name, len(one.trainings)) for one in entrants_of(named)] == [
        ("s1 (mean of 2 trainings)", 2),
        ("other", 1),
    ]


def test_nothing_finished_and_one_alone():
    empty = Entrant("x", (Outcomes({}, 5),))
    found = compare_many([empty])
    assert found.standings[0].letters == "a"
    assert found.sentence() == "x has nothing to be compared with"
    assert not compare_many([empty, Entrant("y", (Outcomes({1: True}),))]).duels[0].told_apart


def test_letters_means_and_pairs_agree_whatever_comes_in():
    """Configurations of one to five trainings, with crashes: means, letters and pairs say the same thing, in JSON too."""
    rng = random.Random(29)
    for _ in range(25):
        entrants = []
        for number in range(rng.randrange(2, 7)):
            rate, trainings = rng.random(), []
            for _ in range(rng.choice([1, 1, 3, 5])):
                own = min(1.0, max(0.0, rng.gauss(rate, 0.08)))
                crashed = frozenset(seed for seed in range(37) if rng.random() < 0.05)
                won = {seed: rng.random() < own for seed in range(37) if seed not in crashed}
                trainings.append(Outcomes(won, len(crashed), crashed))
            entrants.append(Entrant(f"c{number}", tuple(trainings)))
        found = compare_many(entrants)
        by_name = {one.name: one for one in found.standings}
        for entrant in entrants:
            standing = by_name[entrant.name]
            rates = [one.successes / one.n for one in entrant.trainings]
            assert standing.rate == pytest.approx(sum(rates) / len(rates))
            assert standing.interval_95.low <= standing.rate <= standing.interval_95.high
            assert standing.trainings == len(entrant.trainings)
        assert [one.rate for one in found.standings] == sorted((one.rate for one in found.standings), reverse=True)
        for duel in found.duels:
            shared = set(by_name[duel.first].letters) & set(by_name[duel.second].letters)
            assert bool(shared) != duel.told_apart
            assert duel.p_adjusted >= duel.p
        kept = json.loads(json.dumps(found.to_dict()))
        assert [one["letters"] for one in kept["standings"]] == [one.letters for one in found.standings]
        assert kept["sentence"] == found.sentence()
