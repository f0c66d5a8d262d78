"""A node of a TrainJob: it can be stopped at once, says whom it waits for, and a lost peer is an interruption."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tendon import steps
from tendon.errors import Interrupted
from tendon.runs.failures import failures_in
from tendon.runs.plan import load_plan
from tendon.train.distributed import roll_call, trainjob
from tendon.train.distributed.cluster_api import ClusterApi
from tendon.train.distributed.ranks import is_lost_peer
from tendon.train.distributed.roll_call import RollCall, all_nodes
from tests.train.fake_cluster import Cluster
from tests.train.forked_ranks import run_ranks
from tests.train.real_nodes import kill_tree, run_pods_in_processes
from tests.train.test_cluster_lines import make_plan

COMMAND = [sys.executable, "-m", "tendon.train.distributed.node_process", "tendon.steps:train_node"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start_node(plan, message: Path, rank: int = 0, size: int = 2, port: int = 0, **environment: str):
    message.touch()
    variables = {"PET_NNODES": size, "PET_NODE_RANK": rank, "PET_NPROC_PER_NODE": 1, "PET_MASTER_ADDR": "127.0.0.1"}
    variables |= {"PET_MASTER_PORT": port or free_port(), "TENDON_TERMINATION_LOG": message}
    words = [*COMMAND, "--run-uri", plan.run_uri, "--trial", plan.groups[0][0]]
    names = {name: str(value) for name, value in variables.items()}
    return subprocess.Popen(words, env=os.environ | names | environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    planned = make_plan(tmp_path_factory.mktemp("store"), "training.offline_steps=20")
    steps.convert(
        source_uri="demo://reach?episodes=4&seed=1", store_uri=planned.store_uri, dataset_name="demos", source_digest=planned.source_digest
    )  # fmt: skip
    return planned


def test_line_7_a_stop_before_anything_is_imported_ends_at_once(plan, tmp_path):
    """The first process of a container ignores SIGTERM until it handles it; that took 30 s."""
    node = start_node(plan, tmp_path / "message")
    deadline = time.monotonic() + 20
    while not handles_sigterm(node.pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    told = time.monotonic()
    node.terminate()
    assert node.wait(20) == 75
    assert time.monotonic() - told < 2
    assert "the node was told to stop" in (tmp_path / "message").read_text()


def handles_sigterm(pid: int) -> bool:
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_line_7_a_stop_while_waiting_for_peers_ends_at_once(plan, tmp_path):
    """It reached nobody: alive 40 s later, killed at the end of the grace."""
    port = free_port()
    node = start_node(plan, tmp_path / "message", port=port)
    deadline = time.monotonic() + 60
    while not is_listening(port + 1) and time.monotonic() < deadline:
        assert node.poll() is None, node.stderr.read()
        time.sleep(0.05)
    time.sleep(1)
    told = time.monotonic()
    node.terminate()
    assert node.wait(20) == 75
    assert time.monotonic() - told < 5
    assert "stopped while it waited for node 1" in (tmp_path / "message").read_text()


def is_listening(port: int) -> bool:
    with socket.socket() as other:
        return other.connect_ex(("127.0.0.1", port)) == 0


def test_line_7_who_is_missing_is_named(caplog, monkeypatch):
    """Silence for 15 minutes, then "died without a word ... takes too much memory"."""
    caplog.set_level(logging.INFO)
    for name, seconds in (("SAY_EVERY_S", 0.2), ("LONGEST_S", 1.5), ("ASK_S", 0.05)):
        monkeypatch.setattr(roll_call, name, seconds)
    roll = RollCall(0, 3, "127.0.0.1", free_port())
    other = threading.Thread(target=wait_quietly, args=(RollCall(2, 3, "127.0.0.1", roll.port),))
    other.start()
    with pytest.raises(Interrupted, match=r"error: node 1 did not come"), all_nodes(roll, lambda: ""):
        pass
    other.join()
    assert "2 of 3 nodes are here after" in caplog.text
    assert "missing: node 1" in caplog.text
    assert RollCall(0, 3, "tendon-k-node-0-0.tendon-k", 1).name(1) == "node 1 (tendon-k-node-0-1)"


def wait_quietly(roll: RollCall) -> None:
    try:
        with all_nodes(roll, lambda: ""):
            pass
    except Interrupted:
        pass


def test_nodes_that_are_all_there_go_on_together():
    port = free_port()
    gone = [threading.Thread(target=wait_quietly, args=(RollCall(rank, 3, "127.0.0.1", port),)) for rank in (2, 1)]
    for thread in gone:
        thread.start()
    began = time.monotonic()
    with all_nodes(RollCall(0, 3, "127.0.0.1", port), lambda: ""):
        for thread in gone:
            thread.join(10)
        assert not any(thread.is_alive() for thread in gone)
    assert time.monotonic() - began < 10


def test_a_node_that_comes_back_into_a_round_that_lost_it_waits_for_the_next(monkeypatch):
    monkeypatch.setattr(roll_call, "ASK_S", 0.05)
    port, stop = free_port(), threading.Event()
    peer = RollCall(1, 2, "127.0.0.1", port)
    first = threading.Thread(target=wait_quietly, args=(peer,))
    first.start()
    with all_nodes(RollCall(0, 2, "127.0.0.1", port), lambda: ""):
        first.join(10)
        with (
            pytest.raises(Interrupted, match="stopped while it waited"),
            all_nodes(peer, lambda: "SIGTERM" if stop.wait(1.0) else stop.set() or ""),
        ):
            pass


def test_line_16_a_lost_peer_is_75(tmp_path):
    """It was exit code 1: "failed in a way nobody foresaw ... Connection reset by peer"."""
    for text in (
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.244.0.9]:38712",
        "Connection reset by peer",
        "NCCL error ... ncclRemoteError: A call failed possibly due to a network error or a remote process exiting",
        "[1] is setting up NCCL communicator ... wait timeout after 600000ms",
    ):
        assert is_lost_peer(RuntimeError(text)), text
    assert not is_lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x2 and 3x4)"))
    assert not is_lost_peer(ValueError("Connection reset by peer"))
    assert run_ranks(tmp_path, events={1: ("kill", 13)}) == [75, -9]


def test_line_16_two_nodes_one_killed_the_other_leaves_with_75(plan, tmp_path):
    """The whole node: launcher, torchrun, rank; its four lines are the termination message."""
    port, long = free_port(), make_plan(plan.store_uri, "training.offline_steps=1000000", "training.log_freq=1000")
    messages = [tmp_path / f"message-{rank}" for rank in (0, 1)]
    nodes = [start_node(long, message, rank, port=port) for rank, message in enumerate(messages)]
    trial = Path(load_plan(long.run_uri).trial_uri(long.groups[0][0]))
    deadline = time.monotonic() + 120
    while not (trial / "metrics.jsonl").exists() and time.monotonic() < deadline:
        assert [node.poll() for node in nodes] == [None, None]
        time.sleep(0.1)
    kill_tree(nodes[1].pid)
    assert nodes[0].wait(60) == 75
    assert "another process of the training is gone" in messages[0].read_text()


def test_line_5_the_four_lines_of_a_real_node_are_those_of_the_step(plan, tmp_path, monkeypatch):
    """From the rank that found it, through torchrun, launcher, exit code and termination message, to the outcome."""
    cluster = Cluster().serve()
    run_pods_in_processes(cluster, tmp_path)
    api, run_job = ClusterApi(cluster.address, cluster.account(tmp_path / "account")), trainjob.run_job
    monkeypatch.setattr(trainjob, "run_job", lambda spec, **given: run_job(spec, api, poll_s=0.1, **given))
    for shard in Path(plan.dataset_uri).glob("shards/*.tar"):
        shard.write_bytes(b"")
    try:
        (outcome,) = steps.train_trials_on_nodes(
            run_uri=plan.run_uri, trials=plan.groups[0], dataset_uri=plan.dataset_uri, image="i", nodes=2, gpus="0",
            cpu="1", memory="2Gi",
        )  # fmt: skip
    finally:
        cluster.close()
    error = json.loads(outcome)["error"]
    assert "shards/" in error
    assert ", pod tendon-" in error
    assert [failure.exit_code for failure in failures_in(plan.run_uri)] == [3]
    assert cluster.made == 1
