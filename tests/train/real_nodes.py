"""Pods of the fake cluster as what they are on a real one: node_process with torchrun and ranks, in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.train.fake_cluster import Cluster


def free_port() -> int:
    """A port with a free one behind it, for the nodes' wait for each other."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError):
                second.bind(("127.0.0.1", port + 1))
                return port


def run_pods_in_processes(cluster: Cluster, folder: Path) -> None:
    """From now on each pod of the cluster runs the command of its TrainJob, with the variables that Trainer sets."""
    ports: dict[str, int] = {}

    def start(job: dict, pod: dict) -> subprocess.Popen:
        trainer, index = job["spec"]["trainer"], pod["_index"]
        port = ports.setdefault(job["metadata"]["uid"], free_port())
        pod["_message"] = folder / f"{pod['metadata']['name']}.message"
        pod["_message"].touch()
        variables = {
            "PET_NNODES": trainer["numNodes"],
            "PET_NPROC_PER_NODE": trainer["numProcPerNode"],
            "PET_NODE_RANK": index,
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": port,
            "TENDON_TERMINATION_LOG": pod["_message"],
        }
        words = [sys.executable, *trainer["command"][1:], *trainer["args"]]
        with (folder / f"{pod['metadata']['name']}.log").open("w") as log:
            names = {name: str(value) for name, value in variables.items()}
            return subprocess.Popen(words, env=os.environ | names, stdout=log, stderr=log)

    cluster.start, cluster.kill = start, lambda process: kill_tree(process.pid)


def tree_of(pid: int) -> list[int]:
    """A process and all that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in tree_of(int(child)))]


def kill_tree(pid: int) -> None:
    """As when a container is killed: nothing in it goes on."""
    for one in reversed(tree_of(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
