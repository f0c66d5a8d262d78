"""Kubeflow's engine as it was recorded, on a clock: which pods a run has, in what order, and when it is over.

Argo took 10.9 s a pod, whatever the pod did (a default run: 29 pods in 316 s), so a task costs its driver and its executor
one after the other, a group its driver before what is in it, and a loop one driver more per iteration. Independent tasks
run beside each other, iterations as many at once as the loop allows. Prints a table: ``python -m tests.pipelines.simulated_engine``.
"""

import heapq
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from pipelines.engine_size import kilobytes_of, run_shape

POD_S = 10.9
COMPILED = Path(__file__).resolve().parents[2] / "pipelines" / "compiled"


@dataclass
class SimulatedRun:
    """One run of a compiled pipeline."""

    spec: dict
    shape: object
    pods: list = field(default_factory=list)  # (second of its start, name)

    @classmethod
    def of(cls, spec, shape):
        run = cls(spec, shape)
        run.end_s = run._dag(spec["root"]["dag"]["tasks"], run._pod(0, "root-driver(0)"))
        run.pods.sort(key=lambda pod: pod[0])
        return run

    @property
    def names(self):
        return [name for _, name in self.pods]

    def _pod(self, start_s, name):
        self.pods.append((start_s, name))
        return start_s + POD_S

    def _dag(self, tasks, start_s):
        """The second at which all tasks of a DAG are over."""
        ends = {}
        while len(ends) < len(tasks):
            ready = [
                name for name in tasks if name not in ends and set(tasks[name].get("dependentTasks", ())) <= set(ends)
            ]
            for name in ready:
                begins = max((ends[near] for near in tasks[name].get("dependentTasks", ())), default=start_s)
                ends[name] = self._task(name, tasks[name], begins)
        return max(ends.values())

    def _task(self, name, task, start_s):
        component = self.spec["components"][task["componentRef"]["name"]]
        title = task.get("taskInfo", {}).get("name", name)
        if "dag" not in component:
            ended_s = self._pod(start_s, f"{name}-driver(0)")
            return ended_s if name in self.shape.cached else self._pod(ended_s, "executor(0)")
        inside = component["dag"]["tasks"]
        if "parameterIterator" in task:
            at_once = task.get("iteratorPolicy", {}).get("parallelismLimit", 0)
            return self._loop(
                inside, self.shape.items.get(title, 1), at_once, self._pod(start_s, "iteration-driver(0)")
            )
        ended_s = self._pod(start_s, f"{name}-driver(0)")
        is_skipped = "condition" in task.get("triggerPolicy", {}) and title in self.shape.skipped
        return ended_s if is_skipped else self._dag(inside, ended_s)

    def _loop(self, inside, count, at_once, start_s):
        free = [start_s] * min(count, at_once or count)
        last_s = start_s
        for _ in range(count):
            ended_s = self._dag(inside, self._pod(heapq.heappop(free), "iteration-item-driver(0)"))
            heapq.heappush(free, ended_s)
            last_s = max(last_s, ended_s)
        return last_s


def batches(num_trials, limit):
    """Trials of each run of a sweep that does not fit into one."""
    return [min(limit, num_trials - first) for first in range(0, num_trials, limit)]


def table(spec, limit):
    """(what, pods, seconds, kilobytes of the largest run) of the runs that the documentation speaks of."""
    runs = {
        "default": [run_shape()],
        "repeat": [run_shape(work=False)],
        "default, other trials of the same data": [run_shape(cached=("convert", "stats"))],
        "2 conversion workers": [run_shape(workers=2)],
        "5 trials": [run_shape(5)],
        "35 trials": [run_shape(count) for count in batches(35, limit)],
        "150 trials, 5 a pod": [run_shape(30)],
        "150 trials, in batches": [run_shape(count) for count in batches(150, limit)],
    }
    rows = []
    for what, shapes in runs.items():
        simulated = [SimulatedRun.of(spec, shape) for shape in shapes]
        rows.append(
            (
                what,
                sum(len(run.pods) for run in simulated),
                sum(run.end_s for run in simulated),
                max(kilobytes_of(spec, shape) for shape in shapes),
            )
        )
    return rows


def main():
    from tendon.runs.limits import MOST_GROUPS

    spec = next(yaml.safe_load_all((COMPILED / "policy_pipeline.yaml").read_text(encoding="utf-8")))
    for what, pods, seconds, kilobytes in table(spec, MOST_GROUPS):
        print(f"{what:40} {pods:5} pods {seconds:7.0f} s {kilobytes:6.0f} KB")


if __name__ == "__main__":
    main()
