"""A training in two processes, launched as a user's is; each leaves its pid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.train.small_trial import make_config, make_stats, open_memory

FOLDER = "TENDON_TEST_PIDS"


def open_slow(*arguments: Any) -> Any:
    """``open_memory`` with batches that take 50 ms; called in every rank, which leaves its pid."""
    folder = Path(os.environ[FOLDER])
    (folder / f"rank-{os.environ['RANK']}").write_text(f"{os.getpid()} {os.getppid()}")
    feeds = open_memory(*arguments)
    feeds.train.before_batch = lambda k: time.sleep(0.05)
    return feeds


def pids(folder: Path, within_s: float = 120.0) -> list[int]:
    """Of both ranks and of torchrun, once both work."""
    deadline = time.monotonic() + within_s
    paths = [folder / "rank-0", folder / "rank-1"]
    while not all(path.exists() and path.read_text() for path in paths):
        assert time.monotonic() < deadline, "the ranks did not begin"
        time.sleep(0.05)
    return sorted({int(pid) for path in paths for pid in path.read_text().split()})


def launch(folder: Path, steps: int) -> subprocess.Popen[bytes]:
    """Such a training in a process of its own."""
    call = f"from tests.train.launched_ranks import main; main({str(folder)!r}, {steps})"
    return subprocess.Popen([sys.executable, "-c", call], start_new_session=True)


def main(folder: str, steps: int) -> None:
    """The launcher."""
    from tendon.errors import TendonError
    from tendon.train.loop.training import train

    os.environ[FOLDER] = folder
    config = make_config(num_gpus=2, offline_steps=steps)
    try:
        train(config, "memory", make_stats(), f"{folder}/trial", open_data=open_slow)
    except TendonError as error:
        raise SystemExit(error.exit_code) from None
