"""What ties an engine's job to a run, and a schedule to the data it last trained on: two small JSONs in the store.

``jobs/<job id>.json`` is written by plan and read by finish, which runs even when everything else failed;
``retrain/<dataset>-<champion>.json`` is written by finish and read by the step that decides whether there is anything new.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from tendon.errors import ConfigError, DataError
from tendon.registry.failure import now
from tendon.storage import Store, join, open_store


@dataclass(frozen=True)
class Job:
    """One job of an engine: the run that it planned, and when; both empty when it did not get that far."""

    run_uri: str = ""
    when: str = ""  # ISO 8601, UTC


@dataclass(frozen=True)
class Trained:
    """The data that a schedule trained on last."""

    source_digest: str
    run_uri: str
    when: str  # ISO 8601, UTC


def note_job(store_uri: str, job_id: str, run_uri: str) -> None:
    """Remember which run a job of the engine plans."""
    if job_id:
        open_store(store_uri).write(f"jobs/{_named(job_id)}.json", json.dumps(asdict(Job(run_uri, now()))).encode())


def find_job(store_uri: str, job_id: str) -> Job:
    """What the job planned."""
    fields = _read(open_store(store_uri), f"jobs/{_named(job_id)}.json")
    return Job(**fields) if fields else Job()


def job_folder(store_uri: str, job_id: str) -> str:
    """Where a step leaves what stopped it before there was a run; nowhere when no engine started it."""
    return join(store_uri, "jobs", _named(job_id)) if job_id else ""


def last_trained(store_uri: str, dataset_name: str, champion: str) -> Trained | None:
    """What this schedule trained on last, None when it never did."""
    fields = _read(open_store(store_uri), _schedule(dataset_name, champion))
    return Trained(**fields) if fields else None


def remember_trained(store_uri: str, dataset_name: str, champion: str, source_digest: str, run_uri: str) -> None:
    """Keep what was trained on, so that the next tick of the schedule can tell whether there is anything new."""
    text = json.dumps(asdict(Trained(source_digest, run_uri, now())), indent=1)
    open_store(store_uri).write(_schedule(dataset_name, champion), text.encode())


def _schedule(dataset_name: str, champion: str) -> str:
    return f"retrain/{_named(dataset_name)}-{_named(champion)}.json"


def _named(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise ConfigError(
            f"{text!r} cannot be a file name",
            where="parameters",
            why="it becomes one",
            fix="use letters, digits, dot, dash and underscore",
        )
    return text


def _read(store: Store, key: str) -> dict[str, str] | None:
    if store.head(key) is None:
        return None
    try:
        fields: dict[str, str] = json.loads(store.read(key))
    except ValueError as error:
        raise DataError(
            "a note in the store cannot be read", where=f"{store.uri}/{key}", why=str(error), fix="delete it"
        ) from error
    return fields
