"""The plan of a run: everything that was decided before the first GPU second, as one immutable JSON in the store.

Written by steps.plan, read by every later step, so that a step needs two short strings (run_uri and a trial name) and no pod gets a long
argument.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tendon.errors import DataError
from tendon.runs.budget import RunBudget
from tendon.runs.gate_rule import GateRule
from tendon.storage import join, open_store

if TYPE_CHECKING:
    from tendon.config.schema import TrainConfig


@dataclass(frozen=True)
class PlannedTrial:
    """One trial: its name, what it overrides, its whole configuration, and the key under which its work is kept."""

    name: str
    overrides: tuple[str, ...]
    config: dict[str, Any]
    run_key: str


@dataclass(frozen=True)
class RunPlan:
    """One run of the DAG."""

    run_id: str
    store_uri: str
    source_uri: str
    source_digest: str
    dataset_name: str
    dataset_uri: str
    conversion: dict[str, Any]  # options of the conversion that are not the usual ones
    config: str
    episodes: int
    confirm_episodes: int
    champion: str
    promote: bool
    code_version: str  # of the sources, when the run was planned; for people, no part of the run's identity
    trials: tuple[PlannedTrial, ...]
    trial_retries: int = 2  # further tries of a training that died; no part of the run's identity
    gate: GateRule = field(default_factory=GateRule)
    budget: RunBudget = field(default_factory=RunBudget)  # no part of the run's identity
    perturb: str = ""  # perturbations that the winner is played under, "standard" or names; empty: none

    @property
    def run_uri(self) -> str:
        """Where the files of this run are."""
        return join(self.store_uri, "runs", self.run_id)

    def trial(self, name: str) -> PlannedTrial:
        """The trial called ``name``."""
        for trial in self.trials:
            if trial.name == name:
                return trial
        known = ", ".join(trial.name for trial in self.trials)
        raise DataError(
            f"the plan has no trial {name!r}",
            where=self.run_uri,
            why=f"its trials are {known}",
            fix="use one of these names",
        )

    def trial_uri(self, name: str) -> str:
        """Where the work of a trial is kept; the same for every run that plans the same trial."""
        return join(self.store_uri, "trials", self.trial(name).run_key)

    def config_of(self, name: str) -> TrainConfig:
        """The configuration of a trial, typed."""
        from tendon.config.compose import from_dict

        return from_dict(self.trial(name).config)

    def to_json(self) -> str:
        """The plan as text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> RunPlan:
        """The plan from its text."""
        fields = json.loads(text)
        fields["trials"] = tuple(
            PlannedTrial(t["name"], tuple(t["overrides"]), t["config"], t["run_key"]) for t in fields["trials"]
        )
        fields["gate"] = GateRule(**fields.get("gate", {}))
        fields["budget"] = RunBudget(**fields.get("budget", {}))
        return cls(**fields)


def save_plan(plan: RunPlan) -> None:
    """Write the plan; the run id is a digest of what decides its results, of the rest the latest wish holds."""
    if not open_store(plan.run_uri).create("plan.json", plan.to_json().encode()) and load_plan(plan.run_uri) != plan:
        open_store(plan.run_uri).write("plan.json", plan.to_json().encode())


def load_plan(run_uri: str) -> RunPlan:
    """The plan of the run at ``run_uri``."""
    return RunPlan.from_json(open_store(run_uri).read("plan.json"))
