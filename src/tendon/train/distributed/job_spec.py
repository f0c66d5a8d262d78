"""What is asked of the cluster for one trial, as a TrainJob of Trainer 2.0 to 2.3. Pure: values in, an object out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tendon.config.digest import digest
from tendon.errors import ConfigError
from tendon.storage.stock import ACCESS_KEY, PIPELINE_ROOT, SECRET_KEY, STOCK_SECRET, pipeline_root

RUNTIME = "tendon-nodes"  # k8s/nodes/runtime.yaml
STORE = "tendon-store"  # a secret and a config map of this name, as in pipelines/resources.py
COMMAND = ("python", "-m", "tendon.train.distributed.node_process")
QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
TRIAL = "tendon.io/trial"  # annotation: the address of the trial
MANAGER = "tendon.io/waiter"
REPLICATED_JOB = "node"
# Where a TrainJob says what its pods get beyond the runtime: the newest Trainer first.
PATCHES, TEMPLATE_OVERRIDES, SPEC_OVERRIDES = "runtimePatches", "podTemplateOverrides", "podSpecOverrides"
OVERRIDES = (PATCHES, TEMPLATE_OVERRIDES, SPEC_OVERRIDES)  # Trainer 2.2 and newer, 2.1, 2.0


@dataclass(frozen=True)
class NodePlacement:
    """Where nodes may run and with what they pull their image: that of the pod that waits for them."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    pull_secrets: Sequence[str] = ()
    priority: str = ""  # Kueue's priority class
    queue: str = ""  # in which the pod that waits is itself

    @classmethod
    def of_pod(cls, pod: Mapping[str, Any]) -> NodePlacement:
        """That of a pod as the API server has it; what Kubernetes itself adds to each pod is left out."""
        labels, spec = pod["metadata"].get("labels", {}), pod["spec"]
        tolerations = [
            toleration
            for toleration in spec.get("tolerations") or ()
            if not str(toleration.get("key", "")).startswith("node.kubernetes.io/")
        ]
        return cls(
            spec.get("nodeSelector") or {},
            tolerations,
            [secret["name"] for secret in spec.get("imagePullSecrets") or ()],
            labels.get(PRIORITY, ""),
            labels.get(QUEUE, ""),
        )

    def pod_spec(self) -> dict[str, Any]:
        """The fields of a pod's spec that it sets."""
        fields = {
            "nodeSelector": dict(self.node_selector),
            "tolerations": [dict(toleration) for toleration in self.tolerations],
            "imagePullSecrets": [{"name": name} for name in self.pull_secrets],
        }
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True)
class JobSpec:
    """What is asked of the cluster."""

    name: str
    image: str
    arguments: tuple[str, ...]  # of node_process
    nodes: int
    gpus: str = "1"
    gpu_type: str = "nvidia.com/gpu"
    queue: str = ""
    processes: int = 0  # on each node; 0: one for each GPU
    cpu: str = ""  # of each node, as a Kubernetes quantity; empty: what the namespace gives
    memory: str = ""
    trial_uri: str = ""
    placement: NodePlacement = NodePlacement()

    def manifest(self, overrides: str = PATCHES) -> dict[str, Any]:
        """The TrainJob; ``overrides`` is the field by which its Trainer takes what pods get beyond the runtime."""
        self._check()
        trainer: dict[str, Any] = {
            "image": self.image,
            "command": list(COMMAND),  # it starts torchrun itself, with the PET_* that the runtime sets
            "args": list(self.arguments),
            "numNodes": self.nodes,
            "numProcPerNode": self.processes or int(self.gpus) or 1,
            "env": _environment(),
        }
        if resources := self._resources():  # an empty one makes the job immutable for Kueue
            trainer["resourcesPerNode"] = resources
        labels = {"app.kubernetes.io/part-of": "tendon", "tendon.io/step": "train"}
        if self.queue:
            labels[QUEUE] = self.queue
        if self.queue and self.placement.priority:
            labels[PRIORITY] = self.placement.priority
        reference = {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": RUNTIME}
        return {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": self.name, "labels": labels, "annotations": {TRIAL: self.trial_uri}},
            "spec": {"runtimeRef": reference, "trainer": trainer, **self._overrides(overrides)},
        }

    def _check(self) -> None:
        if self.nodes < 2 or not self.gpus.isdigit():
            raise ConfigError(
                f"a TrainJob of {self.nodes} node(s) with {self.gpus!r} GPUs",
                where="cluster_trainjob_nodes, cluster_trainjob_gpus",
                why="it needs two nodes or more, and a whole number of GPUs as text",
                fix="cluster_trainjob_nodes=2 cluster_trainjob_gpus=8",
            )
        if self.queue and self.placement.queue == self.queue:
            raise ConfigError(
                "the pod that waits for the TrainJob is in the same queue",
                where=f"queue {self.queue}",
                why="it holds room that its own TrainJob waits for, so that neither may ever start",
                fix="either cluster_trainjob_queue or compile.py --queue, not both",
            )

    def _resources(self) -> dict[str, dict[str, str]]:
        """Requests and limits; no limit on the cpu: a node that starts may use what is idle."""
        gpus = {self.gpu_type: self.gpus} if self.gpus != "0" else {}
        memory = {"memory": self.memory} if self.memory else {}
        cpu = {"cpu": self.cpu} if self.cpu else {}
        kinds = {"requests": cpu | memory | gpus, "limits": memory | gpus}
        return {kind: quantities for kind, quantities in kinds.items() if quantities}

    def _overrides(self, name: str) -> dict[str, Any]:
        spec = self.placement.pod_spec()
        if name == SPEC_OVERRIDES:
            spec.pop("imagePullSecrets", None)  # Trainer 2.0 has no field for it: the account's are used
        if not spec:
            return {}
        if name == PATCHES:
            job = {"name": REPLICATED_JOB, "template": {"spec": {"template": {"spec": spec}}}}
            runtime = {"template": {"spec": {"replicatedJobs": [job]}}}
            return {name: [{"manager": MANAGER, "trainingRuntimeSpec": runtime}]}
        target = {"targetJobs": [{"name": REPLICATED_JOB}]}
        return {name: [target | ({"spec": spec} if name == TEMPLATE_OVERRIDES else spec)]}


def job_name(run_key: str, trial_uri: str) -> str:
    """The name of a trial's TrainJob: that of no other store, run or trial. At most 63 characters, begins with a letter."""
    return f"tendon-{run_key}-{digest(trial_uri.rstrip('/'))[:8]}"


def _environment() -> list[dict[str, Any]]:
    """Keys and address of the store, by reference."""
    environment: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {kind: {"name": STORE, "key": name, "optional": True}}}
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
    return [*environment, {"name": PIPELINE_ROOT, "value": pipeline_root()}]  # no kfp tells a node of a TrainJob
