"""What each step asks of a cluster, as data: cpu, memory, gpus, retries after a lost node, caching.

A local run ignores all of it but caching. Retries cover infrastructure; a step that is started again finds its work.
Caching is on where the inputs are digests and content-addressed addresses, so that a hit can only mean the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from kfp.dsl import PipelineTask

PARALLEL_TRIALS = 4


@dataclass(frozen=True)
class Resources:
    """Requests and limits of one step; quantities are strings, as Kubernetes writes them."""

    cpu: str
    memory: str
    gpus: str = "0"
    retries: int = 2
    cache: bool = False


STEPS = {
    "plan": Resources(cpu="1", memory="2Gi", retries=0),
    "convert": Resources(cpu="4", memory="8Gi", cache=True),
    "stats": Resources(cpu="2", memory="4Gi", cache=True),
    "train": Resources(cpu="4", memory="16Gi", retries=5),
    "export": Resources(cpu="2", memory="8Gi"),
    "evaluate": Resources(cpu="4", memory="8Gi"),
    "select": Resources(cpu="1", memory="2Gi"),
    "confirm": Resources(cpu="4", memory="8Gi"),
    "report": Resources(cpu="1", memory="4Gi"),
    "promote": Resources(cpu="1", memory="2Gi", retries=0),
}


def sized(task: PipelineTask) -> PipelineTask:
    """The task with the resources of its step."""
    wanted = STEPS[task.name]
    task.set_cpu_request(wanted.cpu).set_cpu_limit(wanted.cpu)
    task.set_memory_request(wanted.memory).set_memory_limit(wanted.memory)
    if wanted.gpus != "0":
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(wanted.gpus)
    if wanted.retries:
        task.set_retry(wanted.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    return task.set_caching_options(wanted.cache)
