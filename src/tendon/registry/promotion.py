"""Moving the champion pointer after the gate has spoken. Called by steps.promote; the only writer of champions/."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from tendon.evaluate.table import load_evaluation
from tendon.registry.champion import Champion, swap_champion
from tendon.registry.confirmation import Confirmation
from tendon.registry.evidence import keep_evidence
from tendon.registry.protocol import protocol_of_run
from tendon.runs.plan import RunPlan
from tendon.storage import join, open_store


@dataclass(frozen=True)
class Promotion:
    """Whether the pointer names the winner now, and why."""

    promoted: bool
    reason: str


def promote_winner(run: RunPlan, confirmation: Confirmation) -> Promotion:
    """Swap the pointer if the verdict promotes and nobody else moved it since it was read."""
    if not confirmation.verdict.promotes:
        return Promotion(False, confirmation.verdict.sentence)
    summary = load_evaluation(confirmation.winner_uri).summary
    challenger = Champion(
        name=run.champion,
        policy_digest=summary["policy_digest"],
        bundle_uri=join(run.trial_uri(confirmation.winner), "bundle"),
        run_uri=run.run_uri,
        successes=summary["successes"],
        n=summary["n"],
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        protocol=protocol_of_run(run),
        evidence_uri=keep_evidence(run, summary["policy_digest"]),
    )
    swap = swap_champion(open_store(run.store_uri), challenger, confirmation.champion_etag or None)
    return Promotion(swap.outcome != "lost", swap.sentence)
