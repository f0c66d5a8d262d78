"""What a waiter says while its TrainJob runs: states of nodes and queue as they change, rank 0's log, step, rate and time left.

Counts what nodes lose, too: restarts without a new checkpoint. Nothing here ends a wait by itself, and what cannot be read
is said once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from tendon.errors import Problem, TendonError
from tendon.logs import duration
from tendon.train.distributed.cluster_api import ApiError, ClusterApi, Object
from tendon.train.distributed.job_spec import JobSpec
from tendon.train.distributed.node_report import (
    NodeEnd,
    first_end,
    index_of,
    node_end,
    node_states,
    queue_state,
)
from tendon.train.distributed.waiters import WaiterNotes
from tendon.train.state.checkpoint import complete

logger = logging.getLogger(__name__)
HEARTBEAT = "heartbeat.json"  # as in watch/heartbeat.py, which imports torch
NO_PODS_S = 60.0
LATE_S = 90.0

T = TypeVar("T")


class NodeWatch:
    """Looks at one job again and again."""

    def __init__(self, api: ClusterApi, notes: WaiterNotes, spec: JobSpec, num_steps: int) -> None:
        self._api, self._notes, self._spec, self._num_steps = api, notes, spec, num_steps
        self._began = time.monotonic()
        self._told: dict[str, str] = {}  # what was said last of each node and of the queue
        self._log_until: dict[str, str] = {}  # pod: time of its last line that was shown
        self._first_beat: tuple[int, float] | None = None  # step and time
        self._how_far = ""
        self._refused: set[str] = set()
        self._ends: dict[str, NodeEnd] = {}  # by uid of the pod, all that were seen
        self._since_progress: dict[str, NodeEnd] = {}
        self._step = -1  # of the newest checkpoint

    def look(self, job: Object, pods: Sequence[Object]) -> None:
        """Say what changed."""
        states = node_states(pods)
        if self._spec.queue:
            workload = self._try("workloads", lambda: self._api.workload(job["metadata"]["uid"]), None)
            states[f"queue {self._spec.queue}"] = queue_state(workload)
        elif not pods and time.monotonic() - self._began > NO_PODS_S:
            states["nodes"] = (
                f"no pod was made for {duration(NO_PODS_S)}; often a quota or pod security: kubectl -n "
                f"{self._api.namespace} describe job {self._spec.name}-node-0"
            )
        for who, text in states.items():
            if text and self._told.get(who) != text:
                self._told[who] = text
                logger.info("train: %s: %s", who, text)
                self._notes.note_states(self._told, self._how_far, f"{who}: {text}")
        self._count(pods)
        self._show_log(pods)
        self._show_heartbeat()

    def given_up(self, most_losses: int, most_errors: int) -> TendonError | None:
        """The error of a training that restarts without getting anywhere, None while it may go on."""
        ends = list(self._since_progress.values())
        for limit, counted in ((most_losses, ends), (most_errors, [end for end in ends if not end.is_lost])):
            rounds = max((sum(end.index == other.index for other in counted) for end in counted), default=0)
            first = first_end(counted)
            if rounds > limit and first is not None:
                return _without_progress(rounds, self._step, first.error())
        return None

    def adopt(self, pods: Sequence[Object]) -> None:
        """What ended before this waiter came does not count: nobody knows what came between."""
        self._ends = {pod["metadata"]["uid"]: end for pod in pods if (end := node_end(pod)) is not None}
        self._step = self._notes.newest_checkpoint(complete)

    def _count(self, pods: Sequence[Object]) -> None:
        """Which pods ended since the newest checkpoint."""
        ends = {pod["metadata"]["uid"]: end for pod in pods if (end := node_end(pod)) is not None}
        new = {uid: end for uid, end in ends.items() if uid not in self._ends}
        if not new:
            return
        self._ends |= new
        step = self._notes.newest_checkpoint(complete)
        if step > self._step:
            self._step, self._since_progress = step, {}
        self._since_progress |= new
        for end in new.values():
            logger.warning("train: %s ended: %s, exit code %d", end.where, end.reason, end.exit_code)

    def _show_log(self, pods: Sequence[Object]) -> None:
        for pod in pods:
            name = pod["metadata"]["name"]
            if index_of(pod) != "0" or pod.get("status", {}).get("phase", "Pending") == "Pending":
                continue
            since = self._log_until.get(name, "")
            no_lines: list[tuple[str, str]] = []
            for at, line in self._try("pods/log", partial(self._api.log_lines, name, since), no_lines):
                logger.info("node 0 | %s", line)
                self._log_until[name] = at

    def _show_heartbeat(self) -> None:
        beat = self._notes.read_json(HEARTBEAT)
        if beat is None or not self._num_steps or beat.get("state") != "running":
            return
        try:
            step, at = int(str(beat["step"])), float(str(beat["at"]))
        except (KeyError, ValueError):  # a damaged sign of life is none
            return
        if self._first_beat is None or step < self._first_beat[0]:  # after a restart it begins at a checkpoint
            self._first_beat = (step, at)
        text = how_far(step, at, self._first_beat, self._num_steps, time.time())
        if text != self._how_far:
            self._how_far = text
            logger.info("train: %s", text)
            self._notes.note_states(self._told, text)

    def _try(self, what: str, request: Callable[[], T], otherwise: T) -> T:
        try:
            return request()
        except ApiError as error:
            if what not in self._refused:
                self._refused.add(what)
                logger.warning("train: %s cannot be read: %s", what, error)
            return otherwise


def how_far(step: int, at: float, first: tuple[int, float], num_steps: int, now: float) -> str:
    """``1200 of 3000 steps (40%), 92.1/s, eta 20 s``, by the heartbeats of rank 0; a late one is said."""
    parts = [f"{step} of {num_steps} steps ({100 * step // num_steps}%)"]
    rate = (step - first[0]) / (at - first[1]) if at > first[1] else 0.0
    if rate > 0:
        parts += [f"{rate:.3g}/s", f"eta {duration((num_steps - step) / rate)}"]
    if now - at > LATE_S:
        parts.append(f"no sign of life for {int(now - at) // 60} min")
    return ", ".join(parts)


def _without_progress(count: int, step: int, error: TendonError) -> TendonError:
    last = error.problems[0]
    why = f"{last.what}: {last.why}; the newest checkpoint is of step {max(step, 0)}"
    problem = Problem(f"the nodes ended {count} times without a new checkpoint", last.where, why, last.fix)
    return TendonError.of([problem])
