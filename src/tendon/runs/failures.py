"""What ended a step, kept in the store beside its work, so that the page of a run can say it when the pod is gone.

Written by the step that fails (``kept``), read by steps.finish. A step that is killed writes nothing: its log is all there is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from tendon.config.digest import running_pod
from tendon.errors import Interrupted, Problem, TendonError, with_a_name
from tendon.storage import open_store
from tendon.storage.json_values import read_note

FOLDER = "failures"
NO_TRIAL_FINISHED = "no trial finished"  # what a run says at its end when its trials failed: their errors came before
LOG = "TENDON_LOG"  # the log of this step, where a runner keeps it in a file
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class StepFailure:
    """One step that ended badly; ``part`` is its trial, or its share of a conversion. A soft one stopped nobody else."""

    step: str
    part: str
    when: str  # ISO 8601, UTC
    exit_code: int
    problems: tuple[Problem, ...]
    log: str  # a file, or the command that shows it
    soft: bool = False

    @property
    def name(self) -> str:
        """``train lr_0.001``."""
        return f"{self.step} {self.part}".strip()

    @property
    def text(self) -> str:
        """The four lines, of every problem."""
        return "\n\n".join(map(str, self.problems))


@contextmanager
def recording_failures(uri: str, step: str, part: str = "", *, soft: bool = False) -> Iterator[None]:
    """Within: an error is written below ``uri`` before it goes on, if there is one. A store that refuses changes nothing.

    A step that succeeds takes away what its earlier attempt left.
    """
    try:
        yield
        _forget(uri, step, part)
    except TendonError as error:
        _keep(uri, step, part, error, soft=soft and not isinstance(error, Interrupted))
        raise
    except Exception as error:
        named = with_a_name(step, error)
        _keep(uri, step, part, named, soft=soft)
        raise named from error


_BY_HAND = ContextVar("by_hand", default=False)


@contextmanager
def by_hand() -> Iterator[None]:
    """Within: a failure is told to whoever typed the command, and nothing is written where a run keeps its failures."""
    token = _BY_HAND.set(True)
    try:
        yield
    finally:
        _BY_HAND.reset(token)


def _keep(uri: str, step: str, part: str, error: TendonError, *, soft: bool) -> None:
    """Write what went wrong; the latest failure of a step takes the place of an earlier one."""
    failure = StepFailure(step, part, now(), error.exit_code, error.problems, where_the_log_is(), soft)
    if uri and not _BY_HAND.get():
        with suppress(Exception):
            open_store(uri).write(_key(step, part), json.dumps(asdict(failure), indent=1).encode())


def _forget(uri: str, step: str, part: str) -> None:
    """Take away the failure of an earlier attempt."""
    if uri and not _BY_HAND.get():
        with suppress(TendonError):
            store = open_store(uri)
            if store.head(_key(step, part)) is not None:
                store.delete(_key(step, part))


def _key(step: str, part: str) -> str:
    name = "-".join(filter(None, (step, part.replace("/", "-of-"))))
    return f"{FOLDER}/{name}.json"


def failures_in(uri: str, since: str = "") -> list[StepFailure]:
    """What failed below ``uri``, what stopped others first, then oldest first; nothing from before ``since``."""
    if not uri:
        return []
    store, found = open_store(uri), []
    for entry in store.list(f"{FOLDER}/"):
        fields = read_note(store, entry.key)
        with suppress(KeyError, TypeError):  # a damaged note of a failure hides no other
            if fields["when"] >= since:
                fields["problems"] = tuple(Problem(**problem) for problem in fields["problems"])
                found.append(StepFailure(**fields))
    return sorted(found, key=lambda failure: (failure.soft, failure.when))


def where_the_log_is() -> str:
    """The file of a local run, or the command for a pod's log; empty in a terminal."""
    if os.environ.get(LOG) or "KUBERNETES_SERVICE_HOST" not in os.environ:
        return os.environ.get(LOG, "")
    namespace = f"-n {NAMESPACE.read_text(encoding='utf-8').strip()} " if NAMESPACE.exists() else ""
    return f"kubectl {namespace}logs {running_pod() or 'POD'} -c main"


def now() -> str:
    """This moment, as failures and jobs are dated."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
