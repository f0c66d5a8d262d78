"""Many policies on the same seeds: every pair, with the chance of any wrong claim held at 5 %, and groups that share a letter.

Pure. A policy that was trained with several seeds is a configuration: its rate is the mean over them, and two
configurations are told apart by how much their trainings differ (Welch's t), not by the luck of one of them. Policies
with one training each are compared by McNemar's exact test on the seeds that both finished. Holm's correction holds the
error over all pairs; the interval of a difference is simultaneous for all of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tendon.evaluate.confidence import LEVEL, Interval, Outcomes, Pairs, difference_paired, mcnemar_exact, wilson


@dataclass(frozen=True)
class Entrant:
    """A configuration: what each of its trainings did on the same seeds."""

    name: str
    trainings: tuple[Outcomes, ...]

    @property
    def rates(self) -> list[float]:
        """Of each training that finished an episode."""
        return [one.successes / one.n for one in self.trainings if one.n]

    @property
    def rate(self) -> float:
        """Mean over the trainings; 0 when nothing was finished."""
        return sum(self.rates) / len(self.rates) if self.rates else 0.0


@dataclass(frozen=True)
class Standing:
    """One configuration among the others; those that share a letter cannot be told apart."""

    name: str
    rate: float
    interval_95: Interval
    trainings: int
    successes: int
    n: int
    crashed: int
    letters: str


@dataclass(frozen=True)
class Duel:
    """One pair: the first minus the second."""

    first: str
    second: str
    difference: float
    interval: Interval  # holds for all pairs at once with 95 %
    p: float  # of this pair alone
    p_adjusted: float  # over all pairs
    told_apart: bool
    test: str


@dataclass(frozen=True)
class Comparison:
    """All of them, best first."""

    standings: tuple[Standing, ...]
    duels: tuple[Duel, ...]
    level: float = LEVEL

    def sentence(self) -> str:
        """What it comes to, for a person."""
        best = self.standings[0]
        if len(self.standings) == 1:
            return f"{best.name} has nothing to be compared with"
        equals = [one.name for one in self.standings[1:] if set(one.letters) & set(best.letters)]
        if not equals:
            return f"{best.name} is better than all others"
        names = ", ".join(equals[:5]) + (f" and {len(equals) - 5} more" if len(equals) > 5 else "")
        return f"{best.name} leads, and cannot be told from {names}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {"sentence": self.sentence(), **asdict(self)}


def compare_many(entrants: Sequence[Entrant], level: float = LEVEL) -> Comparison:
    """Every pair of the entrants, told apart or not, with the chance of any wrong claim at most ``1 - level``.

    Example:
        >>> good, bad = Outcomes(dict.fromkeys(range(50), True)), Outcomes(dict.fromkeys(range(50), False))
        >>> [one.letters for one in compare_many([Entrant("x", (bad,)), Entrant("y", (good,))]).standings]
        ['a', 'b']
    """
    ordered = sorted(entrants, key=lambda one: (-one.rate, one.name))
    pairs = list(itertools.combinations(ordered, 2))
    simultaneous = 1 - (1 - level) / max(1, len(pairs))
    measured = [_measured(first, second, simultaneous) for first, second in pairs]
    adjusted = holm([p for p, *_ in measured])
    duels = tuple(
        Duel(first.name, second.name, difference, interval, p, p_holm, p_holm <= 1 - level, test)
        for (first, second), (p, difference, interval, test), p_holm in zip(pairs, measured, adjusted, strict=True)
    )
    apart = {frozenset((duel.first, duel.second)) for duel in duels if duel.told_apart}
    letters = group_letters([one.name for one in ordered], apart)
    return Comparison(tuple(_standing(one, letters[one.name], level) for one in ordered), duels, level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p values that hold over all of the claims, in the order given."""
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = largest
    return adjusted


def group_letters(names: Sequence[str], apart: set[frozenset[str]]) -> dict[str, str]:
    """Letters such that two names share one exactly when they are not told apart, ``a`` for the group of the first name.

    Example:
        >>> group_letters(["x", "y", "z"], {frozenset(("x", "z"))})
        {'x': 'a', 'y': 'ab', 'z': 'b'}
    """
    groups: list[frozenset[str]] = [frozenset(names)]
    for pair in sorted(apart, key=sorted):
        for group in [group for group in groups if pair <= group]:
            groups.remove(group)
            groups += [group - {name} for name in pair]
        groups = [one for one in dict.fromkeys(groups) if not any(one < other for other in groups)]
    place = {name: k for k, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(place[name] for name in group))
    return {name: "".join(_letter(k) for k, group in enumerate(groups) if name in group) for name in names}


def _letter(number: int) -> str:
    """A .. z, then a1 .. z1, ..."""
    round_number, letter = divmod(number, 26)
    return "abcdefghijklmnopqrstuvwxyz"[letter] + (str(round_number) if round_number else "")


def _standing(one: Entrant, letters: str, level: float) -> Standing:
    successes, n = sum(each.successes for each in one.trainings), sum(each.n for each in one.trainings)
    interval = wilson(successes, n, level)
    if len(one.rates) > 1:
        low, high = _spread(one.rates, level)
        interval = Interval(max(0.0, min(interval.low, low)), min(1.0, max(interval.high, high)))
    crashed = sum(each.crashed for each in one.trainings)
    return Standing(one.name, one.rate, interval, len(one.trainings), successes, n, crashed, letters)


def _measured(first: Entrant, second: Entrant, level: float) -> tuple[float, float, Interval, str]:
    """P value, difference, interval and the name of the test."""
    if len(first.trainings) == len(second.trainings) == 1:
        pairs = Pairs.of(first.trainings[0].by_seed, second.trainings[0].by_seed)
        p = mcnemar_exact(pairs.only_first, pairs.only_second)
        return p, pairs.difference, difference_paired(pairs, level), "McNemar's exact test on common seeds"
    difference = first.rate - second.rate
    if min(len(first.rates), len(second.rates)) < 2:
        return 1.0, difference, Interval(-1.0, 1.0), "none: one training says nothing of its configuration"
    variances = [_variance_of_mean(one) for one in (first, second)]
    error = math.sqrt(sum(variances))
    degrees = sum(variances) ** 2 / sum(
        variance**2 / (len(one.rates) - 1) for variance, one in zip(variances, (first, second), strict=True)
    )
    half = t_quantile(0.5 + level / 2, degrees) * error
    interval = Interval(max(-1.0, difference - half), min(1.0, difference + half))
    return 2 * t_tail(abs(difference) / error, degrees), difference, interval, "Welch's t over trainings"


def _variance_of_mean(one: Entrant) -> float:
    """Of the mean over trainings: how they differ, and never less than the episodes alone let them."""
    k, mean = len(one.rates), one.rate
    between = sum((rate - mean) ** 2 for rate in one.rates) / (k - 1) / k
    n, successes = sum(each.n for each in one.trainings), sum(each.successes for each in one.trainings)
    shrunk = (successes + 1) / (n + 2)
    return max(between, shrunk * (1 - shrunk) / n)


def _spread(rates: Sequence[float], level: float) -> tuple[float, float]:
    k, mean = len(rates), sum(rates) / len(rates)
    deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / (k - 1) / k)
    half = t_quantile(0.5 + level / 2, k - 1) * deviation
    return mean - half, mean + half


def t_tail(value: float, degrees: float) -> float:
    """The chance of Student's t above ``value`` (0 or more)."""
    return 0.5 * _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + value * value))


def t_quantile(share: float, degrees: float) -> float:
    """Below it lies ``share`` (above one half) of Student's t."""
    low, high = 0.0, 2.0
    while t_tail(high, degrees) > 1 - share:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > 1 - share else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    numerator, denominator = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    fraction = denominator
    for m in range(1, 400):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            denominator = 1 / _nonzero(1 + term * denominator)
            numerator = _nonzero(1 + term / numerator)
            fraction *= denominator * numerator
        if abs(denominator * numerator - 1) < 1e-14:
            break
    return front * fraction


def _nonzero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


def entrants_of(named: Mapping[str, tuple[str, Outcomes]]) -> list[Entrant]:
    """Policies by name, each with its configuration, as entrants: trainings of one configuration are one of them.

    A configuration of one training keeps that policy's name; of several it has the shortest name, with their number.
    """
    groups: dict[str, list[tuple[str, Outcomes]]] = {}
    for name, (configuration, outcomes) in named.items():
        groups.setdefault(configuration, []).append((name, outcomes))
    entrants = []
    for members in groups.values():
        names = sorted((name for name, _ in members), key=lambda name: (len(name), name))
        label = names[0] if len(members) == 1 else f"{names[0]} (mean of {len(members)} trainings)"
        entrants.append(Entrant(label, tuple(outcomes for _, outcomes in members)))
    return entrants
