"""Episodes ranked by how much speaks against them, and how many of them are left out. Pure.

Three signals, each as a distance from the usual one in robust standard deviations (median and median distance): the loss of a policy
that never saw the episode, how its gradient points against those of the other held-out episodes, and findings of the data checks.
Episodes are left out automatically only where two groups can be seen; otherwise only what is far beyond everything else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LEFT_OUT = 0.5  # of the episodes, automatically
TWO_GROUPS = 0.8  # of the variance lies between two groups where there are two (of one bell 0.64, of one box 0.75)
FAR = 8.0  # robust standard deviations of the loss: far beyond everything else
CLIPPED = 3.0  # no signal says more than this
OF_INFLUENCE = 0.5  # it is noisier than the loss
OF_A_FINDING = 1.5  # what each kind of finding counts
RARE = 0.1  # of the episodes: a kind of finding that names more is usual
FEWEST = 6  # episodes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Signals:
    """What was measured of one episode."""

    episode_id: str
    length: int
    untrained: float  # loss of the network before training
    loss: float  # of policies that never saw it
    influence: float  # -1 to 1: how its gradient points along those of the other held-out episodes
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranked:
    """An episode with its score (higher is worse), and why it is left out."""

    episode_id: str
    length: int
    loss: float
    loss_left: float  # of the untrained network's loss; the difference where losses may be negative
    influence: float
    findings: tuple[str, ...]
    score: float
    left_out: bool = False
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Ranked:
        """From what ``to_dict`` made."""
        return cls(**{**values, "findings": tuple(values["findings"]), "reasons": tuple(values["reasons"])})


def rank_episodes(signals: Sequence[Signals], leave_out: float | None = None) -> tuple[tuple[Ranked, ...], str]:
    """The episodes, the worst first, and how it was decided which ones are left out.

    Args:
        signals: one for each episode.
        leave_out: share of the episodes, or from 1 on their number; None: as many as form a group of their own.

    Example:
        >>> usual = [Signals(f"demo_{k}", 9, 1.0, 0.1 + k / 100, 0.9) for k in range(9)]
        >>> rank_episodes([*usual, Signals("bad", 9, 1.0, 5.0, -0.8)])[0][0].episode_id
        'bad'
    """
    before, after = (np.array([getattr(one, key) for one in signals]) for key in ("untrained", "loss"))
    is_ratio = bool((before > 0).all() and (after >= 0).all())
    left = after / before if is_ratio else after - before  # of what there was to learn
    beyond = _distance(left)
    of_loss = np.minimum(beyond, CLIPPED)
    of_influence = np.minimum(_distance(-np.array([one.influence for one in signals])), CLIPPED)
    scores = of_loss + OF_INFLUENCE * of_influence + _of_findings(signals)
    count, how = _count(scores, int((beyond > FAR).sum()), leave_out)
    order = sorted(range(len(signals)), key=lambda k: (-scores[k], signals[k].episode_id))
    ranked = []
    for place, k in enumerate(order):
        one = signals[k]
        row = Ranked(
            one.episode_id,
            one.length,
            one.loss,
            float(left[k]),
            one.influence,
            one.findings,
            float(scores[k]),
        )
        out = place < count
        ranked.append(replace(row, left_out=out, reasons=_reasons(row, of_loss[k], of_influence[k]) if out else ()))
    return tuple(ranked), how


def _of_findings(signals: Sequence[Signals]) -> Floats:
    """What findings count; a kind that names many episodes says how the data are, not which of them are bad."""
    kinds = [{text.partition(":")[0] for text in one.findings} for one in signals]
    number = Counter(kind for of_one in kinds for kind in of_one)
    rare = {kind for kind, count in number.items() if count <= max(1, RARE * len(signals))}
    counted: Floats = np.minimum(np.array([OF_A_FINDING * len(of_one & rare) for of_one in kinds]), CLIPPED)
    return counted


def _distance(values: Floats) -> Floats:
    """From the median, in robust standard deviations, less than usual counts as usual."""
    centre = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - centre))
    spread = max(spread, 1e-3 * max(1.0, abs(float(centre))))
    distance: Floats = np.maximum((values - centre) / spread, 0.0)
    return distance


def _count(scores: Floats, far: int, leave_out: float | None) -> tuple[int, str]:
    """How many are left out, and by which rule."""
    total = len(scores)
    if leave_out is not None:
        count = min(total - 1, int(leave_out) if leave_out >= 1 else round(leave_out * total))
        return count, f"the worst {count} of {total}, as asked"
    if total < FEWEST:
        return 0, f"nothing is left out of {total} episodes: too few to say what is usual"
    ordered = np.sort(scores)[::-1]
    count, share = _two_groups(ordered)
    if share >= TWO_GROUPS:
        return (
            count,
            f"{count} of {total} form a group of their own ({share:.0%} of the variance of the scores lies between the two)",
        )
    if far:
        return min(far, int(MOST_LEFT_OUT * total)), f"the scores form one group; {far} of {total} lie far beyond it"
    return 0, f"the scores of {total} episodes form one group, and none lies far beyond it"


def _two_groups(ordered: Floats) -> tuple[int, float]:
    """The first group of the best split in two, at most half, and the share of the variance that lies between the groups."""
    total = float(((ordered - ordered.mean()) ** 2).sum())
    best, best_share = 0, 0.0
    for count in range(1, int(MOST_LEFT_OUT * len(ordered)) + 1):
        first, second = ordered[:count], ordered[count:]
        between = count * (first.mean() - ordered.mean()) ** 2 + len(second) * (second.mean() - ordered.mean()) ** 2
        share = float(between) / total if total > 0 else 0.0
        if share > best_share:
            best, best_share = count, share
    return best, best_share


def _reasons(row: Ranked, of_loss: float, of_influence: float) -> tuple[str, ...]:
    reasons = []
    if of_loss > 1:
        reasons.append(f"what the others teach leaves {row.loss_left:.2g} of its loss, more than of most episodes")
    if of_influence > 1:
        against = "against" if row.influence < 0 else "less along"
        reasons.append(f"its gradient points {against} those of the others (cosine {row.influence:+.2f})")
    return (*reasons, *row.findings) or (f"its score is {row.score:.2g}, among the highest",)
