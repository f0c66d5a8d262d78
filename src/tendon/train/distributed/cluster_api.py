"""The API server of the cluster that this pod runs in: TrainJobs, their pods and logs, Kueue's workloads.

Speaks HTTP with the standard library: the Python client for Kubernetes is in no image of ours. What the server refuses comes
back as ApiError with the server's own message; ``explain`` turns it into four lines. Called by trainjob.py.
"""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tendon.errors import ConfigError, StorageError, TendonError

TRAINER = "/apis/trainer.kubeflow.org/v1alpha1"
WORKLOADS = ("/apis/kueue.x-k8s.io/v1beta2", "/apis/kueue.x-k8s.io/v1beta1")
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
JOB_LABEL = "jobset.sigs.k8s.io/jobset-name"  # on each pod of a TrainJob
CONTAINER = "node"
TRANSIENT = (0, 408, 429)  # 0: no answer; beside every 5xx
LOG_BYTES = 64 * 1024

Object = dict[str, Any]


class ApiError(Exception):
    """What the API server answered instead of what was asked."""

    def __init__(self, status: int, message: str, path: str) -> None:
        """``status`` is 0 when there was no answer at all."""
        super().__init__(f"HTTP {status}: {message}" if status else message)
        self.status, self.message, self.path = status, message, path

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed in a while: a controller, a webhook or the server restarts."""
        return self.status in TRANSIENT or self.status >= 500


class ClusterApi:
    """The few requests that are made, with the pod's own account."""

    def __init__(self, server: str = "", account: Path = ACCOUNT) -> None:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not server and not host:
            raise ConfigError(
                "a TrainJob can only be made inside a cluster",
                where="cluster_trainjob_nodes",
                why="there is no API server in this environment",
                fix="cluster_trainjob_nodes=1 trains in this process",
            )
        self._server = server or f"https://{host}:{port}"
        self._account = account
        self.namespace = (account / "namespace").read_text().strip()
        self._jobs = f"{TRAINER}/namespaces/{self.namespace}/trainjobs"
        self._pods = f"/api/v1/namespaces/{self.namespace}/pods"
        self._workloads = [f"{version}/namespaces/{self.namespace}/workloads" for version in WORKLOADS]

    def create(self, manifest: Object) -> Object | None:
        """Make the job; None when one of its name is there. A field that the server does not know is refused, not dropped."""
        return self._ask("POST", f"{self._jobs}?fieldValidation=Strict", manifest, none_for=(409,))

    def get(self, name: str) -> Object | None:
        """The job, None when there is none."""
        return self._ask("GET", f"{self._jobs}/{name}", none_for=(404,))

    def delete(self, name: str, uid: str) -> bool:
        """Remove the job of this uid and, in the background, its pods; False when it is not there any more.

        In the foreground Trainer 2.3 makes the JobSet of a dying job again and again.
        """
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
        return self._ask("DELETE", f"{self._jobs}/{name}", body, none_for=(404, 409)) is not None

    def pods(self, name: str) -> list[Object]:
        """The pods of the job, those that end included."""
        selector = urllib.parse.quote(f"{JOB_LABEL}={name}")
        listing = self._ask("GET", f"{self._pods}?labelSelector={selector}") or {}
        return list(listing.get("items") or ())

    def pod(self, name: str) -> Object | None:
        """One pod, None when there is none of this name."""
        return self._ask("GET", f"{self._pods}/{name}", none_for=(404,))

    def log_lines(self, pod: str, since: str = "") -> list[tuple[str, str]]:
        """What a node wrote after ``since``: time and line."""
        query = {"container": CONTAINER, "timestamps": "true", "limitBytes": str(LOG_BYTES)}
        query |= {"sinceTime": since.partition(".")[0].rstrip("Z") + "Z"} if since else {"tailLines": "200"}
        text = self._send("GET", f"{self._pods}/{pod}/log?{urllib.parse.urlencode(query)}").decode(errors="replace")
        pairs = (line.partition(" ") for line in text.splitlines())
        return [(time, line) for time, _, line in pairs if time > since]

    def workload(self, job_uid: str) -> Object | None:
        """Kueue's view of the job, None where there is none."""
        for path in self._workloads:
            listing = self._ask("GET", path, none_for=(404,))
            for workload in (listing or {}).get("items") or ():
                owners = workload["metadata"].get("ownerReferences", ())
                if any(owner["uid"] == job_uid for owner in owners):
                    return dict(workload)
            if listing is not None:
                return None
        return None

    def _ask(
        self, method: str, path: str, body: Object | None = None, *, none_for: tuple[int, ...] = ()
    ) -> Object | None:
        """The answer; None for a status that the caller expects."""
        try:
            answer: Object = json.loads(self._send(method, path, body) or b"{}")
        except ApiError as error:
            if error.status in none_for:
                return None
            raise
        return answer

    def _send(self, method: str, path: str, body: Object | None = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - the cluster's own server
            self._server + path, json.dumps(body).encode() if body else None, method=method
        )
        request.add_header("Authorization", f"Bearer {(self._account / 'token').read_text().strip()}")
        request.add_header("Content-Type", "application/json")
        authority = self._account / "ca.crt"
        context = ssl.create_default_context(cafile=str(authority)) if authority.exists() else None
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, _message(error.read()) or str(error.reason), path) from None
        except OSError as error:
            raise ApiError(0, f"{self._server} cannot be reached: {error}", path) from None


def _message(body: bytes) -> str:
    """The server's own words: Status.message, or the text as it is."""
    text = body.decode(errors="replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]


def explain(error: ApiError) -> TendonError:
    """The four lines of a refusal that repeats itself."""
    if error.status == 401 or (error.status == 403 and "cannot" in error.message and "resource" in error.message):
        return StorageError(
            "the API server does not let this account do it",
            where=error.path,
            why=str(error),
            fix="kubectl apply -k an overlay of k8s/ in this namespace, and run as tendon-runner (its Role has the rights)",
        )
    if "TrainingRuntime" in error.message and "not found" in error.message:
        fix = "kubectl apply -n NAMESPACE -k k8s/nodes: the runtime that TrainJobs of tendon ask for"
    elif error.status == 404:
        fix = "install Kubeflow Trainer 2.0 or newer, or cluster_trainjob_nodes=1"
    elif "exceeded quota" in error.message:
        fix = "raise the quota of the namespace, or ask for less: cluster_cpu_train, cluster_memory_train, cluster_trainjob_nodes"
    else:
        fix = "see the message; the fields come from cluster_trainjob_* and cluster_node_* of the form"
    return ConfigError("the API server refuses the TrainJob", where=error.path, why=str(error), fix=fix)
