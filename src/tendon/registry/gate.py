"""Whether the challenger takes the champion's place, as a rule and a sentence.

Pure: outcomes of both policies on the confirmation seeds come in, a Verdict goes out. Called by steps.confirm;
steps.promote acts on the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tendon.evaluate.confidence import (
    Interval,
    Outcomes,
    Pairs,
    describe_rate,
    difference_paired,
    episodes_to_reach,
    episodes_to_tell,
    mcnemar_exact,
    wilson,
)

Decision = Literal["promote", "keep", "cannot_tell", "first"]


@dataclass(frozen=True)
class Contender:
    """A policy and what it did on the confirmation seeds."""

    policy_digest: str
    outcomes: Outcomes


@dataclass(frozen=True)
class Verdict:
    """The decision, the sentence a person reads, the rule in words, and every number the two rest on."""

    decision: Decision
    sentence: str
    rule: str
    numbers: dict[str, float]

    @property
    def promotes(self) -> bool:
        """True when the challenger becomes the champion."""
        return self.decision in ("promote", "first")

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """From what ``to_dict`` made."""
        return cls(values["decision"], values["sentence"], values["rule"], dict(values["numbers"]))


def decide(challenger: Contender, champion: Contender | None, *, floor: float = 0.5, margin: float = 0.0) -> Verdict:
    """Compare on the same seeds; without a champion, hold the challenger's lower bound against ``floor``.

    Args:
        challenger: the winner of the selection.
        champion: the policy it would replace; None when there is none.
        floor: a first champion needs a lower bound of at least this.
        margin: how much better than the champion the challenger must be, as a difference of rates.
    """
    if champion is None:
        return _decide_first(challenger.outcomes, floor)
    pairs = Pairs.of(challenger.outcomes.by_seed, champion.outcomes.by_seed)
    interval = difference_paired(pairs)
    rule = _paired_rule(margin)
    numbers = _numbers(challenger.outcomes, champion.outcomes, pairs, interval, margin)
    if challenger.policy_digest == champion.policy_digest:
        rate = _rate(challenger.outcomes)
        return Verdict("keep", f"challenger is already the champion, {rate}: nothing to promote", rule, numbers)
    if pairs.n == 0:
        sentence = "cannot tell: there is no seed that challenger and champion both finished: keep the champion"
        return Verdict("cannot_tell", sentence, rule, numbers)
    decimals = _decimals(pairs.difference, *interval, *(share - margin for share in interval))
    evidence = _evidence(pairs, interval, decimals, challenger.outcomes.crashed + champion.outcomes.crashed)
    gap = _points(abs(pairs.difference), decimals)
    worst, best = (
        difference_paired(_counted(challenger, champion, False)),
        difference_paired(_counted(challenger, champion, True)),
    )
    if (
        (worst.low <= margin < interval.low)
        or (interval.high < 0 <= best.high)
        or (interval.high < margin <= best.high)
    ):
        numbers |= {"worst_low": worst.low, "best_high": best.high}
        sentence = f"cannot tell challenger from champion {evidence}: the crashed episodes could turn the verdict: keep the champion"
        return Verdict("cannot_tell", sentence, rule, numbers)
    if interval.low > margin:
        return Verdict("promote", f"challenger beats champion by {gap} {evidence}: promote", rule, numbers)
    if interval.high < 0:
        sentence = f"challenger is worse than champion by {gap} {evidence}: keep the champion"
        return Verdict("keep", sentence, rule, numbers)
    if interval.high < margin:
        needed = f"not better by the {_points(margin, _decimals(margin))} that the rule asks for"
        return Verdict("keep", f"challenger is {needed} {evidence}: keep the champion", rule, numbers)
    more = episodes_to_tell(pairs, margin)
    numbers["more_episodes"] = float(more) if more is not None else -1.0
    sentence = f"cannot tell challenger from champion {evidence}; {_outlook(more, pairs, margin)}: keep the champion"
    return Verdict("cannot_tell", sentence, rule, numbers)


def _decide_first(challenger: Outcomes, floor: float) -> Verdict:
    low, high = wilson(challenger.successes, challenger.n)
    rule = f"without a champion: promote when the lower end of the 95% interval is at least {floor:g}"
    numbers = {
        "successes": float(challenger.successes),
        "n": float(challenger.n),
        "crashed": float(challenger.crashed),
        "low": low,
        "high": high,
        "floor": floor,
    }
    rate = _rate(challenger)
    worst = wilson(challenger.successes, challenger.n + challenger.crashed).low
    best = wilson(challenger.successes + challenger.crashed, challenger.n + challenger.crashed).high
    if challenger.n and (worst < floor <= low or high < floor <= best):
        unknown = f"cannot tell whether the success rate is at least {floor:g}: {rate}"
        sentence = f"{unknown}; the crashed episodes could turn it: promote nothing"
        return Verdict("cannot_tell", sentence, rule, numbers | {"worst_low": worst, "best_high": best})
    if challenger.n and low >= floor:
        sentence = f"first champion: success rate {rate}, and its lower end is at least {floor:g}: promote"
        return Verdict("first", sentence, rule, numbers)
    if high < floor:
        sentence = f"no champion yet, and success rate {rate} is below {floor:g}: promote nothing"
        return Verdict("keep", sentence, rule, numbers)
    more = episodes_to_reach(challenger.successes, challenger.n, floor)
    numbers["more_episodes"] = float(more) if more is not None else -1.0
    outlook = f"about {more:,} more episodes needed" if more else "more episodes of this policy would hardly tell"
    sentence = f"cannot tell whether the success rate is at least {floor:g}: {rate}; {outlook}: promote nothing"
    return Verdict("cannot_tell", sentence, rule, numbers)


def _counted(challenger: Contender, champion: Contender, for_challenger: bool) -> Pairs:
    """All seeds as pairs: what crashed counted for the challenger, or against it."""
    ours, theirs = challenger.outcomes, champion.outcomes
    pairs = Pairs.of(
        {seed: ours.by_seed.get(seed, for_challenger) for seed in {*ours.by_seed, *theirs.by_seed}},
        {seed: theirs.by_seed.get(seed, not for_challenger) for seed in {*ours.by_seed, *theirs.by_seed}},
    )
    only_ours_crashed = len(theirs.by_seed.keys() - ours.by_seed.keys())
    both_crashed = max(0, ours.crashed - only_ours_crashed)
    ends = {"only_first": both_crashed} if for_challenger else {"only_second": both_crashed}
    return replace(pairs, **{name: getattr(pairs, name) + num for name, num in ends.items()})


def _paired_rule(margin: float) -> str:
    bound = _points(margin, _decimals(margin)) if margin else "0"
    return (
        f"promote when the paired 95% interval of (challenger - champion) lies above {bound}, "
        f"keep the champion when it lies below, otherwise cannot tell"
    )


def _numbers(
    challenger: Outcomes, champion: Outcomes, pairs: Pairs, interval: Interval, margin: float
) -> dict[str, float]:
    return {
        "successes": float(challenger.successes),
        "n": float(challenger.n),
        "crashed": float(challenger.crashed),
        "champion_successes": float(champion.successes),
        "champion_n": float(champion.n),
        "champion_crashed": float(champion.crashed),
        "pairs": float(pairs.n),
        "only_challenger": float(pairs.only_first),
        "only_champion": float(pairs.only_second),
        "difference": pairs.difference,
        "low": interval.low,
        "high": interval.high,
        "mcnemar_exact_p": mcnemar_exact(pairs.only_first, pairs.only_second),
        "margin": margin,
    }


def _evidence(pairs: Pairs, interval: Interval, decimals: int, crashed: int) -> str:
    """``(95% 3 to 21, paired, 300 seeds)``, with the crashes that shortened it."""
    ends = f"95% {_number(interval.low, decimals)} to {_number(interval.high, decimals)}"
    return f"({ends}, paired, {pairs.n:,} seeds{f', {crashed} crashed' if crashed else ''})"


def _outlook(more: int | None, pairs: Pairs, margin: float) -> str:
    if more:
        return f"about {more:,} more episodes needed"
    if pairs.only_first == pairs.only_second == 0:
        return "both did the same on every seed"
    if pairs.difference == margin:
        return "nothing seen so far points either way"
    return "the difference is so small that more than 10,000 more episodes would be needed"


def _rate(outcomes: Outcomes) -> str:
    return describe_rate(outcomes.successes, outcomes.n, outcomes.crashed, "confirmation")


def _decimals(*shares: float) -> int:
    """As few decimals of a percentage point as leave each number a digit that is not 0."""
    for decimals in (0, 1, 2):
        if all(abs(share) < 1e-9 or abs(100 * share) > 0.999 * 10**-decimals for share in shares):
            return decimals
    return 3


def _number(share: float, decimals: int) -> str:
    return f"{round(100 * share, decimals) + 0.0:.{decimals}f}"


def _points(share: float, decimals: int) -> str:
    number = _number(share, decimals)
    return f"{number} {'point' if number == '1' else 'points'}"
