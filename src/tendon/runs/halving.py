"""Successive halving: short trainings first, and only what may still win is trained on. Pure.

After each rung the best part of the trials goes on, so the steps that a sweep takes at most are known before: 60 % of all
are saved with sixteen trials. Where half of the trials showed nothing at the first rung, a score there says little of the
end: the second rung then keeps more of them, and the third fewer. Else a trial also ends from the second rung on when it is
worse than the leader beyond a wide interval of their difference on the same seeds; three stay, since a leader may fall.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tendon.evaluate.confidence import Outcomes, Pairs, describe_rate, difference_paired

SHARES = (5 / 36, 15 / 36, 22 / 36)  # of the steps of a whole training, after which a rung is evaluated
KEPT = (8 / 16, 4 / 16, 3 / 16)  # of all trials go on at most after each rung
KEPT_WHERE_LATE = (8 / 16, 6 / 16, 2 / 16)  # the same where half of the trials showed nothing at the first rung
NOTHING = 0.04  # a rate of success up to which a trial shows nothing yet
LEVEL = 0.999  # of the interval that a leader must be clear of
FEWEST = 3  # trials that an interval leaves

Scores = Mapping[str, Outcomes]  # of the trials at a rung


@dataclass(frozen=True)
class Pruned:
    """A trial that goes on no more, and why."""

    name: str
    reason: str


def rung_steps(offline_steps: int, rung: int) -> int:
    """The step at which the rung of this number (from 1) pauses; after the last rung 0: to the end.

    Example:
        >>> [rung_steps(720, rung) for rung in (1, 2, 3, 4)]
        [100, 300, 440, 0]
    """
    return max(1, round(SHARES[rung - 1] * offline_steps)) if 1 <= rung <= len(SHARES) else 0


def survivors(rungs: Sequence[Scores]) -> tuple[list[str], list[Pruned]]:
    """Which trials go on after the last of these rungs, best first, and which do not.

    Args:
        rungs: What the trials scored at the first rung and at each after it.
    """
    results = rungs[-1]
    ordered = sorted(results, key=lambda name: (-_rate(results[name]), name))
    if not ordered:
        return [], []
    leader = ordered[0]
    is_late = _is_late(rungs[0])
    room = _room(len(rungs[0]), len(rungs), is_late=is_late)
    by_interval = len(rungs) > 1 and not is_late
    kept, pruned = [leader], []
    for place, name in enumerate(ordered[1:], start=1):
        rates = f"{_described(results[name])}, the leader {leader} {_described(results[leader])}"
        if place >= room:
            pruned.append(Pruned(name, f"not among the best {room} of {len(ordered)}: {rates}"))
        elif by_interval and len(kept) >= FEWEST and _is_worse(results[name], results[leader]):
            pruned.append(Pruned(name, f"worse beyond the interval of the difference: {rates}"))
        else:
            kept.append(name)
    return kept, pruned


def most_steps(offline_steps: int, num_trials: int) -> int:
    """The steps that a halved sweep takes at most, of all trials together."""
    return max(_steps(offline_steps, num_trials, is_late) for is_late in (False, True))


def share_saved(offline_steps: int, trained_to: Sequence[int]) -> float:
    """How much of the steps of whole trainings was not taken."""
    return 1 - sum(trained_to) / (offline_steps * len(trained_to))


def _steps(offline_steps: int, num_trials: int, is_late: bool) -> int:
    total, before, going = 0, 0, num_trials
    for rung in range(1, len(SHARES) + 1):
        step = rung_steps(offline_steps, rung)
        total, before, going = total + going * (step - before), step, _room(num_trials, rung, is_late=is_late)
    return total + going * (offline_steps - before)


def _room(num_trials: int, rung: int, *, is_late: bool) -> int:
    """How many of all trials go on at most after a rung."""
    return max(1, math.ceil(num_trials * (KEPT_WHERE_LATE if is_late else KEPT)[rung - 1]))


def _is_late(first: Scores) -> bool:
    """Whether half of the trials showed nothing at the first rung."""
    return 2 * sum(_rate(outcomes) <= NOTHING for outcomes in first.values()) >= len(first)


def _is_worse(outcomes: Outcomes, leader: Outcomes) -> bool:
    return difference_paired(Pairs.of(leader.by_seed, outcomes.by_seed), LEVEL).low > 0


def _rate(outcomes: Outcomes) -> float:
    return outcomes.successes / outcomes.n if outcomes.n else -1.0


def _described(outcomes: Outcomes) -> str:
    return describe_rate(outcomes.successes, outcomes.n, outcomes.crashed)
