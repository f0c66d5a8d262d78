"""An API server that answers as a real one was recorded (Kubernetes 1.34, Trainer 2.3, JobSet 0.12, Kueue 0.19), in one process.

Objects in memory behind HTTP. Time passes with requests: before each answer the controllers look at what is due. What is
played: deletion in the background and in the foreground (Trainer makes the JobSet of a dying job again), preconditions, names
that are taken, webhooks, rights, outages, strict decoding by Trainer's version, LimitRange defaults and too little memory,
pods with their ends, the stock runtime's retries and lost pods, our runtime's podFailurePolicy, Kueue's Workload, immutability.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

TOKEN, NAMESPACE = "hush", "robots"
RUNTIME_FILE = Path(__file__).resolve().parents[2] / "k8s" / "nodes" / "runtime.yaml"
OVERRIDES = {"2.0": "podSpecOverrides", "2.1": "podTemplateOverrides", "2.2": "runtimePatches", "2.3": "runtimePatches"}
RIGHTS = {("trainjobs", verb) for verb in ("create", "get", "delete")}
RIGHTS |= {("pods", "get"), ("pods", "list"), ("pods/log", "get"), ("workloads", "list")}
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}
FOUR_LINES = (
    "Traceback (most recent call last):\n  File torchrun\nerror: a shard is missing or damaged\n"
    "where: s3://b/shards/000000.tar\nwhy:   the store answered 404 NOT FOUND (377 bytes)\n"
    "fix:   delete the shard, then convert again\n"
)


@dataclass
class PodEnd:
    """How a pod of one node ends."""

    exit_code: int = 0
    message: str = ""
    after_s: float = 0.05
    reason: str = ""
    disrupted: bool = False  # with the condition DisruptionTarget


@dataclass
class Faults:
    """What is wrong with this cluster."""

    outage_until: float = 0.0  # every request gets 500
    refuse: tuple[int, str] | None = None  # (status, message) of a POST
    quota: bool = False  # no pod is made
    queue_full: str = ""  # why Kueue admits nothing
    waiting: tuple[str, str] | None = None  # why a container does not start
    unschedulable: str = ""
    delete_hangs_s: float = 0.0  # a finalizer: how long a deleted job stays
    pods_stop_s: float = 0.05  # how long pods take to end when they are told to
    default_memory: str = "1Gi"  # of the LimitRange
    needs: str = "1100Mi"  # of a node at its peak; more than it has: OOMKilled
    rights: set = field(default_factory=lambda: set(RIGHTS))


def amount(quantity: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(\D*)", quantity).groups()
    return float(number) * UNITS[unit]


def stamp(at: float | None = None) -> str:
    at = time.time() if at is None else at
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"


class Cluster(ThreadingHTTPServer):
    """The server and its objects."""

    def __init__(self, version: str = "2.3", runtimes: tuple = ("TrainingRuntime/tendon-nodes",)) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        self.lock = threading.RLock()
        self.version, self.runtimes, self.faults = version, set(runtimes), Faults()
        runtime = yaml.safe_load(RUNTIME_FILE.read_text())
        self.node_job = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
        self.jobs: dict[str, dict] = {}
        self.jobsets: dict[str, dict] = {}  # by name: uid of its owner
        self.pods: dict[str, dict] = {}
        self.other_pods: dict[str, dict] = {}
        self.requests: list[str] = []
        self.made = self.jobsets_made = 0
        self.ends: Callable[[str, int], PodEnd] = lambda index, attempt: PodEnd()
        self.start: Callable[[dict, dict], subprocess.Popen] | None = None  # pods as real processes
        self.kill: Callable = lambda process: process.kill()
        self.on_complete: Callable[[dict], None] = lambda job: None
        self.logs: dict[str, list[str]] = {}
        self.stock_retries = 6

    def serve(self) -> Cluster:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def account(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "namespace").write_text(f"{NAMESPACE}\n")
        (folder / "token").write_text(f"{TOKEN}\n")
        return folder

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        for pod in self.pods.values():
            if pod["_process"] and pod["_process"].poll() is None:
                self.kill(pod["_process"])
                pod["_process"].wait()

    # ------------------------------------------------------------------------------------------------- the controllers

    def advance(self) -> None:
        """Everything that is due now."""
        now = time.time()
        for name, job in list(self.jobs.items()):
            if job["metadata"].get("deletionTimestamp") and now >= job["_gone_at"]:
                del self.jobs[name]
                self._stop_pods(job)
        for job in list(self.jobs.values()):
            self._reconcile(job, now)
        for key, pod in list(self.pods.items()):
            self._run_pod(key, pod, now)

    def _reconcile(self, job: dict, now: float) -> None:
        """Trainer, JobSet and Job: a job makes its JobSet, the JobSet its pods; their ends are the job's."""
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        queue = job["metadata"]["labels"].get("kueue.x-k8s.io/queue-name")
        immutable = queue and job["spec"]["trainer"].get("resourcesPerNode") == {"limits": {}, "requests": {}}
        if job["_over"] or (queue and (self.faults.queue_full or immutable)):
            return
        foreground = job["metadata"].get("deletionTimestamp") and job["_policy"] == "Foreground"
        if job["metadata"].get("deletionTimestamp") and not foreground:
            return
        if self.jobsets.get(name, {}).get("owner") != uid:
            self.jobsets[name], self.jobsets_made = {"owner": uid}, self.jobsets_made + 1
        if self.faults.quota:
            return
        stock = job["spec"]["runtimeRef"].get("kind", "ClusterTrainingRuntime") != "TrainingRuntime"
        for index in map(str, range(job["spec"]["trainer"]["numNodes"])):
            mine = [pod for pod in self.pods.values() if pod["_job"] == uid and pod["_index"] == index]
            last = mine[-1] if mine else None
            if last is None or (last["_ended"] and last["_exit"] != 0 and not foreground):
                if last is not None and self._is_over(job, last, stock):
                    return
                self._make_pod(job, index, len(mine), now)
        done = {pod["_index"] for pod in self.pods.values() if pod["_job"] == uid and pod["_exit"] == 0}
        if len(done) == job["spec"]["trainer"]["numNodes"]:
            self.on_complete(job)
            self._finish(job, "Complete", "jobset completed successfully")

    def _is_over(self, job: dict, pod: dict, stock: bool) -> bool:
        """Whether this end ends the job, as podFailurePolicy says or as the stock runtime's backoffLimit does."""
        if pod["_counted"]:
            return False
        pod["_counted"] = True
        if stock:
            job["_failures"] += 1
            if job["_failures"] > self.stock_retries:
                for key, one in list(self.pods.items()):
                    if one["_job"] == job["metadata"]["uid"]:
                        del self.pods[key]  # the Job controller deletes them, and their reason
                self._finish(job, "Failed", "jobset failed due to one or more job failures")
                return True
            return False
        for rule in self.node_job["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes", {}).get("values", ())
            matches = pod["_exit"] in codes or ("onPodConditions" in rule and pod["_disrupted"])
            if matches and rule["action"] == "FailJob":
                self._finish(job, "Failed", "jobset failed due to one or more job failures")
                return True
            if matches:
                return False
        job["_failures"] += 1
        if job["_failures"] > self.node_job["backoffLimit"]:
            self._finish(job, "Failed", "jobset failed due to one or more job failures")
        return job["_over"]

    def _finish(self, job: dict, kind: str, message: str) -> None:
        reason = "JobsCompleted" if kind == "Complete" else "FailedJobs"
        condition = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": stamp(),
        }
        job["_over"] = True
        job["status"]["conditions"] = [condition]
        for pod in self.pods.values():
            if pod["_job"] == job["metadata"]["uid"] and not pod["_ended"]:
                self._tell_to_stop(pod)

    def _make_pod(self, job: dict, index: str, attempt: int, now: float) -> None:
        name = f"{job['metadata']['name']}-node-0-{index}-{uuid.uuid4().hex[:5]}"
        asked = job["spec"]["trainer"].get("resourcesPerNode", {}).get("limits", {})
        memory = asked.get("memory", self.faults.default_memory)  # LimitRange
        end = self.ends(index, attempt)
        if amount(memory) < amount(self.faults.needs):
            end = PodEnd(137, "", 0.05, "OOMKilled")
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job["metadata"]["name"],
            "batch.kubernetes.io/job-completion-index": index,
        }
        metadata = {"name": name, "uid": str(uuid.uuid4()), "labels": labels, "creationTimestamp": stamp()}
        self.pods[name] = {
            "metadata": metadata,
            "spec": {"containers": [{"name": "node", "resources": {"limits": {"memory": memory}}}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "node", "state": {}}]},
            "_job": job["metadata"]["uid"],
            "_index": index,
            "_end": end,
            "_end_at": now + end.after_s,
            "_ended": False,
            "_exit": None,
            "_disrupted": False,
            "_counted": False,
            "_stop_by": 0.0,
            "_process": None,
        }
        self.logs[name] = [f"{stamp()} node {index} begins"]
        if self.start is not None:
            self.pods[name]["_process"] = self.start(job, self.pods[name])

    def _run_pod(self, key: str, pod: dict, now: float) -> None:
        state = pod["status"]["containerStatuses"][0]["state"]
        process = pod["_process"]
        if not pod["_ended"]:
            if self.faults.unschedulable:
                condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                pod["status"]["conditions"] = [condition | {"message": self.faults.unschedulable}]
            elif self.faults.waiting:
                reason, message = self.faults.waiting
                state["waiting"] = {"reason": reason, "message": message}
            else:
                state.pop("waiting", None)
                state.setdefault("running", {"startedAt": stamp()})
                pod["status"]["phase"] = "Running"
                if process is not None and process.poll() is not None:
                    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
                    path = pod.get("_message")
                    end = pod["_end"]
                    self._end_pod(pod, PodEnd(code, path.read_text() if path else "", disrupted=end.disrupted))
                elif process is None and not pod["_stop_by"] and now >= pod["_end_at"]:
                    self._end_pod(pod, pod["_end"])
        if pod["_stop_by"]:
            over = pod["_ended"] if process is not None else now >= pod["_stop_by"]
            if over or (process is not None and now > pod["_stop_by"] + 120):
                del self.pods[key]

    def _end_pod(self, pod: dict, end: PodEnd) -> None:
        pod["_ended"], pod["_exit"], pod["_disrupted"] = True, end.exit_code, end.disrupted
        reason = end.reason or ("Completed" if end.exit_code == 0 else "Error")
        terminated = {"exitCode": end.exit_code, "reason": reason, "finishedAt": stamp(), "message": end.message}
        pod["status"]["containerStatuses"][0]["state"] = {"terminated": terminated}
        pod["status"]["phase"] = "Failed" if end.exit_code else "Succeeded"
        if end.disrupted:
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
            pod["status"]["conditions"] = [condition]

    def _stop_pods(self, job: dict) -> None:
        """What the garbage collector does when the owner is gone."""
        self.jobsets.pop(job["metadata"]["name"], None)
        for pod in self.pods.values():
            if pod["_job"] == job["metadata"]["uid"]:
                self._tell_to_stop(pod)

    def _tell_to_stop(self, pod: dict) -> None:
        if not pod["_stop_by"]:
            pod["_stop_by"] = time.time() + self.faults.pods_stop_s
            pod["metadata"]["deletionTimestamp"] = stamp()
            if pod["_process"] is not None:
                pod["_process"].terminate()

    def lose_node(self, index: str, *, disrupted: bool = True) -> None:
        """A node is gone: kill -9, and the condition that Kubernetes gives its pod."""
        with self.lock:
            for pod in self.pods.values():
                if pod["_index"] == index and not pod["_ended"] and not pod["_stop_by"]:
                    pod["_end"] = PodEnd(137, disrupted=disrupted)
                    if pod["_process"] is not None:
                        self.kill(pod["_process"])
                    else:
                        self._end_pod(pod, pod["_end"])

    # ------------------------------------------------------------------------------------------------------ the answers

    def answer(self, method: str, path: str, query: dict, body: dict) -> tuple[int, object]:
        parts = path.strip("/").split("/")
        kind = parts[parts.index("namespaces") + 2]
        name = (parts[parts.index("namespaces") + 3 :] or [""])[0]
        if parts[-1] == "log":
            kind = "pods/log"
        verb = {"POST": "create", "DELETE": "delete", "GET": "get" if name else "list"}[method]
        if time.time() < self.faults.outage_until:
            text = 'Internal error occurred: failed calling webhook "validator.trainjob.trainer.kubeflow.org": connection refused'
            return status(500, "InternalError", text)
        if (kind, verb) not in self.faults.rights:
            group = "" if kind.startswith("pods") else "trainer.kubeflow.org"
            who = f'User "system:serviceaccount:{NAMESPACE}:tendon-runner" cannot {verb} resource "{kind}"'
            text = f'{kind} is forbidden: {who} in API group "{group}" in the namespace "{NAMESPACE}"'
            return status(403, "Forbidden", text)
        if kind == "pods/log":
            since = query.get("sinceTime", [""])[0]
            lines = self.logs.get(name)
            if lines is None:
                return status(404, "NotFound", f'pods "{name}" not found')
            return 200, "\n".join(line for line in lines if line.partition(" ")[0][:19] >= since[:19])
        if kind == "pods":
            if name:
                pod = self.other_pods.get(name)
                return (200, pod) if pod else status(404, "NotFound", f'pods "{name}" not found')
            label, _, value = query["labelSelector"][0].partition("=")
            found = [public(pod) for pod in self.pods.values() if pod["metadata"]["labels"][label] == value]
            return 200, {"kind": "PodList", "items": found}
        if kind == "workloads":
            return 200, {"items": [self._workload(job) for job in self.jobs.values()]}
        assert kind == "trainjobs"
        return {"POST": self._create, "GET": self._get, "DELETE": self._delete}[method](name, query, body)

    def _create(self, _: str, query: dict, body: dict) -> tuple[int, object]:
        name = body["metadata"]["name"]
        if self.faults.refuse:
            return status(*self.faults.refuse[:1], "Forbidden", self.faults.refuse[1])
        unknown = [field for field in OVERRIDES.values() if field in body["spec"] and field != OVERRIDES[self.version]]
        if unknown and query.get("fieldValidation") == ["Strict"]:
            what = f'strict decoding error: unknown field "spec.{unknown[0]}"'
            text = f'TrainJob in version "v1alpha1" cannot be handled as a TrainJob: {what}'
            return status(400, "BadRequest", text)
        for field_name in unknown:
            del body["spec"][field_name]  # pruned in silence
        if name in self.jobs:
            is_dying = self.jobs[name]["metadata"].get("deletionTimestamp")
            text = f'trainjobs.trainer.kubeflow.org "{name}" already exists'
            return status(409, "AlreadyExists", f"object is being deleted: {text}" if is_dying else text)
        reference = body["spec"]["runtimeRef"]
        runtime = f"{reference.get('kind', 'ClusterTrainingRuntime')}/{reference['name']}"
        if runtime not in self.runtimes:
            kind, _, runtime_name = runtime.partition("/")
            text = (
                'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: spec.runtimeRef: Invalid '
                f'value: {{"name":"{runtime_name}","apiGroup":"trainer.kubeflow.org","kind":"{kind}"}}: '
                f'{kind}.trainer.kubeflow.org "{runtime_name}" not found: specified {kind[0].lower() + kind[1:]} must be '
                "created before the TrainJob is created"
            )
            return status(403, "Forbidden", text)
        self.made += 1
        metadata = body["metadata"] | {"uid": str(uuid.uuid4()), "creationTimestamp": stamp(), "namespace": NAMESPACE}
        private = {"_gone_at": 0.0, "_policy": "", "_failures": 0, "_over": False}
        self.jobs[name] = body | {"metadata": metadata, "status": {}} | private
        return 201, public(self.jobs[name])

    def _get(self, name: str, query: dict, body: dict) -> tuple[int, object]:
        if name not in self.jobs:
            return status(404, "NotFound", f'trainjobs.trainer.kubeflow.org "{name}" not found')
        return 200, public(self.jobs[name])

    def _delete(self, name: str, query: dict, body: dict) -> tuple[int, object]:
        job = self.jobs.get(name)
        if job is None:
            return status(404, "NotFound", f'trainjobs.trainer.kubeflow.org "{name}" not found')
        uid = body.get("preconditions", {}).get("uid")
        if uid and uid != job["metadata"]["uid"]:
            text = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {job['metadata']['uid']}"
            return status(409, "Conflict", text)
        if not job["metadata"].get("deletionTimestamp"):
            job["_policy"] = body.get("propagationPolicy") or query.get("propagationPolicy", ["Background"])[0]
            stays = self.faults.delete_hangs_s
            if job["_policy"] == "Foreground":
                stays = max(stays, 0.3)
                self._stop_pods(
                    job
                )  # its JobSet goes first, and Trainer, which ignores deletionTimestamp, makes it again
                for pod in self.pods.values():
                    if pod["_job"] == job["metadata"]["uid"]:
                        pod["_job"] = ""
            job["metadata"]["deletionTimestamp"] = stamp()
            job["_gone_at"] = time.time() + stays
        self.advance()
        return 200, public(job)

    def _workload(self, job: dict) -> dict:
        uid, name = job["metadata"]["uid"], job["metadata"]["name"]
        if self.faults.queue_full:
            conditions = [condition("QuotaReserved", "False", "Pending", self.faults.queue_full)]
        else:
            conditions = [
                condition("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue tendon"),
                condition("Admitted", "True", "Admitted", "The workload is admitted"),
            ]
        conditions.append(condition("PodsReady", "False", "WaitForStart", "Not all pods are ready or succeeded"))
        owner = {"kind": "TrainJob", "name": name, "uid": uid, "controller": True}
        metadata = {"name": f"trainjob-{name}-b5619", "ownerReferences": [owner]}
        return {"kind": "Workload", "metadata": metadata, "status": {"conditions": conditions}}


def condition(kind: str, value: str, reason: str, message: str) -> dict:
    return {"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": stamp()}


def status(code: int, reason: str, message: str) -> tuple[int, dict]:
    kind = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return code, kind | {"message": message, "reason": reason, "code": code}


def public(one: dict) -> dict:
    return {key: value for key, value in one.items() if not key.startswith("_")}


class Handler(BaseHTTPRequestHandler):
    """HTTP in front of it."""

    def log_message(self, *words: object) -> None:
        pass

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        split = urlsplit(self.path)
        cluster = self.server
        with cluster.lock:
            cluster.requests.append(f"{self.command} {self.path}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                code, answer = status(401, "Unauthorized", "Unauthorized")
            elif f"/namespaces/{NAMESPACE}/" not in split.path:
                code, answer = status(403, "Forbidden", f'cannot get resource "trainjobs" outside of {NAMESPACE}')
            else:
                cluster.advance()
                code, answer = cluster.answer(self.command, split.path, parse_qs(split.query), body)
            text = answer if isinstance(answer, str) else json.dumps(answer)
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_DELETE = handle_any
