"""What a champion was promoted with, written once: ``promoted/POLICY-CONFIRMATION/`` in its run's folder, which no rerun changes.

Called by promotion, and by confirmation: a rerun of a promoted run says again what it said.
"""

from __future__ import annotations

from tendon.config.digest import digest
from tendon.runs.plan import RunPlan
from tendon.storage import join, open_store

FILES = ("selection.json", "subset.json", "confirmation.json", "card.json", "record.json", "report.html")


def keep_evidence(run: RunPlan, policy_digest: str) -> str:
    """Copy what the run says now; where it is."""
    source = open_store(run.run_uri)
    said = digest(source.read("confirmation.json").decode())[:8]
    uri = join(run.run_uri, "promoted", f"{policy_digest}-{said}")
    target = open_store(uri)
    for name in FILES:
        if source.head(name) is not None:
            target.create(name, source.read(name))
    return uri


def kept_confirmation(run: RunPlan, policy_digest: str) -> bytes | None:
    """The confirmation that promoted this winner of the run; None when it was not promoted, or is champion no more."""
    from tendon.registry.champion import read_champion
    from tendon.registry.protocol import protocol_of_run

    champion = read_champion(open_store(run.store_uri), run.champion, protocol_of_run(run)).champion
    if champion is None or (champion.run_uri, champion.policy_digest) != (run.run_uri, policy_digest):
        return None
    if not champion.evidence_uri:
        return None
    store = open_store(champion.evidence_uri)
    return store.read("confirmation.json") if store.head("confirmation.json") is not None else None
