"""Whether the conclusion of a run still stands: the champion pointer has not moved since. Called by steps.plan and conclude."""

from __future__ import annotations

from tendon.registry.champion import read_champion
from tendon.registry.protocol import protocol_of_run
from tendon.runs.conclusion import load_conclusion
from tendon.runs.plan import RunPlan
from tendon.storage import open_store


def conclusion_stands(run: RunPlan) -> bool:
    """Whether another conclusion would say the same: the pointer still names the champion that was left there.

    The pointer may also have moved to this very run (``tendon promote``); its winner need not be compared with itself.
    """
    mark = load_conclusion(run.run_uri)
    if mark is None or mark.trials_left or mark.promote != run.promote:
        return False
    if open_store(run.run_uri).head("report.html") is None:
        return False
    champion = read_champion(open_store(run.store_uri), run.champion, protocol_of_run(run)).champion
    return champion_now(run) == mark.champion or (champion is not None and champion.run_uri == run.run_uri)


def champion_now(run: RunPlan) -> str:
    """Who is champion, as one text; empty when nobody is."""
    champion = read_champion(open_store(run.store_uri), run.champion, protocol_of_run(run)).champion
    return f"{champion.policy_digest} of {champion.run_uri} since {champion.when}" if champion is not None else ""
