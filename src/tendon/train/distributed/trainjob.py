"""Training on several nodes: a Kubeflow TrainJob is made, watched and, when we are told to stop, deleted.

In: a JobSpec. Out: nothing, or the TendonError of the job; the work itself is in the store. Called by steps.train_trials_on_nodes
from a small pod whose service account may handle TrainJobs (k8s/base). Speaks to the API server with the standard
library alone: the Python client for Kubernetes is in no image of ours. Not tried on a real cluster yet.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tendon.errors import ConfigError, Interrupted, StorageError, TendonError
from tendon.storage.stock import ACCESS_KEY, PIPELINE_ROOT, SECRET_KEY, STOCK_SECRET, pipeline_root

log = logging.getLogger(__name__)

GROUP = "/apis/trainer.kubeflow.org/v1alpha1"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
RUNTIME = "torch-distributed"  # ships with Trainer; sets PET_*, by which the nodes find each other
STORE_ENV = ("tendon-store",)  # a secret and a config map of this name, as in pipelines/resources.py
LOST_S = 120.0  # how long the API server may be away


@dataclass(frozen=True)
class JobSpec:
    """What is asked of the cluster."""

    name: str
    image: str
    command: tuple[str, ...]  # words after ``tendon``
    nodes: int
    gpus: str = "1"
    gpu_type: str = "nvidia.com/gpu"
    queue: str = ""

    def manifest(self) -> dict[str, Any]:
        """The TrainJob. Its trainer fields are the same from Trainer 2.0 to 2.3; overrides of pods, which are not, are left out."""
        if self.nodes < 2 or not self.gpus.isdigit():
            raise ConfigError(
                f"a TrainJob of {self.nodes} node(s) with {self.gpus!r} GPUs",
                where="cluster_trainjob_nodes, cluster_trainjob_gpus",
                why="it needs two nodes or more, and a whole number of GPUs as text",
                fix="cluster_trainjob_nodes=2 cluster_trainjob_gpus=8",
            )
        limits = {self.gpu_type: self.gpus} if self.gpus != "0" else {}
        environment = [
            {"name": name, "valueFrom": {kind: {"name": STORE_ENV[0], "key": name, "optional": True}}}
            for kind, names in (
                ("secretKeyRef", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")),
                ("configMapKeyRef", ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")),
            )
            for name in names
        ]
        environment += [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": STOCK_SECRET, "key": key, "optional": True}}}
            for key, name in (("accesskey", ACCESS_KEY), ("secretkey", SECRET_KEY))
        ]
        environment.append({"name": PIPELINE_ROOT, "value": pipeline_root()})  # no kfp tells a node of a TrainJob
        labels = {"app.kubernetes.io/part-of": "tendon", "tendon.io/step": "train"}
        if self.queue:
            labels["kueue.x-k8s.io/queue-name"] = self.queue
        return {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "runtimeRef": {"name": RUNTIME},
                "trainer": {
                    "image": self.image,
                    "command": ["tendon"],  # it starts torchrun itself, with the PET_* that the runtime sets
                    "args": list(self.command),
                    "numNodes": self.nodes,
                    "numProcPerNode": int(self.gpus) or 1,
                    "resourcesPerNode": {"requests": limits, "limits": limits},
                    "env": environment,
                },
            },
        }


class Api(Protocol):
    """The few requests that are made."""

    def create(self, manifest: dict[str, Any]) -> bool:
        """Make the job; False when one of its name is there."""

    def get(self, name: str) -> dict[str, Any] | None:
        """The job, None when there is none."""

    def delete(self, name: str) -> None:
        """Remove the job and its pods."""


def run_job(spec: JobSpec, api: Api | None = None, *, poll_s: float = 15.0) -> None:
    """Make the job, or take over the one of an earlier attempt, and wait for its end.

    Raises:
        TendonError: The job failed, or vanished.
        Interrupted: This process was told to stop; the job is gone, its checkpoints are kept.
    """
    api = api or ClusterApi()
    if api.create(spec.manifest()):
        log.info("train: TrainJob %s on %d nodes", spec.name, spec.nodes)
    else:
        log.info("train: TrainJob %s of an earlier attempt is there", spec.name)
    with _stop_asked() as asked:
        ended = _wait(spec, api, asked, poll_s)
    if ended == "Failed":
        why = _why(api.get(spec.name))
        api.delete(spec.name)  # so that another attempt can make it anew
        raise TendonError(
            "the TrainJob failed", where=spec.name, why=why, fix="see the logs of its pods; run again: it resumes"
        )
    api.delete(spec.name)


def _wait(spec: JobSpec, api: Api, asked: threading.Event, poll_s: float) -> str:
    seen = time.monotonic()
    while not asked.wait(poll_s):
        try:
            job = api.get(spec.name)
        except StorageError:
            if time.monotonic() - seen > LOST_S:
                raise
            continue
        seen = time.monotonic()
        if job is None:
            raise TendonError(
                "the TrainJob is gone", where=spec.name, why="somebody deleted it", fix="run again: it resumes"
            )
        for condition in job.get("status", {}).get("conditions", ()):
            if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                return str(condition["type"])
    api.delete(spec.name)
    raise Interrupted(
        "waiting for the TrainJob was interrupted",
        where=spec.name,
        why="this pod was told to stop, so the job was deleted",
        fix="run the same command again: it resumes from the last checkpoint",
    )


def _why(job: dict[str, Any] | None) -> str:
    conditions = (job or {}).get("status", {}).get("conditions", ())
    return next((c.get("message", "") for c in conditions if c["type"] == "Failed"), "") or "it does not say"


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """Set when SIGTERM or Ctrl-C arrives."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ClusterApi:
    """The API server of the cluster that this pod runs in, with the pod's own account."""

    def __init__(self, server: str = "", account: Path = ACCOUNT) -> None:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not server and not host:
            raise ConfigError(
                "a TrainJob can only be made inside a cluster",
                where="trainjob_nodes",
                why="there is no API server in this environment",
                fix="cluster_trainjob_nodes=1 trains in this process",
            )
        self._server = server or f"https://{host}:{port}"
        self._account = account
        self._jobs = f"{GROUP}/namespaces/{(account / 'namespace').read_text().strip()}/trainjobs"

    def create(self, manifest: dict[str, Any]) -> bool:
        """Make the job; False when one of its name is there."""
        return self._ask("POST", self._jobs, manifest, expect=409) is not None

    def get(self, name: str) -> dict[str, Any] | None:
        """The job, None when there is none."""
        return self._ask("GET", f"{self._jobs}/{name}", expect=404)

    def delete(self, name: str) -> None:
        """Remove the job and its pods."""
        self._ask("DELETE", f"{self._jobs}/{name}?propagationPolicy=Foreground", expect=404)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, expect: int) -> dict[str, Any] | None:
        """The answer; None for the one status that the caller expects."""
        request = urllib.request.Request(  # noqa: S310 - the cluster's own server
            self._server + path, json.dumps(body).encode() if body else None, method=method
        )
        request.add_header("Authorization", f"Bearer {(self._account / 'token').read_text().strip()}")
        request.add_header("Content-Type", "application/json")
        authority = self._account / "ca.crt"
        context = ssl.create_default_context(cafile=str(authority)) if authority.exists() else None
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
                found: dict[str, Any] = json.loads(answer.read() or b"{}")
                return found
        except urllib.error.HTTPError as error:
            if error.code == expect:
                return None
            fix = (
                "the service account needs the rights of k8s/base/account.yaml"
                if error.code in (401, 403)
                else "try again"
            )
            raise StorageError(
                "the API server refuses a TrainJob", where=path, why=f"HTTP {error.code}: {error.reason}", fix=fix
            ) from None
        except OSError as error:
            raise StorageError(
                "the API server cannot be reached",
                where=self._server,
                why=str(error),
                fix="allow it in k8s/base/network.yaml",
            ) from None
