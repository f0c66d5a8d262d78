"""``make faults ROWS=waiters``: two runs wait for the TrainJob of one trial, and one is killed at twenty moments.

The API server is the fake one of the tests, the pods are real trainings of two ranks. Beside the kill, in turn: nothing, the
job is deleted, a node is lost, the job fails, a deletion takes its time. ``ROWS=nodes``: whole nodes as their pods.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tendon import steps
from tendon.runs.plan import load_plan
from tendon.storage import open_store
from tendon.train.state.checkpoint import complete
from tendon.train.state.status import find_finished
from tests.benchmarks.rows import row
from tests.train.fake_cluster import Cluster
from tests.train.forked_ranks import run_ranks
from tests.train.real_nodes import run_pods_in_processes, tree_of
from tests.train.test_cluster_lines import make_plan
from tests.train.two_waiters import EVENTS, is_right, play

MOMENTS = 20


@row(
    "faults", "waiters", f"share of {MOMENTS} kills of one of two waiters with the same weights and one outcome", "== 1"
)
def waiters() -> float:
    """SIGKILL and SIGTERM by turns, from its first second to its last."""
    moments, right, codes = random.Random(17), 0, Counter()
    with tempfile.TemporaryDirectory() as folder:
        assert run_ranks(Path(folder, "undisturbed")) == [0, 0]
        undisturbed = find_finished(str(Path(folder, "undisturbed")))
        assert undisturbed is not None
        number = 0
        while number < MOMENTS:
            event, how = EVENTS[number % len(EVENTS)], (signal.SIGKILL, signal.SIGTERM)[number // len(EVENTS) % 2]
            place = Path(tempfile.mkdtemp(dir=folder))
            kill_at_s = moments.uniform(0.3, 2.5 if event == "failed" else 5.0)
            story = play(place, kill_at_s, how, event, event_at_s=moments.uniform(1.0, 3.0))
            if not story.was_killed:
                continue  # it had ended before
            wrong = is_right(story, event, undisturbed.weights_sha256)
            right += not wrong
            codes.update(code for attempts in story.codes for code in attempts)
            words = f"{how.name} at {kill_at_s:.1f} s, {event or 'nothing else'}: {wrong or 'right'}"
            sys.stderr.write(
                f"{number}: {words}; exit codes {story.codes}, {story.jobs_made} jobs, {story.seconds:.0f} s\n"
            )
            number += 1
            if wrong:
                sys.stderr.write("".join(path.read_text() for path in sorted(place.glob("*.err"))))
    sys.stderr.write(f"exit codes of the waiters: {dict(codes)}\n")
    return right / MOMENTS


@row("faults", "nodes", "same weights after two lost nodes, a killed rank and a stopped waiter (1: yes)", "== 1")
def nodes() -> float:
    """Launcher, torchrun and rank of two nodes, beside the same that nobody disturbed."""
    with tempfile.TemporaryDirectory() as folder:
        whole = _on_nodes(Path(folder, "whole"), [])
        events = [("node", "1"), ("rank", "0"), ("node", "0"), ("waiter", "")]
        return float(_on_nodes(Path(folder, "disturbed"), events) == whole)


def _on_nodes(folder: Path, events: list[tuple[str, str]]) -> str:
    """Weights of a training of two nodes; an event each time that a new checkpoint is there."""
    folder.mkdir()
    plan = make_plan(folder / "store", "training.offline_steps=2500", "training.save_freq=100")
    steps.convert(
        source_uri="demo://reach?episodes=4&seed=1", store_uri=plan.store_uri, dataset_name="demos",
        source_digest=plan.source_digest,
    )  # fmt: skip
    trial_uri = load_plan(plan.run_uri).trial_uri(plan.groups[0][0])
    cluster = Cluster().serve()
    run_pods_in_processes(cluster, folder)
    account, codes = cluster.account(folder / "account"), []

    def start() -> subprocess.Popen:
        words = [sys.executable, "-m", "tests.train.waiter_process", cluster.address, str(account), plan.run_uri]
        return subprocess.Popen([*words, plan.groups[0][0]], stderr=(folder / "waiter.err").open("a"))

    waiter, seen, began = start(), -1, time.monotonic()
    try:
        while waiter.poll() != 0 and time.monotonic() - began < 500:
            if waiter.poll() is not None:
                codes.append(waiter.returncode)
                waiter = start()
            newest = int((complete(open_store(trial_uri)) or ["-1"])[0])
            if events and newest > seen:
                seen, (kind, index) = newest, events.pop(0)
                _disturb(cluster, waiter, kind, index)
                sys.stderr.write(f"at step {newest}: {kind} {index}\n")
            time.sleep(0.2)
        result = find_finished(trial_uri)
        sys.stderr.write(
            f"waiter {[*codes, waiter.poll()]}, {cluster.made} jobs, {time.monotonic() - began:.0f} s, {result}\n"
        )
        if result is None or events:
            sys.stderr.write((folder / "waiter.err").read_text())
            return f"{len(events)} events are left"
        return result.weights_sha256
    finally:
        waiter.kill()
        cluster.close()


def _disturb(cluster: Cluster, waiter: subprocess.Popen, kind: str, index: str) -> None:
    if kind == "waiter":
        waiter.terminate()
    elif kind == "node":
        cluster.lose_node(index)
    else:
        with cluster.lock:
            pod = next(one for one in cluster.pods.values() if one["_index"] == index and not one["_ended"])
            os.kill(tree_of(pod["_process"].pid)[-1], signal.SIGKILL)
