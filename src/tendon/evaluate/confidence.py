"""What counts of successes support: intervals, a paired test, how many episodes would tell, the order of trials.

Pure: counts and outcomes come in, numbers go out. Called by rollout, select, confirm, the gate and the report.
One interval for one rate (Wilson), one for two unpaired rates (Newcombe's hybrid score), one for two policies on the
same seeds (Tango's score interval: it leaves out 0 exactly when McNemar's score test rejects, and its coverage stays
near 95 % when both rates are near 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

LEVEL = 0.95
POWER = 0.8
FAR_TOO_MANY_EPISODES = 10_000


class Interval(NamedTuple):
    """Two ends; a plain pair in JSON."""

    low: float
    high: float


@dataclass(frozen=True)
class Outcomes:
    """What one policy did on a block of seeds: success or failure per finished seed, and the seeds that crashed."""

    by_seed: Mapping[int, bool]
    crashed: int = 0
    crashed_seeds: frozenset[int] = frozenset()

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Outcomes:
        """From the rows of episodes.jsonl; a crash is neither a success nor a failure."""
        by_seed: dict[int, bool] = {}
        crashed = set()
        for row in rows:
            if row["status"] == "crashed":
                crashed.add(int(row["seed"]))
            else:
                by_seed[int(row["seed"])] = row["status"] == "success"
        return cls(by_seed, len(crashed), frozenset(crashed))

    @property
    def n(self) -> int:
        """Episodes that finished."""
        return len(self.by_seed)

    @property
    def successes(self) -> int:
        """Episodes that succeeded."""
        return sum(self.by_seed.values())


@dataclass(frozen=True)
class Pairs:
    """Two policies on the seeds that both of them finished."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, first: Mapping[int, bool], second: Mapping[int, bool]) -> Pairs:
        """Match by seed; a seed that one of the two did not finish is left out."""
        counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
        for seed in first.keys() & second.keys():
            counts[first[seed], second[seed]] += 1
        return cls(counts[True, True], counts[True, False], counts[False, True], counts[False, False])

    @classmethod
    def with_crashes(cls, first: Outcomes, second: Outcomes, *, for_first: bool) -> Pairs:
        """Every seed that one of the two finished or crashed on, a crash counted for the first of them, or against it."""
        seeds = (first.by_seed.keys() | first.crashed_seeds) & (second.by_seed.keys() | second.crashed_seeds)
        pairs = cls.of(
            {seed: first.by_seed.get(seed, for_first) for seed in seeds},
            {seed: second.by_seed.get(seed, not for_first) for seed in seeds},
        )
        nameless = sum(one.crashed - len(one.crashed_seeds) for one in (first, second))  # of tables without their seeds
        if for_first:
            return cls(pairs.both, pairs.only_first + nameless, pairs.only_second, pairs.neither)
        return cls(pairs.both, pairs.only_first, pairs.only_second + nameless, pairs.neither)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """Success rate of the first minus that of the second; 0 when there is no pair."""
        return (self.only_first - self.only_second) / self.n if self.n else 0.0


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a success rate; (0, 1) when nothing was seen."""
    _check_counts(successes, n)
    if n == 0:
        return Interval(0.0, 1.0)
    z = _z(level)
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(0.0 if successes == 0 else middle - half, 1.0 if successes == n else middle + half)


def difference_unpaired(successes_1: int, n_1: int, successes_2: int, n_2: int, level: float = LEVEL) -> Interval:
    """Newcombe's hybrid score interval of ``rate 1 - rate 2``, two policies on episodes that are not matched."""
    low_1, high_1 = wilson(successes_1, n_1, level)
    low_2, high_2 = wilson(successes_2, n_2, level)
    if n_1 == 0 or n_2 == 0:
        return Interval(low_1 - high_2, high_1 - low_2)
    rate_1, rate_2 = successes_1 / n_1, successes_2 / n_2
    difference = rate_1 - rate_2
    down = math.hypot(rate_1 - low_1, high_2 - rate_2)
    up = math.hypot(high_1 - rate_1, rate_2 - low_2)
    return Interval(difference - down, difference + up)


def difference_paired(pairs: Pairs, level: float = LEVEL) -> Interval:
    """Tango's score interval of ``rate of the first - rate of the second`` on the same seeds; (-1, 1) for none."""
    if pairs.n == 0:
        return Interval(-1.0, 1.0)
    z = _z(level)

    def score(difference: float) -> float:
        return _tango_score(difference, pairs.only_first, pairs.only_second, pairs.n)

    low = -1.0 if pairs.only_second == pairs.n else _crossing(score, z, -1.0, pairs.difference)
    high = 1.0 if pairs.only_first == pairs.n else _crossing(score, -z, pairs.difference, 1.0)
    return Interval(low, high)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p value of "both succeed equally often", from the seeds on which just one of the two succeeded."""
    discordant = only_first + only_second
    ways = tail = 1  # of C(discordant, k), exact integers
    for k in range(1, min(only_first, only_second) + 1):
        ways = ways * (discordant - k + 1) // k
        tail += ways
    return 1.0 if 2 * tail >= 1 << discordant else 2 * tail / (1 << discordant)


def better_exact(only_first: int, only_second: int) -> float:
    """One-sided p value of "the first is not better", from the seeds on which just one of the two succeeded."""
    discordant = only_first + only_second
    ways = tail = 1  # of C(discordant, k), exact integers
    for k in range(1, only_second + 1):
        ways = ways * (discordant - k + 1) // k
        tail += ways
    return min(1.0, tail / (1 << discordant))


def attained_alpha(discordant: int, alpha: float) -> float:
    """The largest p value up to ``alpha`` that ``better_exact`` can give for so many: what a test at alpha errs at most."""
    ways, tail, fits, whole = 1, 1, 0, 1 << discordant
    for k in range(discordant + 1):
        if k:
            ways = ways * (discordant - k + 1) // k
            tail += ways
        if tail / whole > alpha:
            break
        fits = tail
    return fits / whole


def episodes_to_tell(
    pairs: Pairs, margin: float = 0.0, level: float = LEVEL, power: float = POWER, most: int = FAR_TOO_MANY_EPISODES
) -> int | None:
    """About how many more paired episodes would tell, if the two go on as they were seen.

    "Tell" means an interval clear of ``margin`` in 4 of 5 repetitions (``power``); Connor's sample size for pairs.

    Returns:
        0 when the interval is clear already; None when what was seen points nowhere or would need more than ``most``.
    """
    low, high = difference_paired(pairs, level)
    if not low <= margin <= high:
        return 0
    gap = pairs.difference - margin
    if pairs.n == 0 or gap == 0:
        return None
    discordance = (pairs.only_first + pairs.only_second) / pairs.n
    noise = math.sqrt(max(0.0, discordance - pairs.difference**2))
    total = ((_z(level) * math.sqrt(discordance) + _z_power(power) * noise) / gap) ** 2
    more = max(1, math.ceil(total) - pairs.n)
    return more if more <= most else None


def episodes_to_reach(
    successes: int, n: int, floor: float, level: float = LEVEL, power: float = POWER, most: int = FAR_TOO_MANY_EPISODES
) -> int | None:
    """About how many more episodes would tell a single rate from ``floor``; 0 and None as in episodes_to_tell."""
    low, high = wilson(successes, n, level)
    if not low < floor < high:
        return 0
    if n == 0 or successes / n == floor:
        return None
    rate = successes / n
    spread = _z(level) * math.sqrt(floor * (1 - floor)) + _z_power(power) * math.sqrt(rate * (1 - rate))
    more = max(1, math.ceil((spread / (rate - floor)) ** 2) - n)
    return more if more <= most else None


def describe_rate(successes: int, n: int, crashed: int = 0, block: str = "") -> str:
    """A success rate as it may be shown: ``0.84 (252/300, 95% 0.79-0.88, 2 crashed, confirmation seeds)``."""
    if n == 0:
        parts = ["no episode finished"]
        head = "no rate"
    else:
        low, high = wilson(successes, n)
        parts = [f"{successes}/{n}", f"95% {low:.2f}-{high:.2f}"]
        head = f"{successes / n:.2f}"
    if crashed:
        parts.append(f"{crashed} crashed")
    if block:
        parts.append(f"{block} seeds")
    return f"{head} ({', '.join(parts)})"


@dataclass(frozen=True)
class TrialScore:
    """One trial as the selection rule sees it; ``failed_step`` empty: it went through to the end."""

    name: str
    successes: int = 0
    n: int = 0
    crashed: int = 0
    mean_steps: float = 0.0
    failed_step: str = ""
    error: str = ""
    configuration_rate: float | None = None  # mean over its trainings with several seeds; None: it is the only one
    letters: str = ""  # trials that share one cannot be told apart

    @classmethod
    def of(cls, outcome: Mapping[str, Any], summary: Mapping[str, Any] | None) -> TrialScore:
        """From a trial's outcome and, where it was evaluated, the summary.json of its selection block."""
        if outcome["status"] == "failed":
            return cls(outcome["trial"], failed_step=outcome["failed_step"] or "train", error=outcome["error"])
        if summary is None:
            return cls(outcome["trial"], failed_step="evaluate", error="no evaluation was found")
        counts = (summary["successes"], summary["n"], summary["crashed"])
        return cls(outcome["trial"], *counts, mean_steps=summary["mean_steps"])


@dataclass(frozen=True)
class LeaderboardRow:
    """One line of the leaderboard; ``rank`` 0: the trial gave no result, ``failed_step`` and ``error`` say why."""

    rank: int
    name: str
    rate: float | None
    interval_95: Interval | None
    successes: int
    n: int
    crashed: int
    mean_steps: float | None
    behind: float | None  # rate minus the winner's
    behind_95: Interval | None  # unpaired
    failed_step: str = ""
    error: str = ""
    configuration_rate: float | None = None
    letters: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LeaderboardRow:
        """From the JSON that ``dataclasses.asdict`` makes."""
        intervals = {key: values[key] and Interval(*values[key]) for key in ("interval_95", "behind_95")}
        return cls(**{**values, **intervals})


def rank_trials(trials: Sequence[TrialScore]) -> tuple[LeaderboardRow, ...]:
    """The selection rule: highest success rate, then fewest mean steps, then name; trials without a result last.

    Where configurations were trained with several seeds, the best mean of a configuration comes before the luck of one
    training, and then its best training.
    """
    alive = [trial for trial in trials if not trial.failed_step and trial.n]
    alive.sort(key=_place)
    dead = sorted((trial for trial in trials if trial.failed_step or not trial.n), key=lambda trial: trial.name)
    ranked = [_ranked(rank, trial, alive[0]) for rank, trial in enumerate(alive, start=1)]
    return (*ranked, *(_without_result(trial) for trial in dead))


def _place(trial: TrialScore) -> tuple[float, float, float, str]:
    rate = trial.successes / trial.n
    mean = rate if trial.configuration_rate is None else trial.configuration_rate
    return (-mean, -rate, trial.mean_steps, trial.name)


def _ranked(rank: int, trial: TrialScore, winner: TrialScore) -> LeaderboardRow:
    behind = None if rank == 1 else trial.successes / trial.n - winner.successes / winner.n
    return LeaderboardRow(
        rank=rank,
        name=trial.name,
        rate=trial.successes / trial.n,
        interval_95=wilson(trial.successes, trial.n),
        successes=trial.successes,
        n=trial.n,
        crashed=trial.crashed,
        mean_steps=trial.mean_steps,
        behind=behind,
        behind_95=None if rank == 1 else difference_unpaired(trial.successes, trial.n, winner.successes, winner.n),
        configuration_rate=trial.configuration_rate,
        letters=trial.letters,
    )


def _without_result(trial: TrialScore) -> LeaderboardRow:
    return LeaderboardRow(
        rank=0,
        name=trial.name,
        rate=None,
        interval_95=None,
        successes=trial.successes,
        n=trial.n,
        crashed=trial.crashed,
        mean_steps=None,
        behind=None,
        behind_95=None,
        failed_step=trial.failed_step or "evaluate",
        error=trial.error or "no episode finished",
    )


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def _z_power(power: float) -> float:
    return NormalDist().inv_cdf(power)


def _check_counts(successes: int, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} episodes")


def _tango_score(difference: float, only_first: int, only_second: int, n: int) -> float:
    """Score statistic of H0: true difference = ``difference``, with the nuisance rate at its constrained maximum."""
    a = 2 * n
    b = (2 * n - only_first + only_second) * difference - only_first - only_second
    c = -only_second * difference * (1 - difference)
    only_second_rate = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * only_second_rate + difference * (1 - difference))
    distance = only_first - only_second - n * difference
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _crossing(score: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where a falling function passes ``target``, by bisection to the last bit that matters."""
    for _ in range(60):
        middle = (low + high) / 2
        if score(middle) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2
