"""What Kubernetes says of the pods of a run, where kubectl is there and may look; and the commands for somebody who has it.

The API of Kubeflow knows that a pod is pending, not why, and it has no logs. Nothing here is needed: without kubectl the
answers are empty, and the commands are printed instead.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.client.connection import NO_ACCOUNT, account_fix
from pipelines.client.tasks import step_of

TIMEOUT_S = 20
RUN_LABEL = "pipeline/runid"
PATH_OF_NODE = "workflows.argoproj.io/node-name"
IMAGE = re.compile(r"ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull")
QUOTA = re.compile(r"exceeded quota: ([\w.-]+)")


@dataclass(frozen=True)
class Pod:
    """One pod of a step."""

    name: str
    step: str
    iteration: str
    phase: str
    message: str


@dataclass(frozen=True)
class Kubectl:
    """kubectl for the namespace of the runs."""

    namespace: str
    context: str = ""

    @property
    def command(self) -> str:
        """What each command begins with."""
        return " ".join(self._words())

    def _words(self) -> list[str]:
        return ["kubectl", *(["--context", self.context] if self.context else []), "-n", self.namespace]

    def ask(self, *words: str) -> str | None:
        """What it prints; None when there is none, or it may not."""
        if not shutil.which("kubectl"):
            return None
        try:
            done = subprocess.run([*self._words(), *words], capture_output=True, text=True, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    def _json(self, *words: str) -> dict[str, Any]:
        try:
            fields = json.loads(self.ask(*words, "-o", "json") or "{}")
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}

    def pods(self, run_id: str) -> list[Pod]:
        """The pods of a run that are still there, executors only."""
        return [_pod(one) for one in self._json("get", "pods", "-l", f"{RUN_LABEL}={run_id}").get("items", [])]

    def waiting(self, run_id: str, workflow: str) -> dict[str, str]:
        """What keeps steps from starting: step to message. Pods that were refused stand in the workflow only."""
        nodes = self._json("get", "workflow", workflow).get("status", {}).get("nodes", {}) if workflow else {}
        found = {
            step: node["message"]
            for node in nodes.values()
            if node.get("phase") in ("Pending", "Error") and node.get("message")
            for step in [step_of(node.get("name", ""))[0]]
            if step
        }
        return found | {pod.step: pod.message for pod in self.pods(run_id) if pod.message and pod.step}

    def lacks_account(self, account: str) -> bool:
        """Whether the namespace certainly lacks this account."""
        listing = self._json("get", "serviceaccounts")
        names = [item["metadata"]["name"] for item in listing.get("items", [])]
        return bool(names) and account not in names


def _pod(item: dict[str, Any]) -> Pod:
    meta, status = item["metadata"], item.get("status", {})
    step, iteration = step_of(meta.get("annotations", {}).get(PATH_OF_NODE, ""))
    return Pod(meta["name"], step, iteration, status.get("phase", ""), next(_reasons(status), ""))


def _reasons(status: dict[str, Any]) -> Iterator[str]:
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting", {})
        if IMAGE.search(waiting.get("reason", "")):
            yield f"{waiting['reason']}: {container.get('image', '')}: {waiting.get('message', '')}"
    for condition in status.get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"{condition.get('reason', '')}: {condition.get('message', '')}"


def explained(message: str) -> tuple[str, str]:
    """A kind that stays the same while a matter does, and the sentence with what to do.

    >>> explained("Unschedulable: 1 Insufficient cpu")[0]
    'no node: 1 Insufficient cpu'
    """
    text = " ".join(message.split())
    if IMAGE.search(text):
        image = re.search(r"\"([^\"\s]+)\"|: ([^\s:]+/?[^\s]*:[^\s:]+)", text)
        name = next((group for group in image.groups() if group), "") if image else ""
        return (
            f"image {name}",
            f"the image cannot be pulled ({text[:200]}); check cluster_image_... and the pull secret",
        )
    if quota := QUOTA.search(text):
        return f"quota {quota[1]}", f"the quota {quota[1]} is full ({text[:200]}); it starts when other pods have ended"
    if "Unschedulable" in text or "nodes are available" in text:
        why = text.partition("Unschedulable: ")[2] or text
        fix = "cluster_cpu_..., cluster_memory_..., cluster_gpu_count and cluster_node_selector say what it asks for"
        return f"no node: {why}", f"no node has room for it ({text[:200]}); {fix}"
    if missing := NO_ACCOUNT.search(text):
        return f"account {missing[2]}", f"{text[:200]}; {account_fix(*missing.groups())}"
    return text, text[:200]


def log_command(kubectl: Kubectl, run_id: str, pod_id: str, pod: str = "") -> str:
    """The command that prints a pod's log; its name is found by the end of it, since the API knows no more."""
    if pod:
        return f"{kubectl.command} logs {pod} -c main"
    chosen = f"{kubectl.command} get pods -l {RUN_LABEL}={run_id} -o name"
    if not pod_id:
        return f"{kubectl.command} logs -l {RUN_LABEL}={run_id} -c main --tail=-1 --prefix"
    return f"{kubectl.command} logs $({chosen} | grep -e -{pod_id}$) -c main"
