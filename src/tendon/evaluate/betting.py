"""A test of two policies on the same seeds that may be looked at after every pair, and stops when it can tell.

Pure. Wealth starts at 1 and is bet on "the first is better" over the pairs in seed order; it is the mean over bets of
several sizes of the product of ``1 + bet * (difference - margin) / (1 + margin)``. While the first is not better by more
than the margin, wealth is a supermartingale: it reaches 1 / alpha at any time with probability alpha at most (Ville). The
other side bets on "the second is better" in the same way.

For successes and failures (and no margin) only pairs count on which just one of the two succeeded, and under "not better"
these are at most a fair coin. The chance to reach a bar within a budget of pairs is then known exactly, and the bar is
the lowest one that keeps alpha: about a tenth fewer episodes than 1 / alpha needs. A look that was paid for with one
budget may not go on with another.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tendon.evaluate.confidence import Outcomes

Decision = Literal["better", "worse", "budget", "open"]

NUM_BETS = 64
MOST_EXACT = 4000  # pairs of a budget whose bar is computed exactly; above, it is 1 / alpha
ALPHA = 0.025  # of each side

_BETS = (np.arange(NUM_BETS) + 0.5) / NUM_BETS
_WEIGHTS = _BETS * (1 - _BETS) ** 2  # most on middling gains: neither rate is known beforehand
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
_LOG_WIN, _LOG_LOSS = np.log1p(_BETS), np.log1p(-_BETS)


@dataclass(frozen=True)
class Look:
    """What was known after so many pairs."""

    pairs: int
    better: float  # wealth of the bet that the first is better
    worse: float  # wealth of the bet that the second is


@dataclass(frozen=True)
class Path:
    """The test over the pairs it was given, up to the pair at which it stopped."""

    decision: Decision  # open: more pairs are allowed and could tell
    looks: tuple[Look, ...]
    bar_better: float  # what ``better`` has to reach
    bar_worse: float
    budget: int

    @property
    def pairs(self) -> int:
        """How many pairs were looked at."""
        return len(self.looks)

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it: three numbers a pair."""
        return {
            "decision": self.decision,
            "budget": self.budget,
            "bar_better": self.bar_better,
            "bar_worse": self.bar_worse,
            "looks": [[look.pairs, look.better, look.worse] for look in self.looks],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Path:
        """From what ``to_dict`` made."""
        looks = tuple(Look(int(pairs), better, worse) for pairs, better, worse in values["looks"])
        return cls(values["decision"], looks, values["bar_better"], values["bar_worse"], values["budget"])


def bet(
    differences: Iterable[float],
    budget: int,
    *,
    alpha: float = ALPHA,
    alpha_worse: float = ALPHA,
    margin: float = 0.0,
    is_binary: bool = True,
) -> Path:
    """Look after every pair, and stop at the first that tells, at the budget, or when what is left could not tell.

    Args:
        differences: of each pair in seed order, what the first did minus what the second did, from -1 to 1: successes
            as 1 and failures as 0, or shares of a task that were done (partial progress).
        budget: how many pairs there can be at most.
        alpha: how often at most a first that is not better by more than ``margin`` is called better.
        alpha_worse: the same for worse, where the margin is 0.
        margin: what better means.
        is_binary: every difference is -1, 0 or 1; the bar is then lower.

    Example:
        >>> bet([1.0] * 12, 50).decision
        'better'
    """
    bars = [bar(alpha, budget, is_binary=is_binary and margin == 0.0), bar(alpha_worse, budget, is_binary=is_binary)]
    better, worse = _LOG_WEIGHTS.copy(), _LOG_WEIGHTS.copy()
    looks: list[Look] = []
    decision: Decision = "open"
    for difference in differences:
        if decision != "open" or len(looks) == budget:
            break
        if not -1.0 <= difference <= 1.0:
            raise ValueError(f"a difference of two shares is {difference}")
        better += np.log1p(_BETS * (difference - margin) / (1 + margin))
        worse += np.log1p(-_BETS * difference)
        looks.append(Look(len(looks) + 1, _sum(better), _sum(worse)))
        left = budget - len(looks)
        if looks[-1].better >= bars[0]:
            decision = "better"
        elif looks[-1].worse >= bars[1]:
            decision = "worse"
        elif left == 0 or (_best(better, left, margin) < bars[0] and _best(worse, left, 0.0) < bars[1]):
            decision = "budget"
    return Path(decision, tuple(looks), bars[0], bars[1], budget)


def paired_differences(
    first: Outcomes, second: Outcomes, seeds: Sequence[int], crashes_for_first: bool | None = None
) -> list[float]:
    """Of every seed, in the order of ``seeds``: success of the first minus success of the second.

    A seed that one of them did not finish is left out, or its crash is counted for the first, or against it.
    """
    one, other = dict(first.by_seed), dict(second.by_seed)
    if crashes_for_first is not None:
        one |= dict.fromkeys(first.crashed_seeds, crashes_for_first)
        other |= dict.fromkeys(second.crashed_seeds, not crashes_for_first)
    return [float(one[seed]) - float(other[seed]) for seed in seeds if seed in one and seed in other]


@functools.lru_cache(maxsize=256)
def bar(alpha: float, budget: int, *, is_binary: bool = True) -> float:
    """The wealth that tells, with an error of at most ``alpha`` over all looks at up to ``budget`` pairs."""
    if alpha <= 0:
        return sys.float_info.max  # JSON holds no infinity
    if not is_binary or budget > MOST_EXACT:
        return 1 / alpha
    low, high = 0.0, math.log(1 / alpha)  # Ville's own bar is always enough
    for _ in range(20):
        middle = (low + high) / 2
        if error_of(wins_needed(math.exp(middle), budget)) <= alpha:
            high = middle
        else:
            low = middle
    return math.exp(high)


def wins_needed(wealth: float, budget: int) -> NDArray[np.int64]:
    """For every number of decided pairs up to the budget, how many wins reach the wealth; more than there are: none do."""
    needed = np.zeros(budget + 1, np.int64)
    needed[0] = wins = 1
    for decided in range(1, budget + 1):
        # one more decided pair asks for the same number of wins or one more
        while wins <= decided and _log_wealth(wins, decided - wins) < math.log(wealth):
            wins += 1
        needed[decided] = wins
        wins = max(1, wins - 1)
    return needed


def error_of(needed: NDArray[np.int64]) -> float:
    """The chance of a fair coin to have at some time as many wins as ``needed`` says; exact."""
    chance = np.zeros(len(needed) + 1)  # by number of wins, of paths that have not got there
    chance[0], reached = 1.0, 0.0
    for decided in range(1, len(needed)):
        chance[1:] = (chance[1:] + chance[:-1]) / 2
        chance[0] /= 2
        wins = int(needed[decided])
        if wins <= decided:
            reached += float(chance[wins : decided + 1].sum())
            chance[wins:] = 0.0
    return reached


def _log_wealth(wins: int, losses: int) -> float:
    logs = _LOG_WEIGHTS + wins * _LOG_WIN + losses * _LOG_LOSS
    largest = float(logs.max())
    return largest + math.log(float(np.exp(logs - largest).sum()))


def _sum(logs: NDArray[np.float64]) -> float:
    """The wealth of all bets together; a number that JSON can hold."""
    return float(np.exp(np.minimum(logs, 700.0)).sum())


def _best(logs: NDArray[np.float64], left: int, margin: float) -> float:
    """The wealth if every pair that is left were won."""
    return _sum(logs + left * np.log1p(_BETS * (1 - margin) / (1 + margin)))
