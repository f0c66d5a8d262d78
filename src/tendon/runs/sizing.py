"""CPU and memory that the steps of a run ask for, as Kubernetes quantities. Pure: facts of the plan in, texts out.

=======  ====================================================  ========  ========
pod      when                                                  cpu       memory
=======  ====================================================  ========  ========
data     less than 64 MiB of demonstrations                    500m      1Gi
data     less than 10 GiB                                      2         4Gi
data     more                                                  4         8Gi
train    low-dimensional, bc, at most 2 million weights a      500m      1Gi
         hidden layer, batches of at most 256 windows
train    low-dimensional, any other policy                     2         4Gi
train    with images                                           4         16Gi
train    that plays while it learns (training.online_steps)    4         8Gi
train    that plays while it learns, with images               8         24Gi
sim      the numpy simulator                                   500m      1Gi
sim      any other simulator                                   2         4Gi
sim      with images                                           4         8Gi
node     one of several nodes of a training: for each process  as train  as train
         what a train pod asks for, and for its launcher                 +1Gi
waiting  the pod that waits for several nodes                  100m      128Mi
=======  ====================================================  ========  ========

The largest trial of a sweep counts. The parameters cluster_cpu_* and cluster_memory_* replace each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

MIB, GIB = 1 << 20, 1 << 30
SMALL, MIDDLE = ("500m", "1Gi"), ("2", "4Gi")
SMALL_SOURCE, LARGE_SOURCE = 64 * MIB, 10 * GIB
SMALL_LAYER = 2_000_000  # weights between two hidden layers
SMALL_BATCH = 256
LAUNCHER_GIB = 1  # a launcher and torchrun import torch too: a node of one small process was seen to peak at 1.1 GB
# Without torch: 90 MB were measured, and Kubeflow's launcher comes on top.
WAITING = {"cpu_waiting": "100m", "memory_waiting": "128Mi", "limit_waiting": "1Gi"}
NUMPY_SIMULATORS = ("reach",)


def size_steps(configs: Sequence[dict[str, Any]], source_bytes: int) -> dict[str, str]:
    """``cpu_data``, ``memory_data``, ``cpu_train``, ..., ``memory_node``, ``cpu_waiting`` for trials of these configurations."""
    pods = {
        "data": _data(source_bytes),
        "train": max((_train(config) for config in configs), key=_as_memory),
        "sim": max((_sim(config) for config in configs), key=_as_memory),
    }
    sizes: dict[str, str] = {}
    for pod, (cpu, memory) in pods.items():
        sizes |= {f"cpu_{pod}": cpu, f"memory_{pod}": memory}
    processes = max((config["training"].get("num_gpus", 1) for config in configs), default=1)
    sizes["cpu_node"], sizes["memory_node"] = size_node(*pods["train"], processes)
    return sizes | WAITING


def size_node(cpu: str, memory: str, processes: int) -> tuple[str, str]:
    """CPU and memory of one node of several, for what one training process asks for.

    Example:
        >>> size_node("500m", "1Gi", 1)
        ('500m', '2Gi')
    """
    millicores = processes * (int(cpu[:-1]) if cpu.endswith("m") else 1000 * int(cpu))
    whole, part = divmod(millicores, 1000)
    gib = processes * int(memory.removesuffix("Gi")) + LAUNCHER_GIB
    return (f"{millicores}m" if part else str(whole)), f"{gib}Gi"


def memory_of_training(config: dict[str, Any]) -> int:
    """GiB that one training asks for."""
    return int(_train(config)[1].removesuffix("Gi"))


def _data(source_bytes: int) -> tuple[str, str]:
    if source_bytes < SMALL_SOURCE:
        return SMALL
    return MIDDLE if source_bytes < LARGE_SOURCE else ("4", "8Gi")


def _train(config: dict[str, Any]) -> tuple[str, str]:
    if config["training"].get("online_steps"):
        return ("8", "24Gi") if _has_images(config) else ("4", "8Gi")
    if _has_images(config):
        return ("4", "16Gi")
    policy = config["policy"]
    widths = list(policy.get("hidden_dims") or [0])
    largest_layer = max((a * b for a, b in pairwise(widths)), default=0)
    is_small = policy["name"] == "bc" and largest_layer <= SMALL_LAYER
    return SMALL if is_small and config["training"]["batch_size"] <= SMALL_BATCH else MIDDLE


def _sim(config: dict[str, Any]) -> tuple[str, str]:
    if config["env"]["simulator"] in NUMPY_SIMULATORS:
        return SMALL
    return ("4", "8Gi") if _has_images(config) else MIDDLE


def _has_images(config: dict[str, Any]) -> bool:
    return any(word in name for name in config["env"]["observation"] for word in ("image", "depth", "camera", "rgb"))


def _as_memory(size: tuple[str, str]) -> int:
    return int(size[1].removesuffix("Gi"))
