"""Successive halving: short trainings first, and only what may still win is trained on. Pure.

After each rung a trial is pruned when it is far worse than the leader, beyond a wide interval of their difference on the
same seeds (it may only be slow to learn); and of those that are left the best part goes on. So the steps that a sweep
takes at most are known before: 60 % of all are saved with sixteen trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tendon.evaluate.confidence import Outcomes, Pairs, describe_rate, difference_paired

SHARES = (1 / 6, 1 / 2)  # of the steps of a whole training, after which a rung is evaluated
KEPT = (1 / 2, 1 / 4)  # of the trials of a rung go on at most
LEVEL = 0.999  # of the interval that a leader must be clear of


@dataclass(frozen=True)
class Pruned:
    """A trial that goes on no more, and why."""

    name: str
    reason: str


def rung_steps(offline_steps: int, rung: int) -> int:
    """The step at which the rung of this number (from 1) pauses; after the last rung 0: to the end.

    Example:
        >>> [rung_steps(900, rung) for rung in (1, 2, 3)]
        [150, 450, 0]
    """
    return max(1, round(SHARES[rung - 1] * offline_steps)) if 1 <= rung <= len(SHARES) else 0


def survivors(results: Mapping[str, Outcomes], rung: int) -> tuple[list[str], list[Pruned]]:
    """Which trials go on, best first, and which do not."""
    ordered = sorted(results, key=lambda name: (-_rate(results[name]), name))
    if not ordered:
        return [], []
    leader = ordered[0]
    room = max(1, math.ceil(len(ordered) * KEPT[rung - 1]))
    kept, pruned = [leader], []
    for name in ordered[1:]:
        gap = difference_paired(Pairs.of(results[leader].by_seed, results[name].by_seed), LEVEL)
        rates = f"{_said(results[name])}, the leader {leader} {_said(results[leader])}"
        if gap.low > 0:
            pruned.append(Pruned(name, f"worse beyond the interval of the difference: {rates}"))
        elif len(kept) == room:
            pruned.append(Pruned(name, f"not among the best {room} of {len(ordered)}: {rates}"))
        else:
            kept.append(name)
    return kept, pruned


def most_steps(offline_steps: int, num_trials: int) -> int:
    """The steps that a halved sweep takes at most, of all trials together."""
    total, before, going = 0, 0, num_trials
    for rung in range(1, len(SHARES) + 1):
        at = rung_steps(offline_steps, rung)
        total, before, going = total + going * (at - before), at, max(1, math.ceil(going * KEPT[rung - 1]))
    return total + going * (offline_steps - before)


def share_saved(offline_steps: int, trained_to: Sequence[int]) -> float:
    """How much of the steps of whole trainings was not taken."""
    return 1 - sum(trained_to) / (offline_steps * len(trained_to))


def _rate(outcomes: Outcomes) -> float:
    return outcomes.successes / outcomes.n if outcomes.n else -1.0


def _said(outcomes: Outcomes) -> str:
    return describe_rate(outcomes.successes, outcomes.n, outcomes.crashed)
