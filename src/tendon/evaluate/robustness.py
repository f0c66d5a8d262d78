"""The robustness card: a bundle under named perturbations, each beside a matched clean arm on the same seeds.

In: a bundle, its task, seeds, names of perturbations. Out: a Card, with the paired difference of each arm to the clean one and its
interval; what a simulator does not support is on it by name, with the reason. Every arm is an evaluation like any other: its rows are
kept as they finish, so a killed card goes on. Called by steps.robustness and ``tendon evaluate ... perturb=standard``.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tendon.config.feature_map import FeatureMap
from tendon.config.schema import EnvConfig
from tendon.errors import ConfigError, DataError
from tendon.evaluate.confidence import (
    Interval,
    Outcomes,
    Pairs,
    describe_rate,
    difference_paired,
    mcnemar_exact,
    wilson,
)
from tendon.evaluate.guest import PERTURB, Unperturbed
from tendon.evaluate.many import holm
from tendon.evaluate.table import Evaluation
from tendon.sim.perturbations import DELAY, PICTURES, STANDARD, delay_steps, is_known, words_of

log = logging.getLogger(__name__)

SET = "standard"  # the name of all of them
LEVEL = 0.95
NOTHING, ANYTHING = Interval(0.0, 1.0), Interval(-1.0, 1.0)  # of a rate and of a difference of which nothing is known


@dataclass(frozen=True)
class Arm:
    """One perturbation: what it does, what became of the policy, or why it was not played."""

    name: str
    words: str
    unsupported: str = ""  # why; then there are no numbers
    successes: int = 0
    n: int = 0
    crashed: int = 0
    interval_95: Interval = NOTHING
    pairs: int = 0  # seeds that both arms finished
    lost: int = 0  # of them solved by the clean arm alone
    gained: int = 0  # by this one alone
    difference: float = 0.0  # this arm minus the clean one
    difference_95: Interval = ANYTHING
    p: float = 1.0  # McNemar's exact test
    p_adjusted: float = 1.0  # over all arms of the card (Holm)
    table: str = ""

    @property
    def verdict(self) -> str:
        """``worse``, ``better``, ``cannot tell`` or ``not played``; over all arms at most 5 % err."""
        if self.unsupported:
            return "not played"
        if self.p_adjusted > 1 - LEVEL:
            return "cannot tell"
        return "worse" if self.difference < 0 else "better"


@dataclass(frozen=True)
class Card:
    """The clean arm, and every other one beside it."""

    task: str
    block: str
    first_seed: int
    episodes: int
    successes: int
    n: int
    crashed: int
    table: str
    arms: tuple[Arm, ...]

    def sentence(self) -> str:
        """What it comes to, for a person."""
        played = [arm for arm in self.arms if not arm.unsupported]
        if not played:
            return "none of the perturbations is supported here"
        worse = sorted((arm for arm in played if arm.verdict == "worse"), key=lambda arm: arm.difference)
        open_ = sum(arm.verdict == "cannot tell" for arm in played)
        if not worse:
            return f"none of {len(played)} perturbations is seen to make it worse on {self.episodes} seeds"
        names = ", ".join(f"{arm.name} ({round(100 * arm.difference)} points)" for arm in worse)
        return f"worse under {len(worse)} of {len(played)} perturbations: {names}" + (
            f"; of {open_} it cannot be told" if open_ else ""
        )

    def to_dict(self) -> dict[str, Any]:
        """As card.json keeps it."""
        arms = [asdict(arm) | {"verdict": arm.verdict} for arm in self.arms]
        return {
            "sentence": self.sentence(),
            **asdict(self),
            "interval_95": list(wilson(self.successes, self.n)),
            "arms": arms,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Card:
        """From what ``to_dict`` made."""
        fields = {name: values[name] for name in cls.__dataclass_fields__ if name != "arms"}
        arms = []
        for arm in values["arms"]:
            ends = {name: Interval(*arm[name]) for name in ("interval_95", "difference_95")}
            arms.append(Arm(**{name: arm[name] for name in Arm.__dataclass_fields__} | ends))
        return cls(**fields, arms=tuple(arms))


def parse_perturbations(text: str) -> tuple[str, ...]:
    """Names from ``standard``, ``lighting,action_delay_150ms`` or both; empty: none.

    Example:
        >>> parse_perturbations("mass, friction")
        ('mass', 'friction')
    """
    words = [word.strip() for word in text.strip("[] ").split(",") if word.strip()]
    names = [name for word in words for name in (STANDARD if word == SET else (word,))]
    for name in names:
        if not is_known(name):
            near = difflib.get_close_matches(name, (*STANDARD, SET), 1, 0.4)
            raise ConfigError(
                f"no perturbation is called {name!r}",
                where="perturb" if text == name else f"perturb={text}",
                why=f"known are {SET} (all of them), {', '.join(STANDARD)}, and action_delay_<0 to 200>ms",
                fix=f"perturb={near[0]}" if near else f"perturb={SET}",
            )
    return tuple(dict.fromkeys(names))


def perturbed_env(env: EnvConfig, name: str) -> EnvConfig:
    """The task under a perturbation."""
    return replace(env, options=dict(env.options) | {PERTURB: name})


def make_card(
    names: Sequence[str], env: EnvConfig, evaluate: Callable[[EnvConfig], Evaluation], block: str = "confirmation"
) -> Card:
    """Roll out the clean arm and each perturbation with ``evaluate``, which takes the task and plays the same seeds each time."""
    clean = evaluate(env)
    reads_pictures = bool(FeatureMap.of(env).read_cameras)
    arms = []
    for name in names:
        if name in PICTURES and not reads_pictures:
            arms.append(
                Arm(name, words_of(name), unsupported=f"the policy reads no picture, so {name} cannot reach it")
            )
            continue
        try:
            table = evaluate(perturbed_env(env, name))
        except Unperturbed as error:
            log.info("robustness: %s", error.why)
            arms.append(Arm(name, words_of(name), unsupported=error.why))
            continue
        except DataError as error:  # too many crashes: the other arms, and the run, go on
            log.warning("robustness: %s: %s", name, error.problems[0].what)
            arms.append(Arm(name, words_of(name), unsupported=f"under it {error.problems[0].what}"))
            continue
        arms.append(_arm(name, env, clean, table))
        log.info("robustness: %s: %s", name, describe_rate(arms[-1].successes, arms[-1].n, arms[-1].crashed, block))
    played = [arm for arm in arms if not arm.unsupported]
    adjusted = dict(zip([arm.name for arm in played], holm([arm.p for arm in played]), strict=True))
    found = clean.summary
    return Card(
        task=f"{env.simulator}/{env.task}",
        block=block,
        first_seed=found["seeds"]["first"],
        episodes=found["seeds"]["count"],
        successes=found["successes"],
        n=found["n"],
        crashed=found["crashed"],
        table=clean.uri,
        arms=tuple(replace(arm, p_adjusted=adjusted.get(arm.name, 1.0)) for arm in arms),
    )


def _arm(name: str, env: EnvConfig, clean: Evaluation, table: Evaluation) -> Arm:
    pairs = Pairs.of(Outcomes.of(table.rows).by_seed, Outcomes.of(clean.rows).by_seed)
    found = table.summary
    words = words_of(name)
    if DELAY.fullmatch(name):
        steps = delay_steps(name, env.fps)
        words += f" ({steps} step{'' if steps == 1 else 's'} of {1000 / env.fps:.4g} ms)"
    return Arm(
        name,
        words,
        successes=found["successes"],
        n=found["n"],
        crashed=found["crashed"],
        interval_95=wilson(found["successes"], found["n"]),
        pairs=pairs.n,
        lost=pairs.only_second,
        gained=pairs.only_first,
        difference=pairs.difference,
        difference_95=difference_paired(pairs),
        p=mcnemar_exact(pairs.only_first, pairs.only_second),
        table=table.uri,
    )
