"""The outcome of a trial: how far it came and what it scored. One JSON string between steps, one file in the store.

train_trials makes it, export_trials and evaluate_trials hand it on. Every step of a trial also writes it to
``outcomes/TRIAL.json`` in the run's folder, where plan (what is finished already), select and conclude read it.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from tendon.storage import open_store
from tendon.storage.json_values import read_note, to_json
from tendon.storage.trees import MARKER

if TYPE_CHECKING:
    from tendon.evaluate.confidence import TrialScore
    from tendon.runs.plan import RunPlan

FOLDER = "outcomes"
MOST_KEPT_ERROR = 20_000  # characters; what travels between pods is far shorter
MOST_OUTCOME, LEAST_ERROR = 740, 120  # characters of a trial's outcome, and of the error in it, when both cannot be had


@dataclass(frozen=True)
class TrialOutcome:
    """One trial so far; ``failed_step`` and ``error`` say what ended it."""

    trial: str
    run_key: str
    status: str = "ok"
    failed_step: str = ""
    error: str = ""
    checkpoint_uri: str = ""
    bundle_uri: str = ""
    evaluation_uri: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The outcome as a string that fits: the outcomes of a group of trials are one argument of at most 128 kB."""
        metrics = {name: float(f"{value:.6g}") for name, value in self.metrics.items() if math.isfinite(value)}
        fields = asdict(self) | {"metrics": metrics, "error": ""}
        room = max(MOST_OUTCOME - len(json.dumps(fields, separators=(",", ":"))), LEAST_ERROR)
        error = self.error if len(self.error) <= room else f"{self.error[: room - 4]} ..."
        return json.dumps(fields | {"error": error}, separators=(",", ":"))

    def score(self) -> TrialScore:
        """The outcome as the selection rule sees it."""
        from tendon.evaluate.confidence import TrialScore

        successes, n, crashed = (int(self.metrics.get(name, 0)) for name in ("successes", "episodes", "crashed"))
        steps = self.metrics.get("mean_steps", 0.0)
        return TrialScore(self.trial, successes, n, crashed, steps, self.failed_step, self.error)

    @classmethod
    def from_json(cls, text: str) -> TrialOutcome:
        """The outcome from its string."""
        return cls(**json.loads(text))


def save_outcome(run_uri: str, outcome: TrialOutcome) -> None:
    """Keep how far a trial has come; a later step or a later attempt takes its place."""
    fields = asdict(outcome) | {"error": outcome.error[:MOST_KEPT_ERROR]}
    open_store(run_uri).write(f"{FOLDER}/{outcome.trial}.json", to_json(fields, indent=1).encode())


def load_outcomes(run: RunPlan) -> dict[str, TrialOutcome]:
    """What is known of each planned trial, by name and in the order of the plan; a trial that never ended a step is not in it."""
    store = open_store(run.run_uri)
    stored_keys = {entry.key for entry in store.list(f"{FOLDER}/")}
    outcomes = {}
    for trial in run.trials:
        key = f"{FOLDER}/{trial.name}.json"
        if key in stored_keys:
            with suppress(TypeError):  # a damaged one is a trial that never ended a step: its steps find what is there
                outcome = TrialOutcome(**read_note(store, key))
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
    if outcome is not None and outcome.status == "pruned":
        return True  # its sweep decided that it goes on no more
    if outcome is None or not is_evaluated(outcome):
        return False
    return all(open_store(uri).head(MARKER) is not None for uri in (outcome.bundle_uri, outcome.evaluation_uri))
