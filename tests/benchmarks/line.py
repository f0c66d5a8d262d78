"""The command line as the long checks use it: in a folder of its own, timed from outside, killable.

``cpu_seconds`` counts all that was run so far. The kernel does not count what a command had forked from a server as a child of
the command, so ``run`` asks the command itself for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tendon.runs import measured

TENDON = [sys.executable, "-m", "tendon"]
COUNTED = """
import atexit, sys
from pathlib import Path
from tendon import fork_server
from tendon.cli import main
counted = Path(sys.argv.pop(1))
atexit.register(lambda: counted.write_text(str(fork_server.cpu_seconds())))
sys.exit(main(sys.argv[1:]))
"""
_forks = {"cpu_s": 0.0}
TRAIN = ["env=reach", "policy=bc", "policy.hidden_dims=[64,64]", "training.num_threads=1", "training.lr=1e-3"]


def run(*arguments: object, cwd: Path) -> tuple[str, float]:
    """Standard output of one command and its wall seconds; a failure is an error with what it printed."""
    started = time.monotonic()
    with tempfile.NamedTemporaryFile("w+") as forks:
        command = [sys.executable, "-c", COUNTED, forks.name, *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        _forks["cpu_s"] += float(forks.read() or 0)
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(
            f"tendon {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stderr[-3000:]}"
        )
    return done.stdout, seconds


def cpu_seconds() -> float:
    """CPU time of this process, of its children and forks that ended, and of what the children had forked."""
    return measured.cpu_seconds() + _forks["cpu_s"]


def run_and_kill(*arguments: object, cwd: Path, after_s: float) -> bool:
    """Start a command and SIGKILL its whole process group after some seconds; whether it was still running."""
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(
            [*TENDON, *map(str, arguments)], cwd=cwd, stdout=nowhere, stderr=nowhere, start_new_session=True
        )
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
    return False


def dataset(cwd: Path, episodes: int = 40) -> str:
    """A converted dataset of the built-in task; its URI."""
    store = cwd / "store"
    run("convert", "--source-uri", f"demo://reach?episodes={episodes}&seed=1", "--store-uri", store, cwd=cwd)
    return str(next((store / "datasets" / "demos").iterdir()))


def final_status(store: Path) -> dict[str, Any]:
    """status.json of the only trial in a store."""
    (status,) = store.glob("trials/*/status.json")
    found: dict[str, Any] = json.loads(status.read_text())
    return found
