"""Whenever the gate cannot tell, what it says is true: over thousands of random outcomes, every number in the sentence is checked."""

import random
import re

import pytest

from tendon.evaluate.confidence import (
    Outcomes,
    Pairs,
    better_exact,
    difference_paired,
    episodes_to_reach,
    episodes_to_tell,
)
from tendon.registry.alpha import Allowance
from tendon.registry.gate import LEAST_ALPHA, Contender, Looks, decide


def drawn(rng, n, rate, other_rate, crash_rate):
    """Two policies on the same seeds, with crashes, of which the outcomes hang together."""
    one, other, crashed = {}, {}, [set(), set()]
    for seed in range(n):
        luck, agree = rng.random(), rng.random() < 0.6
        for k, (table, share) in enumerate(((one, rate), (other, other_rate))):
            if rng.random() < crash_rate:
                crashed[k].add(seed)
            else:
                table[seed] = (luck if agree else rng.random()) < share
    return tuple(Outcomes(table, len(lost), frozenset(lost)) for table, lost in zip((one, other), crashed, strict=True))


def true_reasons(sentence, challenger, champion, margin, alpha, path):
    """How many of the claims of a sentence were checked; each must hold."""
    pairs = Pairs.of(challenger.by_seed, champion.by_seed)
    checked = 0
    if "there is no seed" in sentence:
        assert pairs.n == 0
        return 1
    level, p = 1 - 2 * alpha, better_exact(pairs.only_first, pairs.only_second)
    if needed := re.search(r"about ([\d,]+) more episodes needed", sentence):
        assert int(needed[1].replace(",", "")) == episodes_to_tell(pairs, margin, level) > 0
        checked += 1
    if "the interval is clear" in sentence:
        assert difference_paired(pairs).low > margin
        checked += 1
        values = re.search(r"p ([\de.+-]+), needed ([\de.+-]+)", sentence)
        assert values
        assert (float(values[1]), float(values[2].rstrip(";"))) == (float(f"{p:.2g}"), float(f"{alpha:.2g}"))
        assert p > alpha
    if "did the same on every seed" in sentence:
        assert pairs.only_first == pairs.only_second == 0
        checked += 1
    if "points either way" in sentence:
        assert pairs.difference == pytest.approx(margin)
        checked += 1
    if "if the" in sentence and "crashed" in sentence and "it would be" in sentence:
        better = "it would be better" in sentence
        turned = Pairs.with_crashes(challenger, champion, for_first=not better)
        ends = difference_paired(turned, level if better else 0.95)
        wins = (turned.only_first, turned.only_second) if better else (turned.only_second, turned.only_first)
        if path is None:
            clear = ends.low > margin if better else ends.high < 0
            assert not (clear and better_exact(*wins) <= (alpha if better else 0.025))
        checked += 1
    if "is spent" in sentence:
        assert alpha < LEAST_ALPHA
        checked += 1
    if "stopped after" in sentence:
        assert path
        stopped, budget = (
            int(x.replace(",", "")) for x in re.search(r"after ([\d,]+) of at most ([\d,]+)", sentence).groups()
        )
        assert stopped <= budget
        checked += 1
    if "more than 10,000" in sentence:
        assert episodes_to_tell(pairs, margin, level) is None
        checked += 1
    return checked


@pytest.mark.parametrize("seed", range(4))
def test_every_reason_is_true(seed):
    rng = random.Random(f"reasons {seed}")
    told = 0
    for _ in range(350):
        n = rng.choice([1, 2, 7, 23, 60, 180])
        rate, other = rng.random(), rng.random()
        other = rate if rng.random() < 0.4 else other
        challenger, champion = drawn(rng, n, rate, other, rng.choice([0, 0, 0.03, 0.2, 1.0 if n < 3 else 0.1]))
        margin = rng.choice([0.0, 0.0, 0.03, 0.1])
        alpha = rng.choice([0.025, 0.0131, 0.0007, 1e-13])
        allowance = rng.choice([None, Allowance(rng.randrange(1, 400), alpha, 0.05, 0.01)])
        looks = Looks(range(n), n + rng.choice([0, 40])) if rng.random() < 0.3 and alpha > 1e-9 else None
        verdict = decide(
            Contender("a", challenger), Contender("b", champion), margin=margin, allowance=allowance, looks=looks
        )
        if verdict.decision == "cannot_tell":
            told += 1
            spent = allowance.alpha if allowance else 0.025
            checked = true_reasons(verdict.sentence, challenger, champion, margin, spent, verdict.path or None)
            assert checked, f"no reason that can be checked: {verdict.sentence}"
        else:
            assert "cannot tell" not in verdict.sentence
    assert told > 60


def test_the_first_champions_reason_is_true():
    rng = random.Random("first")
    for _ in range(400):
        n, floor = rng.choice([1, 5, 19, 77, 240]), rng.choice([0.35, 0.5, 0.81])
        challenger, _ = drawn(rng, n, rng.random(), 0.5, rng.choice([0, 0, 0.05]))
        verdict = decide(Contender("a", challenger), None, floor=floor)
        needed = re.search(r"about ([\d,]+) more episodes", verdict.sentence)
        if needed:
            more = episodes_to_reach(challenger.successes, challenger.n, floor)
            assert int(needed[1].replace(",", "")) == more
        if "crashed episodes could turn it" in verdict.sentence:
            assert challenger.crashed
        if verdict.decision == "cannot_tell":
            assert needed or "crashed episodes" in verdict.sentence or "would hardly tell" in verdict.sentence
