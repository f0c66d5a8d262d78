"""What several waiters of one trial tell each other through its store: who waits, and how a job ended that one of them removed.

``nodes/waiters/NAME.json`` is a sign of life, ``nodes/ended.json`` the error of the last job that failed, ``nodes/states.json``
what the nodes did, for the pages. A store that refuses never ends a wait.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone

from tendon.errors import Problem, TendonError
from tendon.storage import open_store
from tendon.train.distributed.node_report import ERRORS

logger = logging.getLogger(__name__)
WAITERS, ENDED, STATES = "nodes/waiters", "nodes/ended.json", "nodes/states.json"
SIGN_EVERY_S = 20.0
DEAD_AFTER_S = 90.0
MOST_STATES = 200


class WaiterNotes:
    """The notes of one waiter, in the folder of its trial."""

    def __init__(self, trial_uri: str) -> None:
        self.trial_uri = trial_uri
        self._store = open_store(trial_uri)
        self._key = f"{WAITERS}/{uuid.uuid4().hex}.json"
        self._signed_at = 0.0
        self._history: list[dict[str, str]] = []

    def sign(self) -> None:
        """Say that this waiter lives."""
        if time.monotonic() - self._signed_at > SIGN_EVERY_S or not self._signed_at:
            with suppress(TendonError):
                self._store.write(self._key, json.dumps({"at": time.time()}).encode())
            self._signed_at = time.monotonic()

    def leave(self) -> None:
        """Take the sign away."""
        with suppress(TendonError):
            self._store.delete(self._key)

    def others(self) -> int:
        """How many other waiters live; the signs of dead ones are cleared away."""
        count = 0
        with suppress(TendonError):
            for entry in list(self._store.list(f"{WAITERS}/")):
                if entry.key == self._key:
                    continue
                with suppress(TendonError, ValueError, KeyError):
                    if time.time() - json.loads(self._store.read(entry.key))["at"] < DEAD_AFTER_S:
                        count += 1
                    else:
                        self._store.delete(entry.key)
        return count

    def note_end(self, uid: str, error: TendonError) -> None:
        """How the job of this uid failed, for who finds it gone."""
        note = {"uid": uid, "exit_code": error.exit_code, "problems": [asdict(problem) for problem in error.problems]}
        with suppress(TendonError):
            self._store.write(ENDED, json.dumps(note, indent=1).encode())

    def noted_end(self, uid: str) -> TendonError | None:
        """How the job of this uid failed, if another waiter saw it."""
        with suppress(TendonError, ValueError, KeyError):
            if self._store.head(ENDED) is not None:
                note = json.loads(self._store.read(ENDED))
                if note["uid"] == uid:
                    problems = [Problem(**problem) for problem in note["problems"]]
                    return ERRORS.get(note["exit_code"], TendonError).of(problems)
        return None

    def note_states(self, states: Mapping[str, str], progress: str = "", changed: str = "") -> None:
        """What nodes and queue do now, how far the training is, and one more sentence of what changed."""
        if changed:
            self._history = [*self._history, {"at": _now(), "text": changed}][-MOST_STATES:]
        note = {"at": _now(), "states": dict(states), "progress": progress, "history": self._history}
        with suppress(TendonError):
            self._store.write(STATES, json.dumps(note, indent=1).encode())

    def read_json(self, key: str) -> dict[str, object] | None:
        """A small file of the trial, None when it is not there or the store does not answer."""
        with suppress(TendonError, ValueError):
            if self._store.head(key) is not None:
                found: dict[str, object] = json.loads(self._store.read(key))
                return found
        return None

    def newest_checkpoint(self, complete: Callable[..., list[str]]) -> int:
        """The step of the newest checkpoint; -1 when there is none or nobody knows."""
        with suppress(TendonError):
            names = complete(self._store)
            return int(names[0]) if names else -1
        return -1


def describe_nodes(trial_uri: str) -> str:
    """What the nodes of a trial did last, in one line for a page; empty when it had none, or is finished."""
    with suppress(TendonError, ValueError, KeyError):
        store = open_store(trial_uri)
        if store.head(STATES) is not None:
            note = json.loads(store.read(STATES))
            parts = [f"{who}: {text}" for who, text in note["states"].items()] + [note["progress"]]
            return "; ".join(filter(None, parts))
    return ""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
