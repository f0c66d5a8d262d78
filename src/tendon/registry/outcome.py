"""What travels from step to step inside the fan-out, as one JSON string: a trial, how far it came, and what it scored.

Made by steps.train_trials, handed on by export and evaluate; every step also keeps it in the store (outcomes.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from tendon.evaluate.confidence import TrialScore

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
        metrics = {name: float(f"{value:.6g}") for name, value in self.metrics.items()}
        fields = asdict(self) | {"metrics": metrics, "error": ""}
        room = max(MOST_OUTCOME - len(json.dumps(fields, separators=(",", ":"))), LEAST_ERROR)
        error = self.error if len(self.error) <= room else f"{self.error[: room - 4]} ..."
        return json.dumps(fields | {"error": error}, separators=(",", ":"))

    def score(self) -> TrialScore:
        """The outcome as the selection rule sees it."""
        names = {"successes": "successes", "n": "episodes", "crashed": "crashed"}
        counts = {field: int(self.metrics.get(name, 0)) for field, name in names.items()}
        steps = self.metrics.get("mean_steps", 0.0)
        return TrialScore(self.trial, **counts, mean_steps=steps, failed_step=self.failed_step, error=self.error)

    @classmethod
    def from_json(cls, text: str) -> TrialOutcome:
        """The outcome from its string."""
        return cls(**json.loads(text))
