"""What a run came to, as it left it in the store: jobs/RUN/ended.json, and what its steps left when they failed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipelines.client.connection import ENDED, Connection, silence, state_of, was_canceled
from tendon.errors import Problem, TendonError

STORE = "data_store_uri"
GOOD = ("succeeded", "nothing to do")
PART_DONE, STOPPED, DIED = "part done", "stopped", "died without its exit task"
WORDS = {"SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELED": STOPPED, "SKIPPED": "nothing to do"}


@dataclass(frozen=True)
class Ending:
    """How a run ended, by its store where that can be read, else by the engine's word."""

    word: str
    headline: str = ""
    report_uri: str = ""
    problems: tuple[Problem, ...] = ()  # the four lines of what failed
    step: str = ""
    log: str = ""  # the command that shows the log of that step


def store_of(connection: Connection, run: Any) -> str:
    """The store of a run: what its arguments say, else --store."""
    parameters = (run.runtime_config.parameters if run.runtime_config else None) or {}
    return str(parameters.get(STORE) or connection.target.store or "")


class Endings:
    """Reads the endings of runs; a store that refused is not asked again."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.unreadable: dict[str, str] = {}

    def of(self, run: Any) -> Ending | None:
        """How a run ended; None while it goes on."""
        state, store_uri = state_of(run), store_of(self.connection, run)
        if state not in ENDED:
            return None
        kept = self._kept(store_uri, run.run_id)
        stopped = was_canceled(run) and state != "SUCCEEDED"
        if kept is not None:
            return _from_store(kept, stopped)
        if stopped:
            return Ending(STOPPED)
        if store_uri and store_uri not in self.unreadable and state == "FAILED":
            return Ending(DIED, problems=self._failures(store_uri, run.run_id))
        return Ending(WORDS[state])

    def readable(self, store_uri: str) -> bool:
        """Whether this store answers."""
        self._kept(store_uri, "none")
        return bool(store_uri) and store_uri not in self.unreadable

    def _kept(self, store_uri: str, run_id: str) -> dict[str, Any] | None:
        from tendon.storage import open_store

        if not store_uri or store_uri in self.unreadable:
            return None
        try:
            with silence():
                store = open_store(store_uri)
                key = f"jobs/{run_id}/ended.json"
                fields = json.loads(store.read(key)) if store.head(key) is not None else None
        except (TendonError, OSError, ValueError, ImportError) as error:
            self.unreadable[store_uri] = str(getattr(error, "problems", [error])[0]).splitlines()[0]
            return None
        return fields if isinstance(fields, dict) else None

    def _failures(self, store_uri: str, run_id: str) -> tuple[Problem, ...]:
        """What the steps of a run left that has no ending."""
        from tendon.runs.failures import failures_in
        from tendon.runs.jobs import find_job, job_folder

        with silence(), suppress(TendonError, OSError, ValueError, KeyError):
            job = find_job(store_uri, run_id)
            failures = failures_in(job.run_uri, since=job.when) if job.run_uri else []
            failures += failures_in(job_folder(store_uri, run_id))
            return tuple(problem for failure in failures for problem in failure.problems)
        return ()


def _from_store(kept: Mapping[str, Any], stopped: bool) -> Ending:
    word = STOPPED if stopped and kept.get("ending") not in GOOD else str(kept.get("ending") or "failed")
    failures = [one for one in kept.get("failures") or () if not (isinstance(one, dict) and one.get("soft"))]
    first = failures[0] if failures and isinstance(failures[0], dict) else {}
    step = " ".join(filter(None, (first.get("step"), first.get("part"))))
    headline, report_uri = str(kept.get("headline") or ""), str(kept.get("report_uri") or "")
    problems = tuple(problem for failure in failures for problem in _problems(failure))
    return Ending(word, headline, report_uri, problems, step, str(first.get("log") or ""))


def _problems(failure: Any) -> Iterator[Problem]:
    """The four lines of a failure, which are kept as text."""
    told = failure.get("text", "") if isinstance(failure, dict) else failure
    for text in str(told).split("\n\n"):
        lines = dict.fromkeys(("error", "where", "why", "fix"), "")
        lines |= {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
        if lines["error"]:
            yield Problem(lines["error"], lines["where"], lines["why"], lines["fix"])
