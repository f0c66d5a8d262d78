"""Sweeps of coins with learning curves: what halving saves, and whether what it picks could have been the winner.

The schedule of runs/halving.py was chosen with the curves of every other family in the order of the alphabet, ``CHOSEN_WITH``, with
seeds of its own; the others only validate it. They differ in when a trial learns, in whether the fast ones end as the best,
and in how much a policy changes from checkpoint to checkpoint. Of ``late`` no schedule of this cost can know much: most trials
show nothing when more than a third of the steps is spent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tendon.evaluate.confidence import Outcomes, wilson
from tendon.runs.halving import SHARES, rung_steps, share_saved, survivors

STEPS, TRIALS, EPISODES = 1800, 16, 50
Curve = Callable[[float], float]  # share of the steps to the rate of success
Generator = np.random.Generator


def exponential(g: Generator, final: float) -> Curve:
    speed = g.uniform(0.05, 0.3)
    return lambda t: final * (1 - np.exp(-t / speed))


def power(g: Generator, final: float) -> Curve:
    scale, exponent = g.uniform(0.01, 0.1), g.uniform(0.5, 1.5)
    return lambda t: final * (1 - (1 + t / scale) ** -exponent) / (1 - (1 + 1 / scale) ** -exponent)


def sigmoid(g: Generator, final: float) -> Curve:
    middle, width = g.uniform(0.05, 0.4), g.uniform(0.03, 0.1)
    return lambda t: final / (1 + np.exp((middle - t) / width))


def stairs(g: Generator, final: float) -> Curve:
    """Nothing, then a skill at a time."""
    times = np.sort(g.uniform(0.02, 0.6, 4))
    return lambda t: final * float(np.mean(t >= times))


def crossing(g: Generator, final: float) -> Curve:
    """The better a trial ends, the slower it learns."""
    speed = 0.04 + 0.25 * final * g.uniform(0.6, 1.4)
    return lambda t: final * (1 - np.exp(-t / speed))


def forgetting(g: Generator, final: float) -> Curve:
    """Half of the trials are at their best before the end."""
    speed, loss, peak = g.uniform(0.03, 0.15), g.choice([0.0, g.uniform(0, 0.4)]), g.uniform(0.3, 0.7)
    return lambda t: final * (1 - np.exp(-t / speed)) * (1 - loss * max(0.0, t - peak) / (1 - peak))


def diverging(g: Generator, final: float) -> Curve:
    """A quarter of the trials falls to nothing at some step."""
    curve, end = exponential(g, final), g.uniform(0.1, 1.2) if g.random() < 0.25 else 2.0
    return lambda t: curve(t) if t < end else 0.02


def late(g: Generator, final: float) -> Curve:
    middle, width = g.uniform(0.2, 0.7), g.uniform(0.02, 0.06)
    return lambda t: final / (1 + np.exp((middle - t) / width))


FAMILIES = {one.__name__: one for one in (exponential, power, sigmoid, stairs, crossing, forgetting, diverging, late)}
CHOSEN_WITH = tuple(sorted(FAMILIES)[::2])
# Where the trials end: of all kinds, or most of them good as in a sweep around a setting that is known to work.
ENDS = {"wide": lambda g: g.beta(2, 2, TRIALS), "good": lambda g: g.beta(9, 3, TRIALS)}
WORLDS = [(family, ends) for family in FAMILIES for ends in ENDS]
UNSTEADY = 0.04  # deviation of a policy's rate from checkpoint to checkpoint; a family of none has 0


@dataclass(frozen=True)
class Replay:
    """How one sweep went."""

    saved: float  # share of the steps
    within: bool  # the trial that it picked is within the interval of the true winner
    lost: float  # how much lower the true rate of the picked one is than the winner's


def replay(family: str, ends: str, seed: int, episodes: int = EPISODES) -> Replay:
    """One simulated sweep of sixteen trials with halving, beside the same sweep without."""
    g = np.random.default_rng([seed, WORLDS.index((family, ends))])
    curves = [FAMILIES[family](g, float(final)) for final in ENDS[ends](g)]
    hardness = g.random(episodes)  # seeds differ in how hard they are, for every policy alike
    rates: dict[tuple[int, int], float] = {}

    def rate(trial: int, step: int) -> float:
        if (trial, step) not in rates:
            unsteady = 0.0 if family == "exponential" else g.normal(0, UNSTEADY)
            rates[trial, step] = float(np.clip(curves[trial](step / STEPS) + unsteady, 0, 1))
        return rates[trial, step]

    def played(trial: int, step: int) -> Outcomes:
        noisy = np.clip(hardness + g.normal(0, 0.1, episodes), 0, 1)
        return Outcomes({number: bool(hard < rate(trial, step)) for number, hard in enumerate(noisy)})

    trained, going, rungs = [0] * TRIALS, list(range(TRIALS)), []
    for rung in range(1, len(SHARES) + 2):
        step = rung_steps(STEPS, rung) or STEPS
        results = {f"{trial:02d}": played(trial, step) for trial in going}
        for trial in going:
            trained[trial] = step
        if rung <= len(SHARES):
            rungs.append(results)
            going = [int(name) for name in survivors(rungs)[0]]
    chosen = int(max(results, key=lambda name: results[name].successes))
    ended = [rate(trial, STEPS) for trial in range(TRIALS)]
    best = int(np.argmax(ended))
    whole = played(best, STEPS)
    return Replay(
        share_saved(STEPS, trained),
        ended[chosen] >= wilson(whole.successes, whole.n).low,
        ended[best] - ended[chosen],
    )


def untried(family: str, ends: str, seed: int, share: float = 0.4) -> bool:
    """Whether as many trials as the same steps train to their ends, taken at random, hold one within the winner's interval."""
    g = np.random.default_rng([seed, WORLDS.index((family, ends)), 1])
    ended = np.array([FAMILIES[family](g, float(final))(1.0) for final in ENDS[ends](g)])
    ended = np.clip(ended + (0.0 if family == "exponential" else g.normal(0, UNSTEADY, TRIALS)), 0, 1)
    some = ended[: int(share * TRIALS)]
    chosen = int(np.argmax(g.binomial(EPISODES, some)))
    return bool(some[chosen] >= wilson(int(g.binomial(EPISODES, ended.max())), EPISODES).low)


def replays(family: str, ends: str, count: int, first: int = 0) -> list[Replay]:
    """So many sweeps of one world."""
    return [replay(family, ends, first + number) for number in range(count)]
