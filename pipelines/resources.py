"""What each step asks of a cluster, as data: cpu, memory, time, retries, caching, shared memory, secrets.

A local run ignores all of it but caching and retries. Retries are set where a failure that repeats cannot leave with a
non-zero code (the steps of a trial put it into the outcome): what is left to retry is an interruption (75) or a lost
pod, and the step resumes. Other steps get what the cluster gives every task; see k8s/README.md, "Retries".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask

PARALLEL_TRIALS = 4
HOUR = 3600
STORE_SECRET = "tendon-store"  # noqa: S105 - the name of a secret
NOTIFY_SECRET = "tendon-notify"  # noqa: S105
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
STORE_SETTINGS = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")


@dataclass(frozen=True)
class Resources:
    """Requests and limits of one step; quantities are strings, as Kubernetes writes them."""

    cpu: str
    memory: str
    hours: int = 2  # after which the pod is ended
    retries: int = 0
    cache: bool = False
    shared_memory: str = ""  # size of /dev/shm; a pod has 64 MB otherwise
    chosen_node: bool = False  # goes where node_selector and node_tolerations say


STEPS = {
    "plan": Resources(cpu="1", memory="2Gi", hours=1),
    "convert": Resources(cpu="4", memory="8Gi", hours=24, cache=True),
    "stats": Resources(cpu="2", memory="4Gi", hours=4, cache=True),
    "train": Resources(cpu="4", memory="16Gi", hours=168, retries=5, shared_memory="8Gi", chosen_node=True),
    "export": Resources(cpu="2", memory="8Gi", retries=2),
    "evaluate": Resources(cpu="4", memory="8Gi", hours=24, retries=2, shared_memory="2Gi", chosen_node=True),
    "select": Resources(cpu="1", memory="2Gi", hours=1),
    "confirm": Resources(cpu="4", memory="8Gi", hours=24, shared_memory="2Gi", chosen_node=True),
    "report": Resources(cpu="1", memory="4Gi"),
    "promote": Resources(cpu="1", memory="2Gi", hours=1),
    "check": Resources(cpu="1", memory="2Gi", hours=1),
    "measure": Resources(cpu="4", memory="8Gi", hours=24, shared_memory="2Gi", chosen_node=True),
    "finish": Resources(cpu="1", memory="2Gi", hours=1),
}


@dataclass(frozen=True)
class Place:
    """Where the tasks of one pipeline run: pipeline parameters, each resolved when the run starts."""

    image_data: Any
    image_train: Any = None
    image_sim: Any = None
    node_selector: Any = None
    node_tolerations: Any = None
    gpu_count: Any = None
    gpu_type: Any = None

    def put(self, task: PipelineTask, kind: str) -> PipelineTask:
        """The task with the resources of its step, in the image of its kind, with what it needs of the cluster."""
        wanted = STEPS[task.name]
        task.set_container_image({"data": self.image_data, "train": self.image_train, "sim": self.image_sim}[kind])
        task.set_cpu_request(wanted.cpu).set_cpu_limit(wanted.cpu)
        task.set_memory_request(wanted.memory).set_memory_limit(wanted.memory)
        if task.name == "train" and self.gpu_count is not None:
            task.set_accelerator_type(self.gpu_type).set_accelerator_limit(self.gpu_count)
        if wanted.retries:
            task.set_retry(wanted.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
        kubernetes.set_timeout(task, wanted.hours * HOUR)
        kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "tendon")
        kubernetes.add_pod_label(task, "tendon.io/step", task.name)
        if wanted.shared_memory:
            kubernetes.empty_dir_mount(
                task,
                "shared-memory",
                "/dev/shm",  # noqa: S108 - inside the pod
                medium="Memory",
                size_limit=wanted.shared_memory,
            )
        if wanted.chosen_node:
            kubernetes.add_node_selector_json(task, self.node_selector)
            kubernetes.add_toleration_json(task, self.node_tolerations)
        same = {name: name for name in STORE_KEYS}
        kubernetes.use_secret_as_env(task, STORE_SECRET, same, optional=True)
        kubernetes.use_config_map_as_env(task, STORE_SECRET, {name: name for name in STORE_SETTINGS}, optional=True)
        if task.name == "finish":
            webhook = {"TENDON_WEBHOOK_URL": "TENDON_WEBHOOK_URL"}
            kubernetes.use_secret_as_env(task, NOTIFY_SECRET, webhook, optional=True)
        return task.set_caching_options(wanted.cache)
