"""Whether the challenger takes the champion's place, as a rule and a sentence.

Pure: outcomes of both policies on the confirmation seeds come in, a Verdict goes out. Called by steps.confirm;
steps.promote acts on the decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tendon.evaluate.betting import ALPHA, Path, bet, paired_differences
from tendon.evaluate.confidence import (
    Interval,
    Outcomes,
    Pairs,
    better_exact,
    describe_rate,
    difference_paired,
    episodes_to_reach,
    episodes_to_tell,
    mcnemar_exact,
    wilson,
)
from tendon.registry.alpha import Allowance

Decision = Literal["promote", "keep", "cannot_tell", "first"]
LEAST_ALPHA = 1e-12  # below, nothing is left to spend


@dataclass(frozen=True)
class Contender:
    """A policy and what it did on the confirmation seeds."""

    policy_digest: str
    outcomes: Outcomes


@dataclass(frozen=True)
class Looks:
    """A look after every pair, in the order of the seeds, at most ``budget`` of them."""

    seeds: Sequence[int]
    budget: int


@dataclass(frozen=True)
class Verdict:
    """The decision, the sentence a person reads, the rule in words, and every number the two rest on."""

    decision: Decision
    sentence: str
    rule: str
    numbers: dict[str, float]
    path: dict[str, Any] = field(default_factory=dict)  # of a test that looked after every pair, as betting.Path has it

    @property
    def promotes(self) -> bool:
        """True when the challenger becomes the champion."""
        return self.decision in ("promote", "first")

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """From what ``to_dict`` made, also before there were paths."""
        numbers, path = dict(values["numbers"]), dict(values.get("path", {}))
        return cls(values["decision"], values["sentence"], values["rule"], numbers, path)


def decide(
    challenger: Contender,
    champion: Contender | None,
    *,
    floor: float = 0.5,
    margin: float = 0.0,
    allowance: Allowance | None = None,
    looks: Looks | None = None,
) -> Verdict:
    """Compare on the same seeds; without a champion, hold the challenger's lower bound against ``floor``.

    A crash tells nothing of a policy: its pair is left out, and "better" and "worse" must hold too when every crash is
    counted for the one and for the other.

    Args:
        challenger: the winner of the selection.
        champion: the policy it would replace; None when there is none.
        floor: a first champion needs a lower bound of at least this.
        margin: how much better than the champion the challenger must be, as a difference of rates.
        allowance: what this comparison may err, of the champion's lifetime; None: it stands alone, 2.5 % each side.
        looks: the test looks after every pair and stops when it can tell; None: all pairs are looked at once.
    """
    if champion is None:
        return _decide_first(challenger.outcomes, floor)
    return _Comparison(challenger, champion, margin, allowance, looks).verdict()


class _Comparison:
    """One challenger beside one champion; every sentence is made here."""

    def __init__(
        self,
        challenger: Contender,
        champion: Contender,
        margin: float,
        allowance: Allowance | None,
        looks: Looks | None,
    ) -> None:
        self.challenger, self.champion = challenger, champion
        self.margin, self.allowance, self.looks = margin, allowance, looks
        self.alpha = allowance.alpha if allowance is not None else ALPHA
        self.path = self._walked(None)
        self.pairs = Pairs.of(challenger.outcomes.by_seed, champion.outcomes.by_seed)
        self.interval = difference_paired(self.pairs)
        self.crashed = challenger.outcomes.crashed + champion.outcomes.crashed
        self.rule = _paired_rule(margin, allowance, self.path)
        self.numbers = self._numbers()

    def verdict(self) -> Verdict:
        """The decision with its reason; the true one when it cannot tell."""
        if self.challenger.policy_digest == self.champion.policy_digest:
            rate = _rate(self.challenger.outcomes)
            return self._keep(f"challenger is already the champion, {rate}: nothing to promote")
        if self.pairs.n == 0:
            return self._cannot_tell("there is no seed that challenger and champion both finished", evidence=False)
        decimals = _decimals(self.pairs.difference, *self.interval, *(share - self.margin for share in self.interval))
        self.evidence = _evidence(self.pairs, self.interval, decimals, self.crashed)
        gap = _points(abs(self.pairs.difference), decimals)
        if self._is_better():
            if not self.crashed or self._is_better(crashes_for_challenger=False):
                sentence = f"challenger beats champion by {gap} {self.evidence}: promote"
                return Verdict("promote", sentence, self.rule, self.numbers, self._path())
            return self._cannot_tell(
                f"it would be better by {gap}, but not if the {self.crashed} crashed were failures of the challenger "
                "and successes of the champion"
            )
        if self._is_worse():
            if not self.crashed or self._is_worse(crashes_for_challenger=True):
                return self._keep(f"challenger is worse than champion by {gap} {self.evidence}: keep the champion")
            return self._cannot_tell(
                f"it would be worse by {gap}, but not if the {self.crashed} crashed were successes of the challenger "
                "and failures of the champion"
            )
        if self.path is None and self.interval.high < self.margin:
            needed = f"not better by the {_points(self.margin, _decimals(self.margin))} that the rule asks for"
            return self._keep(f"challenger is {needed} {self.evidence}: keep the champion")
        return self._cannot_tell(self._reason())

    def _is_better(self, crashes_for_challenger: bool | None = None) -> bool:
        path = self._walked(crashes_for_challenger)
        if path is not None:
            return path.decision == "better"
        pairs = self._counted(crashes_for_challenger)
        if self.alpha < LEAST_ALPHA:
            return False
        interval = difference_paired(pairs, 1 - 2 * self.alpha)
        return interval.low > self.margin and _p(pairs) <= self.alpha

    def _is_worse(self, crashes_for_challenger: bool | None = None) -> bool:
        path = self._walked(crashes_for_challenger)
        if path is not None:
            return path.decision == "worse"
        pairs = self._counted(crashes_for_challenger)
        return difference_paired(pairs).high < 0 and better_exact(pairs.only_second, pairs.only_first) <= ALPHA

    def _counted(self, crashes_for_challenger: bool | None) -> Pairs:
        """The pairs; None leaves those out that crashed."""
        if crashes_for_challenger is None:
            return self.pairs
        return Pairs.with_crashes(self.challenger.outcomes, self.champion.outcomes, for_first=crashes_for_challenger)

    def _walked(self, crashes_for_challenger: bool | None) -> Path | None:
        """The bets over the pairs in seed order."""
        if self.looks is None:
            return None
        one, other = self.challenger.outcomes, self.champion.outcomes
        differences = paired_differences(one, other, self.looks.seeds, crashes_for_challenger)
        return bet(differences, self.looks.budget, alpha=self.alpha, margin=self.margin)

    def _reason(self) -> str:
        """Why it cannot be told, though nothing crashed."""
        if self.alpha < LEAST_ALPHA:
            return "the error rate of this champion's lifetime is spent, and no challenger can replace it any more"
        level = 1 - 2 * self.alpha
        more = episodes_to_tell(self.pairs, self.margin, level)
        self.numbers["more_episodes"] = float(more) if more else -1.0
        if self.path is not None:
            outlook = self._outlook(more) if more != 0 else "what is left of the budget could not tell"
            return f"stopped after {self.path.pairs:,} of at most {self.path.budget:,} pairs; {outlook}"
        clear = self.interval.low > self.margin
        if clear and self.allowance is not None and _p(self.pairs) > self.alpha:
            bar = f"exact p {_p(self.pairs):.2g}, needed {self.alpha:.2g} of challenger {self.allowance.challenger}"
            return f"the interval is clear, but a champion that is challenged often asks for more: {bar}" + (
                f"; {self._outlook(more)}" if more else ""
            )
        if more == 0:
            return f"the interval is clear, the exact test is not: p {_p(self.pairs):.2g}, needed {self.alpha:.2g}"
        return self._outlook(more)

    def _outlook(self, more: int | None) -> str:
        return _outlook(more, self.pairs, self.margin)

    def _cannot_tell(self, reason: str, *, evidence: bool = True) -> Verdict:
        if evidence:
            sentence = f"cannot tell challenger from champion {self.evidence}; {reason}: keep the champion"
        else:
            sentence = f"cannot tell: {reason}: keep the champion"
        return Verdict("cannot_tell", sentence, self.rule, self.numbers, self._path())

    def _keep(self, sentence: str) -> Verdict:
        return Verdict("keep", sentence, self.rule, self.numbers, self._path())

    def _path(self) -> dict[str, Any]:
        return self.path.to_dict() if self.path is not None else {}

    def _numbers(self) -> dict[str, float]:
        one, other, pairs = self.challenger.outcomes, self.champion.outcomes, self.pairs
        numbers = {
            "successes": float(one.successes),
            "n": float(one.n),
            "crashed": float(one.crashed),
            "champion_successes": float(other.successes),
            "champion_n": float(other.n),
            "champion_crashed": float(other.crashed),
            "pairs": float(pairs.n),
            "only_challenger": float(pairs.only_first),
            "only_champion": float(pairs.only_second),
            "difference": pairs.difference,
            "low": self.interval.low,
            "high": self.interval.high,
            "mcnemar_exact_p": mcnemar_exact(pairs.only_first, pairs.only_second),
            "margin": self.margin,
            "alpha": self.alpha,
        }
        if self.allowance is not None:
            numbers |= {
                "challenger": float(self.allowance.challenger),
                "alpha_lifetime": self.allowance.lifetime,
                "alpha_left": self.allowance.left,
            }
        return numbers


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


def _paired_rule(margin: float, allowance: Allowance | None, path: Path | None) -> str:
    bound = _points(margin, _decimals(margin)) if margin else "0"
    if path is not None:
        rule = (
            "look after every pair; promote when the bet that the challenger is better "
            f"{f'by {bound} ' if margin else ''}has grown {path.bar_better:,.0f}-fold, "
            f"keep the champion when the opposite bet has grown {path.bar_worse:,.0f}-fold, otherwise cannot tell"
        )
    elif allowance is None:
        rule = (
            f"promote when the paired 95% interval of (challenger - champion) lies above {bound} and the exact test says "
            "so too, keep the champion when it lies below, otherwise cannot tell"
        )
    else:
        rule = (
            f"promote when the paired {100 - 200 * allowance.alpha:.5g}% interval of (challenger - champion) lies above "
            f"{bound} and the exact test says so too, keep the champion when the 95% one lies below, otherwise cannot tell"
        )
    if allowance is None:
        return rule
    return (
        f"{rule}; challenger {allowance.challenger} of this champion may err with {allowance.alpha:.2g}, "
        f"{allowance.left:.2g} of {allowance.lifetime:g} are left for all later ones"
    )


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


def _p(pairs: Pairs) -> float:
    return better_exact(pairs.only_first, pairs.only_second)


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
