"""What a policy was trained with and on, as groups of facts: hyperparameters, machine, versions, time and cost.

A configuration and the notes of the steps (``timings/*.json``) come in. Called by gather and by the page of a training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tendon.logs import duration
from tendon.report.summary import FactGroup, Timing
from tendon.runs.plan import RunPlan
from tendon.storage import Store, open_store
from tendon.storage.json_values import read_note

FIRST = (  # what a reader asks for, in this order; all else is below
    "policy.name",
    "training.offline_steps",
    "training.batch_size",
    "training.lr",
    "training.optimizer",
    "training.lr_scheduler",
    "training.weight_decay",
    "training.precision",
    "training.num_gpus",
    "ema.enable",
    "seed",
    "env.task",
    "env.fps",
)
COST = "Time and cost"
OF_THE_MACHINE = ("processor", "memory", "accelerator", "system")


def winner_facts(run: RunPlan, winner: str, timings: Sequence[Timing]) -> tuple[FactGroup, ...]:
    """Of the winner of a run."""
    trial = run.trial(winner)
    noted = read_note(open_store(run.trial_uri(winner)), "timings/train.json").get("machine", {})
    groups = training_facts(trial.config, trial.overrides, noted, timings, run.code_version)
    return tuple(_with_money(run, group, timings) if group.title == COST else group for group in groups)


def _with_money(run: RunPlan, group: FactGroup, timings: Sequence[Timing]) -> FactGroup:
    """With what the time cost, where the run was given prices."""
    budget = getattr(run, "budget", None)
    gpu_s = sum(timing.seconds * (timing.gpus or 0) for timing in timings)
    spent = budget.money(sum(timing.seconds for timing in timings), gpu_s) if budget is not None else None
    return (
        group
        if spent is None
        else FactGroup(group.title, (*group.rows, ("money, at the run's prices", f"{spent:,.2f}")))
    )


def training_facts(
    config: Mapping[str, Any],
    overrides: Sequence[str],
    machine: Mapping[str, str],
    timings: Sequence[Timing],
    code: str,
) -> tuple[FactGroup, ...]:
    """Hyperparameters, machine, versions, and time with cost; a group of which nothing is known is left out."""
    settings = dict(_flat(config))
    varied = [(key, value) for key, _, value in (one.partition("=") for one in overrides)]
    first = [(key, settings[key]) for key in FIRST if key in settings and key not in dict(varied)]
    versions = [(name, str(value)) for name, value in machine.items() if name not in OF_THE_MACHINE]
    hardware = [(name, str(machine[name])) for name in OF_THE_MACHINE if machine.get(name)]
    groups = (
        FactGroup("Hyperparameters", (*varied, *first), tuple(settings.items())),
        FactGroup(COST, tuple(_cost(timings))),
        FactGroup("Machine of the training", tuple(hardware)),
        FactGroup("Versions", (*versions, *([("numbers of the code", code)] if code else []))),
    )
    return tuple(group for group in groups if group.rows)


def _cost(timings: Sequence[Timing]) -> Iterator[tuple[str, str]]:
    for step in dict.fromkeys(timing.step for timing in timings):
        seconds = [timing.seconds for timing in timings if timing.step == step]
        trials = f" in {len(seconds)} trials" if len(seconds) > 1 else ""
        yield step, f"{duration(sum(seconds))}{trials}"
    yield "all steps", duration(sum(timing.seconds for timing in timings))
    unknown = any(timing.gpus is None for timing in timings if timing.step == "train")
    hours = sum(timing.gpu_hours for timing in timings)
    yield "GPU hours", "not recorded" if unknown else f"{hours:.3g}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def noted_times(store: Store, steps: Iterable[str], gpus: int | None) -> Iterator[Timing]:
    """What steps wrote beside what they made; ``gpus``: held by training."""
    for step in steps:
        note = read_note(store, f"timings/{step}.json")
        if "seconds" in note:
            yield Timing(step, "", float(note["seconds"]), gpus if step == "train" else 0, str(note.get("image", "")))
