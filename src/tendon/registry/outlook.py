"""What the gate will ask of a run's winner, before anything is spent. Called by steps.plan and ``tendon run --plan``."""

from __future__ import annotations

from tendon.registry.alpha import POWER, USUAL_GAIN, episodes_needed
from tendon.registry.champion import read_champion
from tendon.registry.ledger import read_ledger
from tendon.registry.protocol import protocol_of_run
from tendon.runs.plan import RunPlan
from tendon.storage import open_store


def has_champion(run: RunPlan) -> bool:
    """Whether the winner will be confirmed beside somebody."""
    return read_champion(open_store(run.store_uri), run.champion, protocol_of_run(run)).champion is not None


def gate_outlook(run: RunPlan) -> str:
    """Who is to be beaten, what may still be erred, and about how many episodes see a usual gain."""
    rule, store = run.gate, open_store(run.store_uri)
    champion = read_champion(store, run.champion, protocol_of_run(run)).champion
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
