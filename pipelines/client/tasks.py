"""Which step each task of a run belongs to, and in which pod it ran, from the task details of the API.

The API names every executor ``executor`` and gives no id of a task, only those of its children. But an id of Argo is the
workflow's name and the FNV-1a hash of the node's path (``WORKFLOW(0).root(0).line(0).plan(0).executor(0)``), so the paths
are found by trying: every display name below every path that is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.client.connection import message_of, state_of

ATTEMPT = re.compile(r"\((\d+)\)$")
GROUP = re.compile(r"(exit-handler|for-loop|condition|condition-branches)-\d+.*|root|iteration.*|executor")
MOST_ATTEMPTS = 12


@dataclass(frozen=True)
class Task:
    """One pod of a step, as the engine sees it."""

    step: str  # "train"; a driver that prepares it is "train-driver"
    iteration: str  # "2" inside a loop, else ""
    state: str
    pod_id: str  # the end of the pod's name; "" when it is not known
    message: str
    started: str

    @property
    def name(self) -> str:
        """``train [2]``."""
        return f"{self.step} [{self.iteration}]" if self.iteration else self.step


def fnv1a(text: str, value: int = 0x811C9DC5) -> int:
    """The hash at the end of the ids of Argo; ``value`` is that of the text before this one."""
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def details_of(run: Any) -> list[Any]:
    """The task details that have a name."""
    details = getattr(run.run_details, "task_details", None) if run.run_details else None
    return [task for task in details or () if task.display_name]


def workflow_of(run: Any) -> str:
    """The name of the engine's own object: what all ids begin with."""
    for task in details_of(run):
        for child in task.child_tasks or ():
            if child.pod_name:
                return str(child.pod_name).rpartition("-")[0]
    return ""


def tasks_of(run: Any) -> list[Task]:
    """The pods of a run: executors under the name of their step, and drivers."""
    details = details_of(run)
    paths = _paths(workflow_of(run), details)
    tasks = list(_attempts(details, paths))
    seen = {task.step for task in tasks}
    for detail in details:  # a step whose ids could not be told apart, or that has no pod yet
        step = ATTEMPT.sub("", detail.display_name)
        named_step = not GROUP.fullmatch(step) and step != workflow_of(run) and ".onExit" not in step
        if named_step and not step.endswith("-driver") and step not in seen and detail.state:
            tasks.append(Task(step, "", state_of(detail), "", _message(detail), str(detail.start_time or "")))
            seen.add(step)
    return sorted(tasks, key=lambda task: task.started)


def _attempts(details: list[Any], paths: dict[str, str]) -> Iterator[Task]:
    """Every attempt of an executor or a driver, which are the children of the task of that name."""
    waiting = [task for task in details if ATTEMPT.search(task.display_name) and state_of(task) == "PENDING"]
    for detail in details:
        if detail.display_name != "executor" and not detail.display_name.endswith("-driver"):
            continue
        if not detail.state:  # omitted
            continue
        for child in detail.child_tasks or ():
            path = paths.get(str(child.pod_name), "")
            state = state_of(detail)
            mine = [one for one in waiting if one.start_time == detail.start_time]
            if state == "RUNNING" and any(one.display_name.startswith(detail.display_name) for one in mine):
                state = "PENDING"
            message = _message(detail) or next((_message(one) for one in mine if _message(one)), "")
            pod_id = str(child.pod_name).rpartition("-")[2]
            step, iteration = step_of(path, detail.display_name)
            if step:
                yield Task(step, iteration, state, pod_id, message, str(detail.start_time or ""))


def step_of(path: str, name: str = "executor") -> tuple[str, str]:
    """The step that a path of nodes ends in, and the number of its iteration.

    >>> step_of("w(0).root(0).for-loop-2(0).iteration-item(3)(0).train(0).executor(0)")
    ('train', '3')
    """
    names = [part for part in path.split(".") if part]
    if name.endswith("-driver"):
        return (name, _iteration(path)) if not GROUP.fullmatch(name.removesuffix("-driver")) else ("", "")
    inner = [ATTEMPT.sub("", part) for part in names if not part.startswith("executor")]
    return (inner[-1], _iteration(path)) if inner and not GROUP.fullmatch(inner[-1]) else ("", "")


def _iteration(path: str) -> str:
    numbers = re.findall(r"iteration-item\((\d+)", path)
    return ".".join(numbers)


def _paths(workflow: str, details: list[Any]) -> dict[str, str]:
    """Id to path, for as many ids as can be found."""
    ids = {str(child.pod_name) for task in details for child in task.child_tasks or () if child.pod_name}
    names = {task.display_name for task in details if not task.display_name.startswith(workflow)}
    names |= {ATTEMPT.sub("", name) for name in names}
    endings = [f"({number})" for number in range(MOST_ATTEMPTS)] + [f".{name}" for name in names]
    found: dict[str, str] = {}
    tried: set[str] = set()
    frontier = [workflow] if workflow else []
    while frontier:
        path = frontier.pop()
        if path in tried:
            continue
        tried.add(path)
        before = fnv1a(path)
        for more in endings:
            identifier = f"{workflow}-{fnv1a(more, before)}"
            if identifier in ids and identifier not in found:
                candidate = found[identifier] = path + more
                frontier.append(candidate)
                if not ATTEMPT.search(candidate):
                    frontier += [f"{candidate}(0)"]
    return found


def _message(task: Any) -> str:
    """What the API says of a task, which is often nothing."""
    errors = [getattr(entry, "error", None) for entry in task.state_history or ()]
    texts = [message_of(getattr(error, "message", "")) for error in (task.error, *errors) if error]
    return next((text for text in texts if text), "")


def failing_steps(run: Any) -> list[Task]:
    """The steps that failed, in the order of time; a driver only where no step did."""
    failed = [task for task in tasks_of(run) if task.state == "FAILED"]
    return [task for task in failed if not task.step.endswith("-driver")] or failed
