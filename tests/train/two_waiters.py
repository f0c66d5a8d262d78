"""Two runs wait for the TrainJob of one trial, and one of them is killed: who trains, what is left, what both say.

The pods are real trainings of two ranks (forked_ranks), so that weights can be compared; the cluster is the fake one.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tendon import steps
from tendon.runs.plan import load_plan
from tendon.train.state.status import find_finished
from tests.train.fake_cluster import FOUR_LINES, Cluster, PodEnd
from tests.train.forked_ranks import _rank
from tests.train.killed_trial import FORKSERVER

EVENTS = ("", "gone", "lost", "failed", "slow delete")
STEP_S = 0.03
MOST_ATTEMPTS = 6


class ForkedPod:
    """A forked rank with the face of a Popen."""

    def __init__(self, rank: int, port: int, uri: str) -> None:
        self.process = FORKSERVER.Process(target=_rank, args=(rank, 2, port, uri, None, STEP_S, {}))
        self.process.start()

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()

    def wait(self) -> None:
        self.process.join()


@dataclass
class Story:
    """What came of it."""

    codes: list[list[int]]  # of every attempt, by waiter
    outcomes: list[list[dict]]  # by run
    weights: str
    was_killed: bool  # the first waiter, before its end
    jobs_left: int
    jobs_made: int
    seconds: float


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def make_runs(folder: Path) -> list[tuple[str, str]]:
    """Two runs that plan the same trial: run and name of the trial."""
    runs = []
    for episodes in (2, 3):
        plan = steps.plan(
            source_uri="demo://reach?episodes=4&seed=1", store_uri=str(folder / "store"), dataset_name="demos",
            config="experiment=reach_bc", sweep=[], episodes=2, confirm_episodes=episodes, champion="c", promote=False,
        )  # fmt: skip
        runs.append((plan.run_uri, plan.groups[0][0]))
    assert len({load_plan(uri).trial_uri(trial) for uri, trial in runs}) == 1
    assert len({uri for uri, _ in runs}) == 2
    return runs


def play(folder: Path, kill_at_s: float, how: signal.Signals, event: str = "", event_at_s: float = 0.0) -> Story:
    """One story: both begin, one is killed at its moment, something happens to the job, and who ended badly begins again."""
    began, runs, cluster = time.monotonic(), make_runs(folder), Cluster()
    trial_uri, ports = load_plan(runs[0][0]).trial_uri(runs[0][1]), {}
    account = cluster.account(folder / "account")
    if event == "failed":
        cluster.ends = lambda index, attempt: PodEnd(3, FOUR_LINES, after_s=1.0)
    else:
        cluster.start = lambda job, pod: ForkedPod(
            int(pod["_index"]), ports.setdefault(job["metadata"]["uid"], free_port()), trial_uri
        )
    if event == "slow delete":
        cluster.faults.delete_hangs_s = 1.0
    cluster.serve()

    def start(number: int) -> subprocess.Popen:
        words = [sys.executable, "-m", "tests.train.waiter_process", cluster.address, str(account), *runs[number]]
        return subprocess.Popen(words, stderr=(folder / f"waiter-{number}.err").open("a"))

    try:
        waiters, codes = [start(0), start(1)], [[], []]
        killed = happened = was_killed = False
        while time.monotonic() - began < 120 and any(waiters):
            now = time.monotonic() - began
            if not killed and now > kill_at_s:
                killed = True
                if waiters[0] is not None and waiters[0].poll() is None:
                    waiters[0].send_signal(how)
                    was_killed = True
            if event in ("gone", "lost") and not happened and now > event_at_s and cluster.pods:
                happened = True
                happen(cluster, event)
            for number, waiter in enumerate(waiters):
                if waiter is not None and waiter.poll() is not None:
                    codes[number].append(waiter.returncode)
                    again = waiter.returncode != 0 and len(codes[number]) < MOST_ATTEMPTS
                    waiters[number] = start(number) if again else None
            with cluster.lock:
                cluster.advance()
            time.sleep(0.02)
        finished = find_finished(trial_uri)
        outcomes = [
            [json.loads(path.read_text()) for path in sorted(Path(uri, "outcomes").glob("*.json"))] for uri, _ in runs
        ]
        weights = finished.weights_sha256 if finished else ""
        return Story(codes, outcomes, weights, was_killed, len(cluster.jobs), cluster.made, time.monotonic() - began)
    finally:
        for waiter in filter(None, waiters):
            waiter.kill()
            waiter.wait()
        cluster.close()


def happen(cluster: Cluster, event: str) -> None:
    """What somebody else does to the job."""
    if event == "lost":
        cluster.lose_node("1")
        return
    with cluster.lock:
        for name in list(cluster.jobs):
            cluster._delete(name, {}, {"propagationPolicy": "Background"})


def is_right(story: Story, event: str, weights: str) -> str:
    """What is wrong with a story; nothing when both runs have one outcome, the same, and the right weights."""
    wanted = "failed" if event == "failed" else "ok"
    for outcomes in story.outcomes:
        if [outcome["status"] for outcome in outcomes] != [wanted]:
            return f"outcomes {outcomes}, exit codes {story.codes}"
    if event != "failed" and story.weights != weights:
        return f"weights {story.weights}"
    if event == "failed" and "a shard is missing" not in story.outcomes[0][0]["error"]:
        return f"the reason is lost: {story.outcomes}"
    # SIGTERM itself ends a waiter that has not begun to wait, and therefore made no job.
    unexpected = {code for codes in story.codes for code in codes} - {0, 75, -signal.SIGKILL, -signal.SIGTERM}
    return f"exit codes {story.codes}" if unexpected else f"{story.jobs_left} jobs are left" if story.jobs_left else ""
