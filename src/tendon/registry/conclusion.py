"""The mark that a run came to its end: ``concluded.json`` in its folder, written last by steps.conclude.

Read by plan, which repeats nothing while the conclusion stands, and by finish, which believes this mark and not the word
of an engine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from tendon.registry.champion import read_champion
from tendon.registry.failure import now
from tendon.registry.plan import RunPlan
from tendon.storage import open_store

MARK = "concluded.json"


@dataclass(frozen=True)
class Conclusion:
    """How a run was concluded; ``trials_left`` above zero: this was part ``part`` of several runs, and nothing was selected."""

    job_id: str
    when: str  # ISO 8601, UTC
    winner: str = ""
    verdict: str = ""
    promoted: bool = False
    promote: bool = False
    champion: str = ""  # who was champion afterwards
    part: int = 0
    trials_left: int = 0


def load_conclusion(run_uri: str) -> Conclusion | None:
    """The mark in the run's folder; None when there is none."""
    store = open_store(run_uri)
    return Conclusion(**json.loads(store.read(MARK))) if store.head(MARK) is not None else None


def mark_concluded(run: RunPlan, job_id: str, *, winner: str, verdict: str, promoted: bool) -> Conclusion:
    """Write that the run ended well."""
    return _write(run, Conclusion(job_id, now(), winner, verdict, promoted, run.promote, champion_now(run)))


def mark_part(run: RunPlan, job_id: str, trials_left: int) -> Conclusion:
    """Write that this run did its share of the trials, and how many are left for the next."""
    before = load_conclusion(run.run_uri)
    number = before.part if before is not None else 0
    is_repeated = before is not None and bool(job_id) and before.job_id == job_id and before.part > 0
    part = number if is_repeated else number + 1
    verdict = f"part {part}: {trials_left} trials left"
    return _write(run, Conclusion(job_id, now(), verdict=verdict, part=part, trials_left=trials_left))


def stands(run: RunPlan) -> bool:
    """Whether another conclusion would say the same: the pointer still names the champion that was left there.

    The pointer may also have moved to this very run (``tendon promote``); its winner need not be compared with itself.
    """
    mark = load_conclusion(run.run_uri)
    if mark is None or mark.trials_left or mark.promote != run.promote:
        return False
    if open_store(run.run_uri).head("report.html") is None:
        return False
    champion = read_champion(open_store(run.store_uri), run.champion).champion
    return champion_now(run) == mark.champion or (champion is not None and champion.run_uri == run.run_uri)


def champion_now(run: RunPlan) -> str:
    """Who is champion, as one text; empty when nobody is."""
    champion = read_champion(open_store(run.store_uri), run.champion).champion
    return f"{champion.policy_digest} of {champion.run_uri} since {champion.when}" if champion is not None else ""


def _write(run: RunPlan, mark: Conclusion) -> Conclusion:
    open_store(run.run_uri).write(MARK, json.dumps(asdict(mark), indent=1).encode())
    return mark
