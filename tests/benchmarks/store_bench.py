"""``make bench`` of what people look things up with: 500 runs listed, a dataset of 10,000 episodes opened, here and on S3."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.line import TENDON
from tests.benchmarks.rows import row
from tests.loader.coded import Coded, coded_dataset
from tests.s3_server import Faults, S3Server, Stored

NUM_RUNS, NUM_EPISODES = 500, 10_000
LATENCY_S = 0.030
ROUNDS = 3
MIB = 1 << 20


# ------------------------------------------------------------------------------------------------------------- stores


def make_runs(store: Path, num_runs: int = NUM_RUNS) -> None:
    """Files as a run leaves them: plan, selection, confirmation, record, report, conclusion, outcomes, one trial, champions."""

    from tendon.config.compose import compose
    from tendon.config.typed import to_dict
    from tendon.registry.champion import FORMAT

    random = np.random.default_rng(7)
    reigns: list[dict[str, Any]] = []
    for number in range(num_runs):
        policy = ("bc", "bc_rnn", "bc_transformer")[number % 3]
        lr = float((1e-3, 3e-4, 1e-4)[number // 3 % 3])
        config = to_dict(compose([f"policy={policy}", "env=reach", "data.uri=unused", f"training.lr={lr}"]))
        run_id, key = f"{number * 7919 + 13:016x}"[::-1], f"{number * 104729 + 7:016x}"[::-1]
        dataset_uri = f"store/datasets/reach/{number // 100:016x}"
        n, rate = 100, 0.45 + 0.1 * (number % 3) + 0.3 * number / num_runs
        successes = int(random.binomial(n, min(0.99, rate)))
        when = f"2026-{1 + number * 10 // num_runs:02d}-{1 + number % 28:02d}T0{number % 10}:15:00+00:00"
        trial = {"name": "base", "overrides": [f"training.lr={lr}"], "config": config, "run_key": key}
        plan = {
            "run_id": run_id,
            "store_uri": "store",
            "dataset_uri": dataset_uri,
            "dataset_name": "reach",
            "trials": [trial],
        }
        sentence = f"success rate {successes / n:.2f} ({successes}/{n}, confirmation seeds): {'promote' if number % 50 == 0 else 'keep'}"
        record = {
            "format": "tendon.record/1", "run_id": run_id, "when": when, "source_uri": "demo://reach?episodes=40&seed=1",
            "source_digest": f"{number // 100:016x}", "dataset_uri": dataset_uri, "dataset_digest": f"{number // 100:064x}",
            "episode_list_digest": f"{number // 100:016x}", "code_version": f"tendon 0.1.0, {number // 60:016x}", "images": {},
            "configs": {"base": config}, "seeds": {"training": [1000], "confirmation": [6_350_000, n]}, "winner": "base",
            "policy_digest": key, "timings": {"convert": 10.5, "train/base": 200.0 + number, "confirm/winner": 30.0},
            "scores": {"winner.successes": successes, "winner.n": n, "winner.crashed": 0, "winner.success_rate": successes / n},
            "commands": {"report": "tendon report"}, "verdict": sentence,
        }  # fmt: skip
        folder = store / "runs" / run_id
        (folder / "outcomes").mkdir(parents=True)
        for name, content in {
            "plan.json": plan,
            "record.json": record,
            "selection.json": {"winner": "base", "leaderboard": []},
            "confirmation.json": {"winner": "base", "verdict": {"sentence": sentence}},
            "concluded.json": {"job_id": "", "when": when},
            "outcomes/base.json": {"trial": "base", "run_key": key},
        }.items():
            (folder / name).write_text(json.dumps(content))
        (folder / "report.html").write_text("<!doctype html><title>report</title>" + " " * 100_000)
        kept = store / "trials" / key
        (kept / "bundle").mkdir(parents=True)
        (kept / "status.json").write_text(
            json.dumps({"status": "finished", "step": 2000, "metrics": {"valid_loss": 0.01}})
        )
        (kept / "heartbeat.json").write_text(
            json.dumps({"state": "ended", "step": 2000, "at": 1.79e9, "every_s": 30.0})
        )
        (kept / "bundle" / "config.yaml").write_text("seed: 1\n")
        if number % 50 == 0:
            reign = {"name": "default", "policy_digest": key, "bundle_uri": f"store/trials/{key}/bundle", "n": n,
                     "run_uri": f"store/runs/{run_id}", "successes": successes, "when": when, "protocol": "Reach-2fc2b0e0"}  # fmt: skip
            reigns.append(reign)
    now = reigns[-1]
    (store / "champions" / "default").mkdir(parents=True)
    pointer = {"format": FORMAT, **now, "rate": now["successes"] / now["n"], "history": reigns[-2::-1]}
    (store / "champions" / "default" / "Reach-2fc2b0e0.json").write_text(json.dumps(pointer))


@contextmanager
def in_bucket(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A folder as ``s3://bucket/store`` behind a server that takes 30 ms to answer, and the environment that reaches it."""
    with S3Server(Faults(latency_s=LATENCY_S)) as server:
        server.buckets.add("bucket")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                body = path.read_bytes()
                key = f"bucket/store/{path.relative_to(folder).as_posix()}"
                server.objects[key] = Stored(body, f'"{len(body):032x}"', path.stat().st_mtime)
        env = {"AWS_ENDPOINT_URL_S3": server.address, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        yield "s3://bucket/store", env | {"AWS_DEFAULT_REGION": "us-east-1"}


def best_listing_s(uri: str, env: dict[str, str], kind: str = "runs") -> float:
    """Wall seconds of the whole command, the best of some."""
    times = []
    for _ in range(ROUNDS):
        started = time.monotonic()
        done = subprocess.run(
            [*TENDON, "ls", kind, "--json", "--store-uri", uri], env=os.environ | env, capture_output=True, check=True
        )
        times.append(time.monotonic() - started)
        assert len(json.loads(done.stdout)["result"]["rows"]) == NUM_RUNS
    return min(times)


@functools.cache
def runs_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tendon-bench-runs-"))
    make_runs(folder)
    return folder


@row("bench", "store-ls-local", f"tendon ls over {NUM_RUNS} runs of a folder, seconds from start to end", "<= 1 s")
def ls_local() -> float:
    return best_listing_s(str(runs_folder()), {})


@row("bench", "store-ls-s3", f"tendon ls over {NUM_RUNS} runs on S3 that answers after 30 ms, seconds", "<= 3 s")
def ls_s3() -> float:
    with in_bucket(runs_folder()) as (uri, env):
        return best_listing_s(uri, env)


@row("bench", "store-ls-trials-s3", f"tendon ls trials over {NUM_RUNS} trainings on S3 (30 ms), seconds", "<= 6 s")
def ls_trials_s3() -> float:
    with in_bucket(runs_folder()) as (uri, env):
        return best_listing_s(uri, env, "trials")


# ------------------------------------------------------------------------------------------------------------- viewer


@functools.cache
def many_episodes(num_episodes: int = NUM_EPISODES) -> Path:
    """A store with a converted dataset that has a camera."""
    store = Path(tempfile.mkdtemp(prefix="tendon-bench-view-"))
    coded_dataset(str(store), Coded(num_episodes, length=11, size=24, codecs=("jpeg",), dim=9), "many")
    return store


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def opened(uri: str, env: dict[str, str]) -> tuple[float, float]:
    """Seconds from the command to the first episode with its numbers and a frame, and the MiB that the server has used."""
    started = time.monotonic()
    process = subprocess.Popen(
        [*TENDON, "view", uri, "--no-browser", "--quiet"], env=os.environ | env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        get(address)
        about = json.loads(get(f"{address}api/dataset"))
        episode = json.loads(get(f"{address}api/episode/0"))
        assert len(about["ids"]) == NUM_EPISODES
        assert episode["length"] == about["lengths"][0]
        assert get(f"{address}frame/0/{about['cameras'][0]['name']}/0.jpg")[:2] == b"\xff\xd8"
        seconds = time.monotonic() - started
        for number in range(0, NUM_EPISODES, NUM_EPISODES // 40):  # and a look around
            json.loads(get(f"{address}api/episode/{number}"))
            get(f"{address}frame/{number}/{about['cameras'][0]['name']}/5.jpg")
        get(f"{address}api/findings")
        status = Path(f"/proc/{process.pid}/status").read_text()
        return seconds, float(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
    finally:
        process.kill()
        process.wait()


@functools.cache
def seen_on_s3() -> tuple[float, float]:
    """The best time of some, and the largest memory."""
    store = many_episodes()
    (dataset,) = (store / "datasets" / "many").iterdir()
    with in_bucket(store) as (uri, env):
        found = [opened(f"{uri}/datasets/many/{dataset.name}", env) for _ in range(ROUNDS)]
    return min(seconds for seconds, _ in found), max(mib for _, mib in found)


@row(
    "bench",
    "view-open-s3",
    f"tendon view of {NUM_EPISODES:,} episodes on S3 (30 ms): seconds to the first episode",
    "<= 2 s",
)
def view_open_s3() -> float:
    return seen_on_s3()[0]


@row("bench", "view-memory-s3", "memory of that server after 40 episodes and the findings, MiB", "<= 286 MiB")
def view_memory_s3() -> float:
    return seen_on_s3()[1]


def forget() -> None:
    """Take the folders away."""
    for folder in (runs_folder(), many_episodes()):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    make_runs(Path(sys.argv[1]), int(sys.argv[2]))
