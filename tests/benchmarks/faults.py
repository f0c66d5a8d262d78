"""``make faults``: what is killed, cut or refused, and whether the result is still exactly right."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.benchmarks import line
from tests.benchmarks.rows import row

KILLS = 10


@row(
    "faults",
    "train-sigkill",
    f"share of {KILLS} trainings, each killed at a random moment, that end with the same weights",
    "== 1",
)
def train_sigkill() -> float:
    """Bit-equal resume after SIGKILL."""
    moments = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        train = [
            "train",
            *line.TRAIN,
            f"data.uri={line.dataset(cwd)}",
            "training.offline_steps=3000",
            "training.save_freq=250",
        ]
        _, seconds = line.run(*train, "--store-uri", cwd / "whole", cwd=cwd)
        expected = line.final_status(cwd / "whole")["weights_sha256"]
        command = [*train, "--store-uri", cwd / "killed"]
        equal = killed = 0
        while killed < KILLS:
            if line.run_and_kill(*command, cwd=cwd, after_s=moments.uniform(0.3, 0.95) * seconds):
                killed += 1
                line.run(*command, cwd=cwd)
                equal += line.final_status(cwd / "killed")["weights_sha256"] == expected
            shutil.rmtree(cwd / "killed")
        return equal / killed


@row(
    "faults",
    "convert-sigkill",
    f"share of {KILLS} conversions, killed at a random moment, that end with the same digest",
    "== 1",
)
def convert_sigkill() -> float:
    """Bit-equal conversion after SIGKILL, and nothing finished before its end."""
    moments = random.Random(11)
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        line.run("demo-data", "env=reach", "--episodes", 400, "-o", "r.hdf5", cwd=cwd)
        convert = ["convert", "--source-uri", "r.hdf5", "--store-uri"]
        _, seconds = line.run(*convert, "whole", cwd=cwd)
        (expected,) = (cwd / "whole").glob("datasets/demos/*/manifest.json")
        equal = killed = 0
        while killed < KILLS:
            if line.run_and_kill(*convert, "again", cwd=cwd, after_s=moments.uniform(0.2, 0.95) * seconds):
                killed += 1
                line.run(*convert, "again", cwd=cwd)
                (manifest,) = (cwd / "again").glob("datasets/demos/*/manifest.json")
                equal += manifest.read_bytes() == expected.read_bytes()
            shutil.rmtree(cwd / "again")
        return equal / killed


@row(
    "faults",
    "checkpoint-cut",
    "share of checkpoints, cut at a random byte of a random file, that are not taken for one",
    "== 1",
)
def checkpoint_cut() -> float:
    """A cut checkpoint is passed over, the one before is used, and the result is the same."""
    chosen = random.Random(13)
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        train = [
            "train",
            *line.TRAIN,
            f"data.uri={line.dataset(cwd)}",
            "training.save_freq=100",
            "training.keep_checkpoints=5",
        ]
        _, _ = line.run(*train, "training.offline_steps=300", "--store-uri", cwd / "whole", cwd=cwd)
        expected = line.final_status(cwd / "whole")["weights_sha256"]
        right = 0
        for _ in range(KILLS):
            shutil.rmtree(cwd / "cut", ignore_errors=True)
            shutil.copytree(cwd / "whole", cwd / "cut")
            (trial,) = (cwd / "cut" / "trials").iterdir()
            (trial / "status.json").unlink()
            files = sorted(
                path for path in (trial / "checkpoints" / "000300").rglob("*") if path.is_file() and path.stat().st_size
            )
            victim = chosen.choice(files)
            victim.write_bytes(victim.read_bytes()[: chosen.randrange(victim.stat().st_size)])
            line.run(*train, "training.offline_steps=300", "--store-uri", cwd / "cut", cwd=cwd)
            status = line.final_status(cwd / "cut")
            right += status["weights_sha256"] == expected and status["resumed_from"] < 300
        return right / KILLS


@row("faults", "store-unreachable", "seconds until an unreachable S3 endpoint is reported", "<= 20 s")
def store_unreachable() -> float:
    """An endpoint that does not answer is an error with four lines, not a hang."""
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        line.run("demo-data", "env=reach", "--episodes", 2, "-o", "r.hdf5", cwd=cwd)
        started = time.monotonic()
        environment = [
            "env",
            "AWS_ENDPOINT_URL=http://127.0.0.1:9",
            "AWS_ACCESS_KEY_ID=a",
            "AWS_SECRET_ACCESS_KEY=b",
            "AWS_REGION=us-east-1",
        ]
        done = subprocess.run(
            [*environment, *line.TENDON, "convert", "--source-uri", "r.hdf5", "--store-uri", "s3://bucket/x"],
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 4, done.stderr
        return time.monotonic() - started
