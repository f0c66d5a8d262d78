"""Training on several nodes: a Kubeflow TrainJob is made, watched and, when its waiter is told to stop, deleted.

In: a JobSpec. Out: nothing, or the TendonError of the node that ended first; the work itself is in the store. Called by
steps.train_trials_on_nodes from a small pod whose service account may handle TrainJobs (k8s/base). Whatever this pod cannot
help (its job is gone, the API server is away) is Interrupted: the next attempt finds the same job, or the finished trial.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any, TypeVar

from tendon.config.digest import running_pod
from tendon.errors import ConfigError, Interrupted, StorageError, TendonError
from tendon.logs import duration
from tendon.train.distributed.cluster_api import ApiError, ClusterApi, Object, explain
from tendon.train.distributed.job_spec import OVERRIDES, SPEC_OVERRIDES, TRIAL, JobSpec, NodePlacement
from tendon.train.distributed.node_report import end_of_job, failed_message, first_end, node_end
from tendon.train.distributed.node_watch import NodeWatch
from tendon.train.distributed.waiters import WaiterNotes
from tendon.train.state.status import find_finished

logger = logging.getLogger(__name__)

OUTAGE_S = 120.0  # how long the API server, a webhook or a controller may be away
GRACE_S = 120.0  # of the nodes, as in k8s/nodes/runtime.yaml
DYING_S = GRACE_S + 180.0  # how long a job that is being deleted may take
MOST_LOSSES = 10  # restarts of one node without a new checkpoint between them, when nodes are lost
API_POLL_S = 2.0

T = TypeVar("T")


def run_job(
    spec: JobSpec,
    api: ClusterApi | None = None,
    *,
    poll_s: float = 10.0,
    retries: int = 2,
    num_steps: int = 0,
    is_over: Callable[[int], bool] = lambda running: False,
) -> None:
    """Make the job, or take over the one that is there, and wait for its end.

    Args:
        spec: What is asked of the cluster; its name is that of the trial.
        api: The API server; that of this pod's cluster.
        poll_s: How often it is asked.
        retries: How many restarts without a new checkpoint an error of the training itself is worth.
        num_steps: How many the training has, for the log.
        is_over: Asked at each look, with how many nodes run; once it says so the nodes save and the job ends.

    Raises:
        TendonError: The job failed: the error of the node that ended first.
        Interrupted: This process was told to stop, it is over, the job is gone, or the API server was away for too long.
    """
    api = api or ClusterApi()
    notes = WaiterNotes(spec.trial_uri)
    with _stop_asked() as asked:
        waiter = _Waiter(spec, api, notes, asked, poll_s, retries, is_over)
        notes.sign()
        try:
            waiter.run(num_steps)
        finally:
            notes.leave()


class _Waiter:
    """One process that waits for the TrainJob of one trial."""

    def __init__(
        self,
        spec: JobSpec,
        api: ClusterApi,
        notes: WaiterNotes,
        asked: threading.Event,
        poll_s: float,
        retries: int,
        is_over: Callable[[int], bool],
    ) -> None:
        self.spec, self.api, self.notes, self.asked = spec, api, notes, asked
        self.poll_s, self.retries, self.is_over = poll_s, retries, is_over
        self.pod_uids: set[str] = set()  # of the job that is waited for
        self._is_adopted = False
        self._unreadable: set[str] = set()

    def run(self, num_steps: int) -> None:
        """From the first look to the end of the job."""
        self.spec = self._placed()
        watch, job = NodeWatch(self.api, self.notes, self.spec, num_steps), self._claim()
        if job is None:
            return
        if self._is_adopted:
            watch.adopt(self._pods())
        self._wait(job["metadata"]["uid"], watch)

    # ------------------------------------------------------------------------------------------------------ its beginning

    def _placed(self) -> JobSpec:
        """The job placed as the pod that waits for it is; as it is where that pod cannot be known."""
        name = running_pod() if "KFP_POD_NAME" in os.environ else ""
        pod = self._readable(lambda: self.api.pod(name), None) if name else None
        if name and pod is None:
            logger.warning("train: node selector, tolerations and pull secrets of pod %s do not reach the nodes", name)
        return replace(self.spec, placement=NodePlacement.of_pod(pod)) if pod is not None else self.spec

    def _claim(self) -> Object | None:
        """The job of this trial: made, or found; None when the trial is finished meanwhile."""
        dying_since, said = time.monotonic(), False
        while not self.asked.is_set():
            self.notes.sign()
            if self._is_finished():
                return None
            job = self._patient(lambda: self.api.get(self.spec.name))
            is_dying = bool(job and job["metadata"].get("deletionTimestamp")) or (
                job is None and self._pods_are_dying()
            )
            if job is not None and not is_dying:
                return self._adopted(job)
            if not is_dying:
                made = self._patient(self._create)
                if made is not None:
                    logger.info("train: TrainJob %s on %d nodes", self.spec.name, self.spec.nodes)
                    return made  # else somebody else made it just now
            elif not said:
                logger.info("train: TrainJob %s of an earlier attempt is being deleted: waiting for it", self.spec.name)
                said = True
            if time.monotonic() - dying_since > DYING_S:
                raise _interrupted(
                    "the TrainJob of an earlier attempt does not go away",
                    self.spec.name,
                    f"it has been dying for {duration(DYING_S)}",
                    "kubectl get trainjob,jobset,pod: see what holds it; run again: it resumes",
                )
            self.asked.wait(min(self.poll_s, API_POLL_S))
        raise self._stopped("")

    def _adopted(self, job: Object) -> Object:
        trial = job["metadata"].get("annotations", {}).get(TRIAL, self.spec.trial_uri)
        if trial != self.spec.trial_uri:
            raise ConfigError(
                "a TrainJob of this name belongs to another trial",
                where=self.spec.name,
                why=f"it trains {trial}",
                fix="wait for it, or delete it",
            )
        trainer, self._is_adopted = job["spec"].get("trainer", {}), True
        logger.info(
            "train: TrainJob %s of another attempt is there: %s nodes, image %s",
            self.spec.name,
            trainer.get("numNodes"),
            trainer.get("image"),
        )
        return job

    def _create(self) -> Object | None:
        """The job as its Trainer takes it: where pods are placed is said in another field from version to version."""
        manifests = {overrides: self.spec.manifest(overrides) for overrides in OVERRIDES}
        while True:
            overrides, manifest = next(iter(manifests.items()))
            try:
                return self.api.create(manifest)
            except ApiError as error:
                del manifests[overrides]
                is_unknown = error.status == 400 and f'unknown field "spec.{overrides}"' in error.message
                if not is_unknown or not manifests:
                    raise
                if self.spec.placement.pull_secrets and next(iter(manifests)) == SPEC_OVERRIDES:
                    logger.warning("train: Trainer 2.0 takes no pull secrets: put them on the account of the nodes")

    def _pods_are_dying(self) -> bool:
        """Whether pods of a job of this name, which is gone, still save; two trainings of one trial would mix."""
        return any(pod["metadata"].get("deletionTimestamp") for pod in self._pods())

    # ----------------------------------------------------------------------------------------------------------- its end

    def _wait(self, uid: str, watch: NodeWatch) -> None:
        dying_since = 0.0
        while not self.asked.wait(self.poll_s):
            self.notes.sign()
            job = self._patient(lambda: self.api.get(self.spec.name))
            if job is None or job["metadata"]["uid"] != uid:
                return self._gone(uid)
            pods = self._pods()
            self.pod_uids |= {pod["metadata"]["uid"] for pod in pods if not pod["metadata"].get("deletionTimestamp")}
            ended = end_of_job(job)
            if ended == "Complete":
                return self._delete(uid)
            if ended == "Failed":
                raise self._failed(uid, job, pods)
            if job["metadata"].get("deletionTimestamp"):
                dying_since = dying_since or time.monotonic()
                if time.monotonic() - dying_since > DYING_S:
                    return self._gone(uid)
                continue
            watch.look(job, pods)
            error = watch.given_up(MOST_LOSSES, self.retries)
            if error is not None:
                raise self._ended(uid, error)
            if self.is_over(sum(pod.get("status", {}).get("phase") == "Running" for pod in pods)):
                raise self._stopped(uid, "the budget of this run is spent")
        raise self._stopped(uid)

    def _gone(self, uid: str) -> None:
        """The job is not there any more: its trial is finished, another waiter saw it fail, or somebody deleted it."""
        if self._is_finished():
            return
        if (error := self.notes.noted_end(uid)) is not None:
            raise error
        raise _interrupted(
            "the TrainJob is gone", self.spec.name, "somebody deleted it before its end", "run again: it resumes"
        )

    def _failed(self, uid: str, job: Object, pods: Sequence[Object]) -> TendonError:
        """The error of the node that ended first; exit code, reason and message are read before anything is deleted."""
        first = first_end([end for pod in pods if (end := node_end(pod)) is not None])
        noted = self.notes.noted_end(uid)
        if first is not None:
            error = first.error()
        elif noted is not None:
            error = noted  # another waiter read it and deleted the job
        else:
            error = TendonError(
                "the TrainJob failed",
                where=self.spec.name,
                why=failed_message(job),
                fix="its pods are gone and left no reason; see the log above; run again: it resumes",
            )
        return self._ended(uid, error)

    def _ended(self, uid: str, error: TendonError) -> TendonError:
        logger.error("train: TrainJob %s ended\n%s", self.spec.name, error)
        if not self._is_finished():
            self.notes.note_end(uid, error)
        self._delete(uid)
        return error

    def _stopped(self, uid: str, because: str = "this pod was told to stop") -> Interrupted:
        """Told to stop: the job ends with its last waiter. ``uid`` is empty when there was no job yet."""
        if not uid:
            why = f"{because} before there was a job"
        elif self._is_waited_for():
            why = f"{because}; the job runs on, another step waits for it"
        else:
            try:
                self._delete(uid)
                why = f"{because}, so the job was deleted"
            except TendonError as error:
                why = f"{because}; the job could not be deleted and runs on ({error.problems[0].why})"
        return _interrupted(
            "waiting for the TrainJob was interrupted",
            self.spec.name,
            why,
            "run the same command again: it resumes from the last checkpoint",
        )

    def _is_waited_for(self) -> bool:
        """Whether somebody else waits; of two that stop at once, at least one sees none."""
        self.notes.leave()
        return self.notes.others() > 0

    def _delete(self, uid: str) -> None:
        """Delete the job, and stay until its pods are gone: they may be saving."""
        if self._patient(lambda: self.api.delete(self.spec.name, uid)):
            try:
                self._wait_for_pods()
            except Interrupted as error:
                logger.warning("train: %s", error.problems[0].why)

    def _wait_for_pods(self) -> None:
        until, quiet = time.monotonic() + GRACE_S + 60.0, 0
        while quiet < 2 and time.monotonic() < until:
            pods = self._pods()
            mine = [p for p in pods if p["metadata"]["uid"] in self.pod_uids or p["metadata"].get("deletionTimestamp")]
            quiet = 0 if mine else quiet + 1
            time.sleep(min(self.poll_s, API_POLL_S) if mine else min(self.poll_s, 0.2))
        if quiet < 2:
            logger.warning("train: pods of TrainJob %s are still there; see kubectl get pod", self.spec.name)

    # ------------------------------------------------------------------------------------------------------- the API server

    def _patient(self, request: Callable[[], T]) -> T:
        """The answer, asked again while the server is away; what repeats itself is raised at once with its own message."""
        began, said = time.monotonic(), False
        while True:
            try:
                return request()
            except ApiError as error:
                if not error.is_transient:
                    raise explain(error) from None
                if time.monotonic() - began > (min(OUTAGE_S, 5.0) if self.asked.is_set() else OUTAGE_S):
                    raise _interrupted(
                        f"the API server did not answer for {duration(OUTAGE_S)}",
                        error.path,
                        str(error),
                        "run the same command again: the job runs on and is found; no answer at all: k8s/base/network.yaml",
                    ) from None
                if not said:
                    logger.warning("train: the API server: %s: trying again for %s", error, duration(OUTAGE_S))
                    said = True
            if self.asked.is_set():
                time.sleep(0.2)
            else:
                self.asked.wait(min(self.poll_s, API_POLL_S))

    def _readable(self, request: Callable[[], T], otherwise: T) -> T:
        """The answer to what is good to know; ``otherwise`` where this account may not know it, which is said once."""

        def read() -> T:
            try:
                return request()
            except ApiError as error:
                if error.is_transient:
                    raise
                if error.path not in self._unreadable:
                    logger.warning("train: %s", explain(error))
                self._unreadable.add(error.path)
                return otherwise

        return self._patient(read)

    def _pods(self) -> list[Object]:
        """The pods of the job."""
        nothing: list[Object] = []
        return self._readable(lambda: self.api.pods(self.spec.name), nothing)

    def _is_finished(self) -> bool:
        """Whether the trial is finished; a store that refuses is asked again, as the API server is."""

        def finished() -> bool:
            try:
                return find_finished(self.spec.trial_uri) is not None
            except StorageError as error:
                raise ApiError(0, error.problems[0].why, self.spec.trial_uri) from None

        return self._patient(finished)


def _interrupted(what: str, where: str, why: str, fix: str) -> Interrupted:
    return Interrupted(what, where=where, why=why, fix=fix)


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """Set when SIGTERM or Ctrl-C arrives."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def receive(number: int, frame: FrameType | None) -> None:
        asked.set()

    before: dict[int, Any] = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
