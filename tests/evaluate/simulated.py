"""Policies as coins: how often a verdict errs, how often it sees a gain, and after how many episodes. Seeds are fixed."""

from __future__ import annotations

import functools

import numpy as np

from tendon.evaluate.betting import ALPHA, bar, wins_needed
from tendon.evaluate.confidence import (
    Outcomes,
    Pairs,
    attained_alpha,
    better_exact,
    difference_paired,
    mcnemar_exact,
    wilson,
)
from tendon.registry.alpha import next_alpha
from tendon.registry.gate import Contender, decide


@functools.cache
def promotes(both, only_first, only_second, neither):
    """What the gate itself says of such counts."""
    letters = [(True, True)] * both + [(True, False)] * only_first + [(False, True)] * only_second
    letters += [(False, False)] * neither
    one, other = (Outcomes({seed: pair[k] for seed, pair in enumerate(letters)}) for k in (0, 1))
    return decide(Contender("new", one), Contender("old", other)).promotes


def counts(generator, rate, champion_rate, n, times):
    """(both, only first, only second, neither) of so many comparisons."""
    chances = [rate * champion_rate, rate * (1 - champion_rate), (1 - rate) * champion_rate]
    return generator.multinomial(n, [*chances, 1 - sum(chances)], size=times)


def gate_error(rate, n, times, seed=0):
    """Share of comparisons of two equal policies that end with a promotion."""
    return np.mean([promotes(*row) for row in counts(np.random.default_rng(seed), rate, rate, n, times).tolist()])


def anytime(rate, champion_rate, budget, times, seed=0, alpha=ALPHA):
    """With a look after every pair: share called better, share called worse, mean number of pairs.

    The same stops as ``bet``, which a test holds, for all comparisons at once.
    """
    generator = np.random.default_rng(seed)
    first = generator.random((times, budget)) < rate
    second = generator.random((times, budget)) < champion_rate
    wins, losses = np.cumsum(first & ~second, 1), np.cumsum(second & ~first, 1)
    needed, needed_worse = (wins_needed(bar(level, budget), budget) for level in (alpha, ALPHA))
    decided, left = wins + losses, budget - 1 - np.arange(budget)
    better, worse = wins >= needed[decided], losses >= needed_worse[decided]
    hopeless = (wins + left < needed[decided + left]) & (losses + left < needed_worse[decided + left])
    stop = (better | worse | hopeless).argmax(1)
    stop[~(better | worse | hopeless).any(1)] = budget - 1
    rows = np.arange(times)
    return better[rows, stop].mean(), worse[rows, stop].mean(), (stop + 1).mean()


def exact_power(rate, champion_rate, n, times=20_000, seed=1):
    """How often McNemar's exact test of ``n`` pairs calls the better one better."""
    p = functools.cache(mcnemar_exact)
    rows = counts(np.random.default_rng(seed), rate, champion_rate, n, times).tolist()
    return np.mean([only > other and p(only, other) <= 2 * ALPHA for _, only, other, _ in rows])


def smallest(power_of, power, low, high):
    """The smallest n whose power is enough."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def ratio_to_exact(rate, champion_rate, power=0.95, times=20_000):
    """Expected pairs of the anytime test, as a share of what the exact test needs for the same power."""
    fixed = smallest(lambda n: exact_power(rate, champion_rate, n, times), power, 10, 1500)
    budget = smallest(lambda n: anytime(rate, champion_rate, n, times)[0], power, fixed, 2 * fixed)
    return anytime(rate, champion_rate, budget, times, seed=2)[2] / fixed


@functools.cache
def clear_of_zero(only_first, only_second, n, alpha):
    """Whether the paired interval at this level lies above 0."""
    pairs = Pairs(0, only_first, only_second, n - only_first - only_second)
    return difference_paired(pairs, 1 - 2 * alpha).low > 0


def year(generator, champion_rate, rate, n, better_from, nights=365, lifetime=0.05):
    """The first night that promotes a challenger not better than the champion, and the first that promotes a better one.

    Until the night ``better_from`` challengers are as good as the champion; 0: never better. None: it did not happen.
    """
    left, challenger, wrong = lifetime, 0, None
    for night in range(1, nights + 1):
        is_better, challenger = bool(better_from) and night >= better_from, challenger + 1
        alpha = next_alpha(challenger, left)
        (row,) = counts(generator, rate if is_better else champion_rate, champion_rate, n, 1).tolist()
        _, only_first, only_second, _ = row
        left -= attained_alpha(only_first + only_second, alpha)
        if better_exact(only_first, only_second) <= alpha and clear_of_zero(only_first, only_second, n, alpha):
            if is_better:
                return wrong, night
            wrong, left, challenger = wrong or night, lifetime, 0
    return wrong, None


def years(champion_rate, rate, n, better_from, times, seed=0, nights=365):
    """Share of years with a wrong promotion, and of those in which the better one came within 14 nights."""
    generator = np.random.default_rng(seed)
    ends = [year(generator, champion_rate, rate, n, better_from, nights) for _ in range(times)]
    found = [better is not None and better < better_from + 14 for _, better in ends]
    return np.mean([wrong is not None for wrong, _ in ends]), np.mean(found)


def wilson_coverage(rate, n):
    """How often Wilson's interval holds the true rate; exact, from the binomial distribution."""
    from math import comb

    chances = [comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]
    return sum(chance for k, chance in enumerate(chances) if wilson(k, n).low <= rate <= wilson(k, n).high)
