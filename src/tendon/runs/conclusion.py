"""The mark that a run came to its end: ``concluded.json`` in its folder, written last by steps.conclude.

Read by plan, which repeats nothing while the conclusion stands (registry/standing.py), and by finish, which believes this
mark and not the word of an engine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from tendon.runs.failures import now
from tendon.runs.plan import RunPlan
from tendon.storage import open_store
from tendon.storage.json_values import read_note

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
    note = read_note(open_store(run_uri), MARK)
    try:
        return Conclusion(**note) if note else None
    except TypeError:  # a damaged mark is none: the run is concluded again
        return None


def mark_concluded(
    run: RunPlan, job_id: str, *, winner: str, verdict: str, promoted: bool, champion: str
) -> Conclusion:
    """Write that the run ended well; ``champion``: who is champion after it, as registry/standing.py says it."""
    return _write(run, Conclusion(job_id, now(), winner, verdict, promoted, run.promote, champion))


def mark_part(run: RunPlan, job_id: str, trials_left: int, why: str = "") -> Conclusion:
    """Write that this run did its share of the trials, and how many are left for the next; ``why`` it did no more."""
    before = load_conclusion(run.run_uri)
    number = before.part if before is not None else 0
    is_repeated = before is not None and bool(job_id) and before.job_id == job_id and before.part > 0
    part = number if is_repeated else number + 1
    verdict = f"part {part}: {why}{trials_left} trials left"
    return _write(run, Conclusion(job_id, now(), verdict=verdict, part=part, trials_left=trials_left))


def _write(run: RunPlan, mark: Conclusion) -> Conclusion:
    open_store(run.run_uri).write(MARK, json.dumps(asdict(mark), indent=1).encode())
    return mark
