"""What ties an engine's job to a run, how the job ended, and what a schedule trained on last: small JSONs in the store.

``jobs/JOB.json``                the note of plan: the run, and whether there is work; read by finish
``jobs/JOB/ended.json``          how the job ended, written by finish; read by ``submit.py list|watch`` and by the next run
``jobs/JOB/noticed.json``        which later job has told that this one left no end
``retrain/DATASET-CHAMPION/TASK.json``   the data of the last retraining that ended well, for a task and its protocol
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tendon.errors import ConfigError, DataError
from tendon.runs.failures import now
from tendon.runs.plan import RunPlan, load_plan
from tendon.storage import Store, join, open_store

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Job:
    """One job of an engine: when it was begun, and the run that it planned; no ``run_uri``: it did not get that far."""

    run_uri: str = ""
    when: str = ""  # ISO 8601, UTC
    work: bool = True
    reason: str = ""  # why there is work, or none
    is_complete: bool = False  # there is no work because all of it is finished
    unfinished: tuple[str, ...] = ()  # earlier jobs that left no end


@dataclass(frozen=True)
class UnfinishedJob:
    """A job that left no end: it still runs, or it was killed together with its exit task."""

    job_id: str
    run_uri: str
    when: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Trained:
    """The data that a schedule trained on last."""

    source_digest: str
    run_uri: str
    when: str  # ISO 8601, UTC


def note_job(store_uri: str, job_id: str, job: Job) -> None:
    """Remember what a job of the engine plans."""
    if job_id:
        open_store(store_uri).write(f"jobs/{_named(job_id)}.json", json.dumps(asdict(job)).encode())


def find_job(store_uri: str, job_id: str) -> Job:
    """What the job planned."""
    fields = _read(open_store(store_uri), f"jobs/{_named(job_id)}.json")
    return Job(**fields | {"unfinished": tuple(fields.get("unfinished", ()))}) if fields else Job()


def job_folder(store_uri: str, job_id: str) -> str:
    """Where a job leaves what is not of its run: what stopped it before there was one, its page, its end."""
    return join(store_uri, "jobs", _named(job_id)) if job_id else ""


def save_end(store_uri: str, job_id: str, end: dict[str, Any]) -> None:
    """Keep how the job ended."""
    open_store(store_uri).write(f"jobs/{_named(job_id)}/ended.json", json.dumps(end, indent=1).encode())


def unfinished_jobs(store_uri: str) -> list[UnfinishedJob]:
    """Jobs with a note and without an end, the oldest first."""
    store = open_store(store_uri)
    keys = [entry.key for entry in store.list("jobs/")]
    ended = {key.split("/")[1] for key in keys if key.endswith("/ended.json")}
    job_ids = [key.removeprefix("jobs/").removesuffix(".json") for key in keys if key.count("/") == 1]
    notes = [(job_id, find_job(store_uri, job_id)) for job_id in job_ids if job_id not in ended]
    return sorted((UnfinishedJob(job_id, note.run_uri, note.when) for job_id, note in notes), key=lambda job: job.when)


def notice_unfinished(store_uri: str, job_id: str) -> tuple[str, ...]:
    """One sentence for each earlier job that left no end; each job is told of once."""
    store, sentences = open_store(store_uri), []
    for job in unfinished_jobs(store_uri):
        if job.job_id == job_id:
            continue
        key = f"jobs/{job.job_id}/noticed.json"
        if not store.create(key, json.dumps({"by": job_id}).encode()) and _read(store, key) != {"by": job_id}:
            continue
        run = f" ({job.run_uri})" if job.run_uri else ""
        sentences.append(
            f"job {job.job_id} of {job.when}{run} left no end: it still runs, or it was killed together with its exit task"
        )
    return tuple(sentences)


def last_trained(run: RunPlan, task_of: Callable[[RunPlan], str]) -> Trained | None:
    """What this schedule trained on last, None when it never did; ``task_of`` names a run's task and its protocol."""
    store, task = open_store(run.store_uri), task_of(run)
    fields = _read(store, f"{_schedule(run)}/{_named(task)}.json")
    if fields:
        return Trained(**fields)
    # Marks from before they were kept by task say nothing of it; the plan of the run that they name does.
    fields = _read(store, f"{_schedule(run)}.json")
    if not fields or open_store(fields["run_uri"]).head("plan.json") is None:
        return None
    return Trained(**fields) if task_of(load_plan(fields["run_uri"])) == task else None


def remember_trained(run: RunPlan, task_of: Callable[[RunPlan], str]) -> None:
    """Keep what was trained on, so that the next tick of the schedule can tell whether there is anything new."""
    text = json.dumps(asdict(Trained(run.source_digest, run.run_uri, now())), indent=1)
    open_store(run.store_uri).write(f"{_schedule(run)}/{_named(task_of(run))}.json", text.encode())


def _schedule(run: RunPlan) -> str:
    return f"retrain/{_named(run.dataset_name)}-{_named(run.champion)}"


def _named(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ConfigError(
            f"{text!r} cannot be a file name",
            where="parameters",
            why="it becomes one",
            fix="use letters, digits, dot, dash and underscore",
        )
    return text


def _read(store: Store, key: str) -> dict[str, Any] | None:
    if store.head(key) is None:
        return None
    try:
        fields: dict[str, Any] = json.loads(store.read(key))
    except ValueError as error:
        raise DataError(
            "a note in the store cannot be read", where=f"{store.uri}/{key}", why=str(error), fix="delete it"
        ) from error
    return fields
