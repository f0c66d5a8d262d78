"""What each step asks of a cluster, as data: image, cpu, memory, time, retries, caching, shared memory, secrets.

A local run ignores all of it but caching and retries. On a cluster every failure of a step is exit code 1 to Argo, so a
retry cannot tell a typo from a lost node: steps are retried where whatever repeats itself is an outcome (the steps of a
trial leave with 0 then). What is left to retry is a lost pod, and the step resumes. See k8s/README.md, "Retries".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask
from kfp.dsl.pipeline_channel import PipelineChannel

PARALLEL_TRIALS = 4
HOUR = 3600
RETRY_DELAY = "30s"
STORE_SECRET = "tendon-store"  # noqa: S105 - the name of a secret
NOTIFY_SECRET = "tendon-notify"  # noqa: S105
STOCK_SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - what an install of KFP has in each namespace that runs pipelines
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
STORE_SETTINGS = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
UI_ENDPOINT = "TENDON_UI_ENDPOINT"  # the address under which people open the UI: the link in a message
STOCK_KEYS = {"accesskey": "TENDON_STOCK_ACCESS_KEY", "secretkey": "TENDON_STOCK_SECRET_KEY"}


@dataclass(frozen=True)
class Resources:
    """What one step asks for; an empty cpu or memory is what the form says, or what plan sized."""

    image: str  # data, train or sim
    title: str  # what the UI shows
    cpu: str = ""
    memory: str = ""
    hours: int = 2  # after which the pod is ended
    retries: int = 0  # for lost pods
    cache: bool = False
    shared_memory: str = ""  # size of /dev/shm; a pod has 64 MB otherwise
    chosen_node: bool = False  # goes where cluster_node_selector and cluster_node_tolerations say


STEPS = {
    "plan": Resources("data", "plan the trials", cpu="500m", memory="1Gi", hours=1),
    "convert": Resources("data", "convert the demonstrations", hours=24, cache=True),
    "stats": Resources("data", "statistics of the data", hours=4, cache=True),
    "train": Resources("train", "train", hours=168, retries=10, shared_memory="8Gi", chosen_node=True),
    "export": Resources("train", "export the policy", retries=5),
    "evaluate": Resources("sim", "evaluate", hours=24, retries=5, shared_memory="2Gi", chosen_node=True),
    "train_rung": Resources("train", "train to a rung", hours=168, retries=10, shared_memory="8Gi", chosen_node=True),
    "evaluate_rung": Resources("sim", "score the rung", hours=24, retries=5, shared_memory="2Gi", chosen_node=True),
    "prune": Resources("data", "who goes on", hours=1),
    "evaluate_share": Resources("sim", "evaluate", hours=24, retries=5, shared_memory="2Gi", chosen_node=True),
    "conclude": Resources("sim", "select, confirm, report, promote", hours=24, shared_memory="2Gi", chosen_node=True),
    "select": Resources("data", "select the winner", hours=1),
    "confirm": Resources("sim", "confirm the winner", hours=24, shared_memory="2Gi", chosen_node=True),
    "report": Resources("data", "report"),
    "promote": Resources("data", "promote the winner", hours=1),
    "evaluate_bundle": Resources("sim", "evaluate a bundle", hours=24, shared_memory="2Gi", chosen_node=True),
    "finish": Resources("data", "finish: page and notice", cpu="500m", memory="1Gi", hours=1),
}
SIZES = tuple(f"{quantity}_{kind}" for quantity in ("cpu", "memory") for kind in ("data", "train", "sim"))
# The pod of train asks for what training takes, or for next to nothing when it only waits for the nodes of a TrainJob.
TRAIN_POD = ("cpu_train_pod", "memory_train_pod", "memory_train_limit")


@dataclass(frozen=True)
class Placement:
    """Where the tasks of one pipeline run: pipeline parameters or outputs of plan, each resolved when the run starts."""

    form: SimpleNamespace  # its cluster_ fields
    sizes: Mapping[str, Any]  # cpu_data, memory_train, ...

    def apply(self, task: PipelineTask) -> PipelineTask:
        """The task with the resources of its step, in the image of its kind, with what it needs of the cluster."""
        step = re.sub(r"_\d+$", "", task.name.replace("-", "_"))  # the second task of a step is called STEP-2
        wanted = STEPS[step]
        task.set_display_name(wanted.title)
        self._size(task, step, wanted)
        if wanted.retries:
            # Argo counts the duration from the first attempt and gives up after it, so it must outlast the step.
            last = f"{wanted.retries * wanted.hours * HOUR}s"
            task.set_retry(wanted.retries, RETRY_DELAY, backoff_factor=1.0, backoff_max_duration=last)
        kubernetes.set_timeout(task, wanted.hours * HOUR)
        kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "tendon")
        kubernetes.add_pod_label(task, "tendon.io/step", step)
        kubernetes.set_security_context(task, run_as_non_root=True)  # kfp sets the rest: no rights, RuntimeDefault
        if wanted.shared_memory:
            kubernetes.empty_dir_mount(
                task,
                "shared-memory",
                "/dev/shm",  # noqa: S108 - inside the pod
                medium="Memory",
                size_limit=wanted.shared_memory,
            )
        if wanted.chosen_node:
            kubernetes.add_node_selector_json(task, self.form.cluster_node_selector)
            kubernetes.add_toleration_json(task, self.form.cluster_node_tolerations)
        _secrets(task)
        return task.set_caching_options(wanted.cache)

    def _size(self, task: PipelineTask, step: str, wanted: Resources) -> None:
        """Image, cpu, memory, GPUs. No cpu limit: a step that starts (imports torch) may use what is idle."""
        cpu = wanted.cpu or self.sizes[f"cpu_{wanted.image}"]
        memory = limit = wanted.memory or self.sizes[f"memory_{wanted.image}"]
        if step == "train":
            cpu, memory, limit = (self.sizes[name] for name in TRAIN_POD)
        image = getattr(self.form, f"cluster_image_{wanted.image}")
        task.set_container_image(image).set_cpu_request(cpu)
        task.set_memory_request(memory).set_memory_limit(limit)
        asked = [cpu, memory, limit, image]
        if step in ("train", "train_rung"):
            gpus, gpu_type = self.form.cluster_gpu_count, self.form.cluster_gpu_type
            task.set_accelerator_type(gpu_type).set_accelerator_limit(gpus)
            asked += [gpus, gpu_type]
        # kfp 2.17 hands only what it knows as a task's input down into a group, and drops a limit that it cannot find.
        task.register_pipeline_channels([value for value in asked if isinstance(value, PipelineChannel)])


def _secrets(task: PipelineTask) -> None:
    """Keys of the store as environment: our own secret, else the one of a stock install; a run starts without either."""
    kubernetes.use_secret_as_env(task, STORE_SECRET, {name: name for name in STORE_KEYS}, optional=True)
    kubernetes.use_config_map_as_env(task, STORE_SECRET, {name: name for name in STORE_SETTINGS}, optional=True)
    kubernetes.use_secret_as_env(task, STOCK_SECRET, STOCK_KEYS, optional=True)
    if task.name == "finish":
        kubernetes.use_secret_as_env(task, NOTIFY_SECRET, {"TENDON_WEBHOOK_URL": "TENDON_WEBHOOK_URL"}, optional=True)
        kubernetes.use_config_map_as_env(task, STORE_SECRET, {UI_ENDPOINT: UI_ENDPOINT}, optional=True)


def build_sentence(parallel_trials: int, shared_memory: str = "", pull_secret: str = "") -> str:
    """How a pipeline was compiled, for its description."""
    sizes = {step: shared_memory or wanted.shared_memory for step, wanted in STEPS.items() if wanted.shared_memory}
    shm = ", ".join(f"{sizes[step]} for {step}" for step in ("train", "evaluate", "conclude"))
    secret = f"pull secret {pull_secret}" if pull_secret else "pull secrets of the service account"
    return f"Compiled for {parallel_trials} trials at once; /dev/shm {shm}; {secret} (options of pipelines/compile.py)."
