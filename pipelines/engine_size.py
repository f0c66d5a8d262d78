"""How many pods a run takes and how large its object in Argo becomes, computed from a compiled pipeline. Pure.

As recorded on Kubeflow Pipelines 2.17: a container task is a driver and an executor, or a driver alone when its outputs
are cached; a pipeline, a condition (also one that is skipped) and a loop are a driver each, an iteration is another. The
object is stored compressed and may have 1 MiB; beyond it a run ends without its exit task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]

MOST_KB = 1024
KB_PER_POD = 24 / 7  # recorded: up to 24 KB for an iteration of seven pods
KB_BASE = 123 - 22 * KB_PER_POD  # recorded: 123 KB for the 22 pods of a run beside those of its trial


@dataclass(frozen=True)
class RunShape:
    """What decides the pods of a run: items of each loop and outcome of each condition by display name, steps from the cache."""

    items: Mapping[str, int] = field(default_factory=dict)  # of a loop; 1 when left out
    skipped: frozenset[str] = frozenset()  # conditions that are false
    cached: frozenset[str] = frozenset()  # steps


def run_shape(
    groups: int = 1, *, workers: int = 1, evaluators: int = 1, work: bool = True, cached: tuple[str, ...] = ()
) -> RunShape:
    """A run of the training pipelines: so many groups of trials, workers of conversion and evaluation, anything to do at all."""
    skipped = {"more than one worker"} if workers == 1 else set()
    skipped |= {"more than one evaluator"} if evaluators == 1 else set()
    skipped |= {"shared work"} if workers == evaluators == 1 else {"work"}
    skipped |= set() if work else {"work", "shared work"}
    items = {"trials": groups, "workers": workers - 1, "evaluations": groups * evaluators}
    return RunShape(items, frozenset(skipped), frozenset(cached))


def pods_of(spec: Spec, shape: RunShape | None = None) -> int:
    """Drivers and executors of a run, its root driver included."""
    shape = shape or run_shape()

    def of_tasks(tasks: Spec) -> int:
        return sum(of_task(name, task) for name, task in tasks.items())

    def of_task(name: str, task: Spec) -> int:
        component = spec["components"][task["componentRef"]["name"]]
        title = task.get("taskInfo", {}).get("name", name)
        if "dag" not in component:
            return 1 if name in shape.cached else 2
        inside = of_tasks(component["dag"]["tasks"])
        if "parameterIterator" in task:
            return 1 + shape.items.get(title, 1) * (1 + inside)
        if "condition" in task.get("triggerPolicy", {}) and title in shape.skipped:
            return 1
        return 1 + inside

    return 1 + of_tasks(spec["root"]["dag"]["tasks"])


def kilobytes_of(spec: Spec, shape: RunShape | None = None) -> float:
    """Size of the run's object in Argo, compressed."""
    return KB_BASE + KB_PER_POD * pods_of(spec, shape)
