"""How the error rate of a champion's lifetime is spent over its challengers: a share for each, which sums to all of it.

Pure. A champion that is asked every night would be replaced by chance in the end. So the chance that *any* challenger
which is not better takes its place is held at ``alpha``: each gets a part of what is left. A tenth of it goes fast, so
that the first challengers are judged nearly as if they were alone; the rest goes slowly and never ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

ALPHA = 0.05  # of a champion's lifetime
FAST_SHARE = 0.1
SLOW = 200  # challengers after which half of the slow part is spent
USUAL_GAIN = 0.10
POWER = 0.8


@dataclass(frozen=True)
class Allowance:
    """What one comparison may err, and what is left after it."""

    challenger: int  # the how manieth of this champion
    alpha: float  # of this comparison, one-sided
    lifetime: float
    left: float  # of the lifetime, when all of ``alpha`` is spent


def next_alpha(challenger: int, left: float) -> float:
    """What the challenger of this number (the first is 1) may err, of what is left of the lifetime.

    Example:
        >>> round(next_alpha(1, 0.05), 5)
        0.00272
    """
    return max(0.0, left) * _share(challenger) / _rest(challenger)


def episodes_needed(alpha: float, rate: float, gain: float = USUAL_GAIN, power: float = POWER) -> int:
    """About how many paired episodes see ``gain`` over a champion of ``rate`` with this chance; Connor's size for pairs.

    Taken as independent on each seed, which policies that do alike are not: they need fewer. 0: nothing is left to spend.
    """
    better = min(1.0, rate + gain)
    gain = better - rate
    if alpha <= 0 or gain <= 0:
        return 0
    discordance = better * (1 - rate) + rate * (1 - better)
    z, z_power = NormalDist().inv_cdf(1 - min(alpha, 0.49)), NormalDist().inv_cdf(power)
    noise = math.sqrt(max(0.0, discordance - gain**2))
    return math.ceil(((z * math.sqrt(discordance) + z_power * noise) / gain) ** 2)


def _share(challenger: int) -> float:
    slow = SLOW / ((SLOW + challenger - 1) * (SLOW + challenger))
    return FAST_SHARE / (challenger * (challenger + 1)) + (1 - FAST_SHARE) * slow


def _rest(challenger: int) -> float:
    """The shares of this challenger and all later ones."""
    return FAST_SHARE / challenger + (1 - FAST_SHARE) * SLOW / (SLOW + challenger - 1)
