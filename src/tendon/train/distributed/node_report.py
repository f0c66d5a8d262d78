"""What the nodes of a TrainJob are doing, and what ended one: objects of the API server in, sentences and errors out. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tendon.errors import ConfigError, DataError, Interrupted, MissingDependency, Problem, StorageError, TendonError
from tendon.train.distributed.cluster_api import CONTAINER, Object

ERRORS: dict[int, type[TendonError]] = {
    error.exit_code: error for error in (ConfigError, DataError, StorageError, MissingDependency)
}
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
KILLED = (137, 143)  # 128 and the signal: somebody outside, or too little memory
LOST = (Interrupted.exit_code, *KILLED)  # a node that says nothing about the training itself
FOUR_LINES = re.compile(r"^error: (.*)\nwhere: (.*)\nwhy: +(.*)\nfix: +(.*)$", re.MULTILINE)
MOST_TEXT = 300


@dataclass(frozen=True)
class NodeEnd:
    """How one pod ended."""

    pod: str
    index: str  # of the node
    exit_code: int
    reason: str  # Error, OOMKilled, Evicted, ...
    message: str  # its termination message, which ends with the four lines of an error
    at: str  # ISO 8601

    @property
    def is_lost(self) -> bool:
        """Whether the node was interrupted, killed or lost its peers; the training itself did not fail."""
        return self.exit_code in LOST and self.reason != "OOMKilled"

    @property
    def where(self) -> str:
        """The node, as an error names it."""
        return f"node {self.index}, pod {self.pod}"

    def error(self) -> TendonError:
        """The error that ended it: its own four lines with its exit code, or what is known of it."""
        problems = [Problem(*lines) for lines in FOUR_LINES.findall(self.message)]
        if problems and self.reason != "OOMKilled":
            said = [Problem(p.what, f"{p.where} ({self.where})", p.why, p.fix) for p in problems]
            return ERRORS.get(self.exit_code, TendonError).of(said)
        if self.reason == "OOMKilled" or "exit code -9" in self.message:
            return TendonError(
                "a node of the training took more memory than it has",
                where=self.where,
                why=f"{self.reason or 'Error'}, exit code {self.exit_code}",
                fix="raise cluster_memory_train, or lower training.batch_size; run again: it resumes",
            )
        last = " ".join(self.message.split())[-MOST_TEXT:]
        return ERRORS.get(self.exit_code, TendonError)(
            "a node of the training failed",
            where=self.where,
            why=f"{self.reason or 'Error'}, exit code {self.exit_code}" + (f": {last}" if last else ""),
            fix="see the log above; run again: it resumes",
        )


def index_of(pod: Object) -> str:
    """The number of the node that a pod is."""
    metadata = pod["metadata"]
    number = {**metadata.get("annotations", {}), **metadata.get("labels", {})}.get(INDEX_LABEL)
    return str(number) if number is not None else metadata["name"].rsplit("-", 2)[-2]


def node_end(pod: Object) -> NodeEnd | None:
    """How a pod ended badly; None while it goes on, and when it ended well."""
    status = pod.get("status", {})
    terminated: Mapping[str, Any] = _container_state(pod).get("terminated") or {}
    if not terminated and status.get("phase") != "Failed":
        return None
    if terminated.get("exitCode") == 0 and status.get("phase") != "Failed":
        return None
    conditions = status.get("conditions", ())
    disruption = next((c for c in conditions if c["type"] == "DisruptionTarget" and c["status"] == "True"), None)
    if disruption is not None:
        text = disruption.get("message", "") or terminated.get("message", "")
        return NodeEnd(*_names(pod), 143, disruption.get("reason", "Disrupted"), text, _time(pod, terminated))
    return NodeEnd(
        *_names(pod),
        int(terminated.get("exitCode", 137)),
        terminated.get("reason", "") or status.get("reason", "Failed"),
        (terminated.get("message", "") or status.get("message", "")).strip(),
        _time(pod, terminated),
    )


def _names(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["name"], index_of(pod)


def _time(pod: Object, terminated: Mapping[str, Any]) -> str:
    return str(terminated.get("finishedAt") or pod["metadata"].get("creationTimestamp", ""))


def first_end(ends: Sequence[NodeEnd]) -> NodeEnd | None:
    """The pod that ended first and says why; one that only lost the others, or was killed with them, when none says more."""
    return min(ends, key=lambda end: (end.is_lost, end.at), default=None)


def node_states(pods: Sequence[Object]) -> dict[str, str]:
    """A sentence for each node: ``Running``, ``ImagePullBackOff: Back-off pulling image ...``; of its newest pod."""
    states: dict[str, str] = {}
    for pod in sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", "")):
        states[f"node {index_of(pod)}"] = _state(pod)
    return dict(sorted(states.items()))


def _state(pod: Object) -> str:
    end = node_end(pod)
    if end is not None:
        return f"ended with exit code {end.exit_code} ({end.reason})"
    if pod["metadata"].get("deletionTimestamp"):
        return "is being stopped"
    status = pod.get("status", {})
    waiting = _container_state(pod).get("waiting") or {}
    if waiting.get("reason") and waiting["reason"] not in ("ContainerCreating", "PodInitializing"):
        return _sentence(waiting["reason"], waiting.get("message", ""))
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _sentence(condition.get("reason", "Pending"), condition.get("message", ""))
    return str(waiting.get("reason") or status.get("phase", "Pending"))


def _sentence(reason: str, message: str) -> str:
    return f"{reason}: {message[:MOST_TEXT]}" if message else reason


def _container_state(pod: Object) -> Mapping[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    state: Mapping[str, Any] = next((one.get("state", {}) for one in statuses if one["name"] == CONTAINER), {})
    return state


def queue_state(workload: Object | None) -> str:
    """Why Kueue lets the job wait, or that it does not; empty when it says nothing."""
    if workload is None:
        return ""
    conditions = {c["type"]: c for c in workload.get("status", {}).get("conditions", ())}
    for kind in ("Evicted", "QuotaReserved", "Admitted"):
        condition = conditions.get(kind)
        if condition is not None and (kind == "Evicted") == (condition["status"] == "True"):
            return f"{condition.get('reason', kind)}: {condition.get('message', '')}"
    return "admitted" if "Admitted" in conditions else "waits to be looked at"


def end_of_job(job: Object) -> str:
    """``Complete``, ``Failed``, or nothing while the job goes on."""
    for condition in job.get("status", {}).get("conditions", ()):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def failed_message(job: Object) -> str:
    """What the job's own condition says."""
    conditions = job.get("status", {}).get("conditions", ())
    return next((c.get("message", "") for c in conditions if c["type"] == "Failed"), "") or "it does not say"
