"""Waiting for a run: what keeps it from going on while that lasts, and at the end what it came to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.client.connection import Connection, Unreachable, state_of
from pipelines.client.endings import DIED, GOOD, PART_DONE, STOPPED, Ending, Endings, store_of
from pipelines.client.pods import Kubectl, explained, log_command
from pipelines.client.tasks import failing_steps, tasks_of, workflow_of
from tendon.errors import Interrupted, Problem, TendonError

PENDING_S = 60  # a pod takes about 11 s; this is no longer the usual delay
MOST_MISSES = 5  # looks in a row that nobody answers, before waiting ends
CHECKOUT = Path(__file__).resolve().parents[2] / "pyproject.toml"
SUBMIT = "python pipelines/submit.py" if CHECKOUT.is_file() else "tendon submit"  # of an installed wheel


@dataclass
class Obstacles:
    """What keeps a run's steps from starting; each is said once, and again when it changes."""

    kubectl: Kubectl
    run_id: str
    said: dict[str, str] = field(default_factory=dict)
    pending_since: dict[str, float] = field(default_factory=dict)

    def look(self, run: Any) -> list[str]:
        """New lines about the run as it is now."""
        tasks = [task for task in tasks_of(run) if task.state in ("PENDING", "RUNNING")]
        messages = {task.name: task.message for task in tasks if task.message}
        pending = [task.name for task in tasks if task.state == "PENDING"]
        if pending or state_of(run) == "PENDING" or messages:
            messages |= self.kubectl.waiting(self.run_id, workflow_of(run))
        messages |= self._silent(pending, messages)
        lines = []
        for step, message in messages.items():
            kind, sentence = explained(message)
            if self.said.get(step) != kind:
                lines.append(f"{step} waits: {sentence}")
            self.said[step] = kind
        for step in [step for step in self.said if step not in messages]:
            lines.append(f"{step} goes on")
            del self.said[step]
        return lines

    def _silent(self, pending: list[str], messages: dict[str, str]) -> dict[str, str]:
        """A pod that has been pending for long, and nobody says why."""
        now = time.monotonic()
        self.pending_since = {step: self.pending_since.get(step, now) for step in pending}
        long = [step for step, since in self.pending_since.items() if now - since > PENDING_S and step not in messages]
        see = f"{self.kubectl.command} describe pods -l pipeline/runid={self.run_id}"
        return dict.fromkeys(long, f"its pod has been pending for more than {PENDING_S} s; {see}  says why")


@contextmanager
def _still_going(link: str, run_id: str) -> Iterator[None]:
    """Ctrl-C ends the waiting and nothing else."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            "the waiting was stopped, the run goes on",
            where=link,
            why="Ctrl-C",
            fix=f"{SUBMIT} watch {run_id}  waits again; {SUBMIT} cancel {run_id}  stops the run",
        ) from None


def wait(connection: Connection, run_id: str, *, timeout_s: float, poll_s: float) -> Ending:
    """Wait for the end of a run; how it ended, if that is well.

    Raises:
        Interrupted: The run goes on, the waiting ended; or it did its part of the sweep and more parts are left.
        TendonError: The run failed, or was stopped.
    """
    with _still_going(connection.run_link(run_id), run_id):
        return _wait(connection, run_id, timeout_s, poll_s)


def _wait(connection: Connection, run_id: str, timeout_s: float, poll_s: float) -> Ending:
    end, shown, misses = time.monotonic() + timeout_s, "", 0
    endings, link = Endings(connection), connection.run_link(run_id)
    obstacles = Obstacles(Kubectl(connection.namespace, connection.target.kube_context), run_id)
    while True:
        try:
            run = connection.run(run_id)
            misses = 0
        except Unreachable:
            misses += 1
            if misses > MOST_MISSES or not shown:
                raise
            time.sleep(poll_s)
            continue
        state = state_of(run)
        if state != shown:
            print(f"run {run_id}: {state}", flush=True)
            shown = state
        if ending := endings.of(run):
            return _judged(connection, run, ending, endings)
        for line in obstacles.look(run):
            print(f"run {run_id}: {line}", flush=True)
        if time.monotonic() > end:
            raise Interrupted(
                f"the run is still {state}",
                where=link,
                why=f"{timeout_s:.0f} s are over",
                fix=f"it goes on; look at the link, or {SUBMIT} watch {run_id}",
            )
        time.sleep(poll_s)


def _judged(connection: Connection, run: Any, ending: Ending, endings: Endings) -> Ending:
    """The ending if it is a good one; else the error that says it."""
    link = connection.run_link(run.run_id)
    told = f"run {run.run_id}: {ending.word}" + (f": {ending.headline}" if ending.headline else "")
    print(told + (f"\nreport: {ending.report_uri}" if ending.report_uri else ""), flush=True)
    if ending.word in GOOD or ending.word == PART_DONE:
        return ending
    if ending.word == STOPPED:
        raise TendonError(
            "the run was stopped",
            where=link,
            why=ending.headline or "somebody or something ended it from outside; no step of it failed",
            fix="start it again: finished steps are kept",
        )
    raise TendonError.of([_failed(connection, run, ending, endings), *ending.problems])


def _failed(connection: Connection, run: Any, ending: Ending, endings: Endings) -> Problem:
    """What failed, by the engine's tasks and the store."""
    kubectl = Kubectl(connection.namespace, connection.target.kube_context)
    steps = failing_steps(run)
    names = ", ".join(dict.fromkeys(task.name for task in steps)) or ending.step
    what = f"the run {ending.word}" + (f", at {names}" if names else "")
    history = [getattr(entry.error, "message", "") for entry in run.state_history or () if entry.error]
    messages = [getattr(run.error, "message", ""), *history, *(task.message for task in steps)]
    message = next((explained(text)[1] for text in messages if text), "")
    why = ending.headline or message
    if not why and ending.problems:
        why = ending.problems[0].what
    if not why:
        why = _no_reason(connection, run, ending, endings)
    log = ending.log or (log_command(kubectl, run.run_id, steps[0].pod_id) if steps else "")
    fix = f"see {log}" if log else f"{SUBMIT} logs {run.run_id}"
    return Problem(what, connection.run_link(run.run_id), why, f"{fix}; start it again: finished steps are kept")


def _no_reason(connection: Connection, run: Any, ending: Ending, endings: Endings) -> str:
    store_uri = store_of(connection, run)
    if ending.word == DIED:
        return "the engine ended it before its exit task wrote anything (too many trials for one run, or a lost engine)"
    if store_uri in endings.unreadable:
        return f"the reason is in {store_uri}, which cannot be read from here: {endings.unreadable[store_uri]}"
    if not store_uri:
        return "the reason is in the store beside the pipeline root: --store URI reads it; the step's log has it too"
    return "the failing step left no message; its log has the last lines"
