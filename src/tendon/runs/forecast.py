"""What a run will take before it is begun: steps, hours, CPU and GPU hours, bytes and money, per trial and in all.

Measured by earlier runs in the same store (measured.py); where nothing was measured nothing is claimed. Called by steps.plan,
which keeps it as ``forecast.json`` in the run's folder, and by ``tendon plan``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tendon.config.schema import num_updates
from tendon.data.manifest import KEY as MANIFEST
from tendon.logs import duration
from tendon.runs.budget import HOUR, RunBudget
from tendon.runs.failures import now
from tendon.runs.halving import most_steps
from tendon.runs.measured import (
    Kind,
    Measurement,
    conversion_kind,
    engine_kind,
    evaluation_kind,
    export_kind,
    find,
    read_measurement,
    save,
    training_kind,
)
from tendon.runs.outcomes import is_evaluated, is_finished, load_outcomes
from tendon.runs.plan import RunPlan
from tendon.storage import open_store
from tendon.storage.json_values import read_note, to_json
from tendon.storage.trees import has_tree
from tendon.train.state.checkpoint import FOLDER as CHECKPOINTS
from tendon.train.state.status import find_finished

NOTE = "forecast.json"
LOCAL = "local"  # the engine of one machine


@dataclass(frozen=True)
class Cost:
    """What one piece of work will take; nothing is known of it when ``source`` is empty."""

    step: str
    trial: str
    units: float
    unit: str
    cpu_s: float = 0.0
    wall_s: float = 0.0
    gpu_s: float = 0.0
    stored_bytes: int = 0
    source: str = ""
    is_exact: bool = True  # measured of the same kind of work, not of a similar one
    key: str = ""  # where this kind is measured

    @classmethod
    def of(cls, kind: Kind, units: float, store_uri: str, trial: str = "") -> Cost:
        """So many units of a kind, by its last measurement."""
        cost = cls(kind.step, trial, units, kind.unit, key=kind.key)
        known = find(store_uri, kind) if units else None
        if known is None:
            return cost
        measured, is_exact = known
        share = units / measured.units
        wall_s = measured.start_wall_s + share * measured.wall_s
        return replace(
            cost,
            cpu_s=measured.start_cpu_s + share * measured.cpu_s,
            wall_s=wall_s,
            gpu_s=measured.gpus * wall_s,
            stored_bytes=round(measured.stored_bytes * (share if kind.step in ("convert", "evaluate") else 1)),
            source=_source(measured),
            is_exact=is_exact,
        )


@dataclass(frozen=True)
class Forecast:
    """All costs of a run, of what is not finished."""

    costs: tuple[Cost, ...]
    budget: RunBudget = field(default_factory=RunBudget)
    halved: bool = False  # the steps are the most that successive halving takes

    @property
    def unknown(self) -> list[Cost]:
        """Work of which no run in this store has measured anything."""
        return [cost for cost in self.costs if cost.units and not cost.source]

    def total(self, trial: str | None = None) -> Cost:
        """Everything, or everything of a trial, added up; units are steps of training."""
        costs = [cost for cost in self.costs if trial is None or cost.trial == trial]
        return Cost(
            "all",
            trial or "",
            sum(cost.units for cost in costs if cost.step == "train"),
            "step",
            cpu_s=sum(cost.cpu_s for cost in costs),
            wall_s=sum(cost.wall_s for cost in costs),
            gpu_s=sum(cost.gpu_s for cost in costs),
            stored_bytes=sum(cost.stored_bytes for cost in costs),
        )

    def lines(self, most_trials: int = 20) -> list[str]:
        """The forecast in words: a line for each trial, one in all, then where it comes from."""
        trials = list(dict.fromkeys(cost.trial for cost in self.costs if cost.trial))
        lines = [f"{trial}: {self._words(self.total(trial))}" for trial in trials[:most_trials] if len(trials) > 1]
        if len(trials) > most_trials:
            lines.append(f"... and {len(trials) - most_trials} more trials")
        lines.append(f"in all: {self._words(self.total())}")
        lines += dict.fromkeys(f"measured: {_named(cost)}" for cost in self.costs if cost.source)
        if self.unknown:
            what = ", ".join(dict.fromkeys(cost.step for cost in self.unknown))
            lines.append(f"not in it: {what}, of which no run in this store has measured anything yet")
        gpu_h = self.total().gpu_s / HOUR
        if self.budget.gpu_hours and gpu_h > self.budget.gpu_hours:
            lines.append(
                f"budget_gpu_hours is {self.budget.gpu_hours:g}: the run will end before all trials are trained"
            )
        return lines

    def _words(self, cost: Cost) -> str:
        at_most = "at most " if self.halved and not cost.trial else ""
        words = [f"{at_most}{cost.units:,.0f} steps"]
        if any(one.source for one in self.costs):
            words += [f"{duration(cost.wall_s)} of work", f"{duration(cost.cpu_s)} CPU"]
            words += [f"{cost.gpu_s / HOUR:.2f} GPU hours"] if cost.gpu_s else []
            words.append(f"{cost.stored_bytes / 1e6:.1f} MB")
            money = self.budget.money(cost.cpu_s, cost.gpu_s)
            words += [f"{money:.2f} money"] if money is not None else []
        return ", ".join(words)

    def to_note(self) -> dict[str, Any]:
        """As ``forecast.json`` keeps it."""
        total = self.total()
        return {
            "when": now(),
            "costs": [asdict(cost) for cost in self.costs],
            "steps": total.units,
            "cpu_s": round(total.cpu_s, 3),
            "wall_s": round(total.wall_s, 3),
            "gpu_hours": round(total.gpu_s / HOUR, 6),
            "stored_bytes": total.stored_bytes,
            "money": self.budget.money(total.cpu_s, total.gpu_s),
            "unknown": sorted({cost.step for cost in self.unknown}),
            "lines": self.lines(),
        }


def make_forecast(
    run: RunPlan, source_bytes: int, groups: Sequence[Sequence[str]], *, halving: bool = False, champion: bool = False
) -> Forecast:
    """What is left to do of a planned run will take.

    Args:
        run: The plan.
        source_bytes: Of the demonstrations; 0 when an expert makes them.
        groups: Names of the trials that are not finished, as pods take them.
        halving: Trials are pruned at rungs: fewer steps, told as a share of each trial's.
        champion: There is one, which is confirmed beside the winner.
    """
    store, outcomes = run.store_uri, load_outcomes(run)
    names = [name for group in groups for name in group]
    finished = {name for name in names if is_finished(outcomes.get(name))}
    todo = [name for name in names if name not in finished]
    costs = [] if open_store(run.dataset_uri).head(MANIFEST) is not None else [_conversion(run, source_bytes)]
    share = _share_of_steps(run, todo) if halving else 1.0
    for name in todo:
        config = run.trial(name).config
        steps = _steps_left(run, name)
        costs.append(Cost.of(training_kind(config), round(steps * share), store, name))
        is_bundled = has_tree(open_store(f"{run.trial_uri(name)}/bundle"), "")
        costs.append(Cost.of(export_kind(config), 0 if is_bundled else 1, store, name))
        is_scored = is_evaluated(outcomes.get(name))
        costs.append(Cost.of(evaluation_kind(config), 0 if is_scored else run.episodes, store, name))
    if names:
        judged = run.confirm_episodes * (2 if champion else 1)
        costs.append(Cost.of(evaluation_kind(run.trials[0].config), judged, store))
    costs.append(Cost.of(engine_kind(LOCAL), 5 + 3 * len(groups), store))
    return Forecast(tuple(cost for cost in costs if cost.units), run.budget, halving)


def save_forecast(run: RunPlan, forecast: Forecast) -> None:
    """Keep it beside the plan, for the report and the end of the run."""
    open_store(run.run_uri).write(NOTE, to_json(forecast.to_note(), indent=1).encode())


def load_forecast(run_uri: str) -> dict[str, Any]:
    """What was forecast; empty when nothing was."""
    return read_note(open_store(run_uri), NOTE)


def _conversion(run: RunPlan, source_bytes: int) -> Cost:
    from tendon.evaluate.demo_uri import is_demo, parse_demo

    units = parse_demo(run.source_uri).episodes if is_demo(run.source_uri) else source_bytes / 1e6
    return Cost.of(conversion_kind(run.source_uri, run.conversion), units, run.store_uri)


def _steps_left(run: RunPlan, name: str) -> int:
    """Updates that are left after what is finished, or after the last checkpoint that is there."""
    steps, trial_uri = num_updates(run.trial(name).config["training"]), run.trial_uri(name)
    if find_finished(trial_uri) is not None:
        return 0
    keys = (entry.key.split("/") for entry in open_store(trial_uri).list(f"{CHECKPOINTS}/"))
    done = max((int(parts[1]) for parts in keys if len(parts) > 1 and parts[1].isdigit()), default=0)
    return max(0, steps - done)


def _share_of_steps(run: RunPlan, names: Sequence[str]) -> float:
    if not names:
        return 1.0
    steps = max(num_updates(run.trial(name).config["training"]) for name in names)
    return most_steps(steps, len(names)) / (steps * len(names))


def _named(cost: Cost) -> str:
    return f"{cost.step} by {cost.source}{'' if cost.is_exact else ', of a similar kind'}"


def _source(measured: Measurement) -> str:
    return f"{measured.source} of {measured.when} on {measured.device}"


# ------------------------------------------------------------------------------------------------------------ afterwards


@dataclass(frozen=True)
class Took:
    """What a run on one machine took, beside what was forecast; None where nothing could be."""

    cpu_s: float
    wall_s: float
    forecast_cpu_s: float | None

    def words(self) -> str:
        """For the end of a run."""
        told = f"{duration(self.cpu_s)} CPU in {duration(self.wall_s)}"
        return told if self.forecast_cpu_s is None else f"{told}; forecast were {duration(self.forecast_cpu_s)} CPU"


def note_took(
    run_uri: str, store_uri: str, began: str, cpu_s: float, wall_s: float, *, on_processes: bool = True
) -> Took:
    """Keep what a whole run took here, and what of it was not in the work of its steps: the cost of the engine's tasks.

    ``began`` (ISO 8601, UTC): a forecast from before is of another run. ``on_processes``: steps were children of this
    process, so that it knows their CPU time; containers are not.
    """
    store, note = open_store(run_uri), load_forecast(run_uri)
    if note.get("when", "") < began or not on_processes:
        return Took(cpu_s, wall_s, None)
    tasks, work_cpu_s, work_wall_s = 0.0, 0.0, 0.0
    for one in note["costs"]:
        if one["step"] == "engine":
            tasks = one["units"]
            continue
        after = read_measurement(store_uri, one["key"])
        if after is not None:
            work_cpu_s += after.start_cpu_s + one["units"] / after.units * after.cpu_s
            work_wall_s += after.start_wall_s + one["units"] / after.units * after.wall_s
    kind = engine_kind(LOCAL)
    rest_cpu_s, rest_wall_s = max(0.0, cpu_s - work_cpu_s), max(0.0, wall_s - work_wall_s)
    if tasks:
        where = f"run {run_uri.rstrip('/').rsplit('/', 1)[-1]}"
        save(store_uri, kind, Measurement(tasks, kind.unit, rest_cpu_s, rest_wall_s, source=where, when=now()))
    took = Took(round(cpu_s, 3), round(wall_s, 3), None if note["unknown"] else note["cpu_s"])
    store.write("took.json", to_json(asdict(took), indent=1).encode())
    return took
