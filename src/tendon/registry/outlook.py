"""What is left of a run, what it will take, and what the gate will ask of its winner, before anything is spent.

Called by steps.plan and ``tendon plan``, which say the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from tendon.errors import ConfigError
from tendon.registry.alpha import POWER, USUAL_GAIN, episodes_needed
from tendon.registry.champion import Champion, read_champion
from tendon.registry.ledger import read_ledger
from tendon.registry.protocol import protocol_of_run
from tendon.registry.standing import conclusion_stands
from tendon.runs.forecast import Forecast, make_forecast
from tendon.runs.plan import RunPlan
from tendon.runs.remaining import Remaining, find_remaining
from tendon.storage import open_store


@dataclass(frozen=True)
class Outlook:
    """What a planned run still has to do."""

    remaining: Remaining
    gate: str  # who is to be beaten, and what that needs
    forecast: Forecast | None  # None: there is nothing to do


def outlook_of(
    run: RunPlan,
    source_bytes: int,
    *,
    trials_per_pod: int,
    most_groups: int | None = None,
    only_new: bool = False,
    force: bool = False,
    halving: bool = False,
) -> Outlook:
    """Look ahead: the work that is left, who is champion, and what both will take; arguments as steps.plan has them."""
    remaining = find_remaining(
        run,
        trials_per_pod=trials_per_pod,
        most_groups=most_groups,
        only_new=only_new,
        force=force,
        conclusion_stands=conclusion_stands,
        task_of=protocol_of_run,
    )
    if halving and remaining.num_later:
        raise _too_many(remaining, trials_per_pod)
    champion = read_champion(open_store(run.store_uri), run.champion, protocol_of_run(run)).champion
    forecast = None
    if remaining.work:
        forecast = make_forecast(run, source_bytes, remaining.groups, halving=halving, champion=champion is not None)
    return Outlook(remaining, describe_gate(run, champion), forecast)


def _too_many(remaining: Remaining, trials_per_pod: int) -> ConfigError:
    """Halving compares all trials at a rung, so they cannot come in several runs."""
    num_now = sum(map(len, remaining.groups))
    per_pod = -(-(num_now + remaining.num_later) * trials_per_pod // num_now)
    return ConfigError(
        f"{num_now + remaining.num_later} trials, of which one run of the sweep pipeline holds {num_now}",
        where="parameters",
        why="trials are pruned beside each other, so all of them belong in one run",
        fix=f"policy_trials_per_pod={per_pod}",
    )


def describe_gate(run: RunPlan, champion: Champion | None) -> str:
    """Who is to be beaten, what may still be erred, and about how many episodes see a usual gain."""
    rule, store = run.gate, open_store(run.store_uri)
    if champion is None:
        return f"no champion {run.champion!r} of this task yet: the winner's interval must begin at {rule.floor:g} or above"
    allowance = read_ledger(store, champion).allowance(rule.alpha)
    needed = episodes_needed(allowance.alpha, champion.rate + rule.margin, USUAL_GAIN)
    episodes = f"about {needed:,} episodes" if needed else "no number of episodes"
    better = f"{100 * (rule.margin + USUAL_GAIN):.0f} points"
    enough = (
        "" if not needed or run.confirm_episodes >= needed else f"; evaluate_confirm_episodes is {run.confirm_episodes}"
    )
    return (
        f"champion {champion.policy_digest} ({champion.rate:.2f}), challenger {allowance.challenger} may err with "
        f"{allowance.alpha:.2g}, {allowance.alpha + allowance.left:.3g} of {rule.alpha:g} are left: {episodes} see a gain "
        f"of {better} with chance {POWER:g}{enough}"
    )
