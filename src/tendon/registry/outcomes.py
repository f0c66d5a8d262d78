"""The outcomes of the trials of a run, kept in the store: ``outcomes/TRIAL.json`` in the run's folder.

Written whenever a step of a trial ends, read by plan (what is finished already), select and conclude.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from tendon.registry.outcome import TrialOutcome
from tendon.registry.plan import RunPlan
from tendon.storage import open_store
from tendon.storage.trees import MARKER

FOLDER = "outcomes"
MOST_KEPT_ERROR = 20_000  # characters; what travels between pods is far shorter


def save_outcome(run_uri: str, outcome: TrialOutcome) -> None:
    """Keep how far a trial has come; a later step or a later attempt takes its place."""
    fields = asdict(outcome) | {"error": outcome.error[:MOST_KEPT_ERROR]}
    open_store(run_uri).write(f"{FOLDER}/{outcome.trial}.json", json.dumps(fields, indent=1).encode())


def load_outcomes(run: RunPlan) -> dict[str, TrialOutcome]:
    """What is known of each planned trial, by name and in the order of the plan; a trial that never ended a step is not in it."""
    store = open_store(run.run_uri)
    stored_keys = {entry.key for entry in store.list(f"{FOLDER}/")}
    outcomes = {}
    for trial in run.trials:
        key = f"{FOLDER}/{trial.name}.json"
        if key in stored_keys:
            outcome = TrialOutcome.from_json(store.read(key).decode())
            if outcome.run_key == trial.run_key:
                outcomes[trial.name] = outcome
    return outcomes


def is_evaluated(outcome: TrialOutcome | None) -> bool:
    """Whether the trial came through all of its steps."""
    return outcome is not None and outcome.status == "ok" and bool(outcome.evaluation_uri)


def has_ended(outcome: TrialOutcome | None) -> bool:
    """Whether the trial has a score or a reason why it has none."""
    return outcome is not None and (outcome.status != "ok" or is_evaluated(outcome))


def is_finished(outcome: TrialOutcome | None) -> bool:
    """Whether the trial came through all of its steps and what they made is still in the store."""
    if outcome is None or not is_evaluated(outcome):
        return False
    return all(open_store(uri).head(MARKER) is not None for uri in (outcome.bundle_uri, outcome.evaluation_uri))
