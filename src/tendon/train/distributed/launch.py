"""Several processes for one training: torchrun starts them, signals reach them, their first error is the error.

``training.num_gpus`` processes on this node; more nodes through the variables that a Kubeflow TrainJob sets for torchrun
(PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT). A process that torchrun has started does not launch again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tendon.config.compose import to_dict
from tendon.config.schema import TrainConfig
from tendon.data.stats import DatasetStats
from tendon.errors import ConfigError, DataError, Interrupted, MissingDependency, Problem, StorageError, TendonError
from tendon.train.distributed.interrupts import Interrupts
from tendon.train.distributed.ranks import is_rank
from tendon.train.distributed.roll_call import RollCall, all_nodes
from tendon.train.state.pause import find_result
from tendon.train.state.status import TrainResult

logger = logging.getLogger(__name__)
STOP_S = 100.0  # less than the grace of a node: a process that waits for a lost one saves nothing any more
JOB = "TENDON_TRAIN_JOB"  # the folder in which a process finds its job and leaves its pid and its error
ERRORS: dict[int, type[TendonError]] = {
    error.exit_code: error for error in (ConfigError, DataError, StorageError, MissingDependency, Interrupted)
}


def wants_ranks(config: TrainConfig) -> bool:
    """Whether this process must start others instead of training itself."""
    return not is_rank() and (config.training.num_gpus > 1 or int(os.environ.get("PET_NNODES", "1").split(":")[0]) > 1)


def launch(
    config: TrainConfig,
    dataset_uri: str,
    stats: DatasetStats,
    trial_uri: str,
    progress: Callable[[int, int], None],
    *,
    open_data: object,
    rollouts: object,
    open_play: object,
) -> TrainResult:
    """Train in processes of their own and wait for them; arguments and errors as ``loop.train``."""
    with (
        tempfile.TemporaryDirectory(prefix="tendon-ranks-") as folder,
        Interrupts() as signals,
        all_nodes(RollCall.of_environment(), lambda: signals.requested),
    ):
        job = {
            "config": to_dict(config),
            "dataset_uri": dataset_uri,
            "stats": stats.to_json(),
            "trial_uri": trial_uri,
            "open_data": _reference(open_data),
            "rollouts": _reference(rollouts) if rollouts is not None else "",
            "open_play": _reference(open_play) if open_play is not None else "",
        }
        Path(folder, "job.json").write_text(json.dumps(job))
        command = [
            sys.executable,
            "-m",
            "tendon.train.distributed.torchrun_process",
            str(os.getpid()),
            *_rendezvous(config),
            "-m",
            "tendon.train.distributed.rank_process",
        ]
        environment = os.environ | {JOB: folder, "OMP_NUM_THREADS": str(config.training.num_threads or 1)}
        process = subprocess.Popen(command, env=environment, start_new_session=True)  # Ctrl-C goes through us
        try:
            _watch(process, Path(folder), signals, lambda done: progress(done, config.training.num_steps))
        finally:
            if process.poll() is None:
                process.kill()
                _signal(Path(folder), signal.SIGKILL)
        finished = find_result(trial_uri) if process.returncode == 0 else None
        if finished is None:
            raise _error(Path(folder), process.returncode)
    progress(finished.step, finished.step)
    return finished


def _rendezvous(config: TrainConfig) -> list[str]:
    """Torchrun reads PET_* itself; alone on one node it needs nobody to meet."""
    own = [] if "PET_NPROC_PER_NODE" in os.environ else [f"--nproc-per-node={config.training.num_gpus}"]
    return own if "PET_NNODES" in os.environ else ["--standalone", *own]


def _watch(
    process: subprocess.Popen[bytes], folder: Path, signals: Interrupts, progress: Callable[[int], None]
) -> None:
    """Hand a signal to every process, once, and tell how far they are."""
    stop_by, told = 0.0, -1
    while process.poll() is None:
        if signals.requested and not stop_by:
            stop_by = time.monotonic() + STOP_S
            if not _signal(folder, signal.SIGTERM):
                raise _stopped(signals.requested, "no process had begun yet")
        if stop_by and time.monotonic() > stop_by and "PET_NNODES" in os.environ:
            raise _stopped(signals.requested, f"the processes did not end within {STOP_S:g} s")
        done = folder / "step"
        if done.exists() and (text := done.read_text()) and int(text) != told:
            told = int(text)
            progress(told)
        time.sleep(0.1)


def _signal(folder: Path, number: signal.Signals) -> int:
    """Send it to every process that has begun; how many there were."""
    count = 0
    for path in folder.glob("pid-*"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(path.read_text()), number)
            count += 1
    return count


def _stopped(name: str, why: str) -> Interrupted:
    return Interrupted(
        "training was interrupted",
        where="the processes of this node",
        why=f"{name} came; {why}",
        fix="run the same command again: it resumes",
    )


def leave(error: TendonError) -> None:
    """End this process at once with an error, for its launcher and whoever reads its standard error."""
    report(error)
    sys.stderr.write(f"{error}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)


def report(error: TendonError) -> None:
    """Leave the error where the launcher finds it."""
    if JOB in os.environ:
        facts = {"exit_code": error.exit_code, "at": time.time(), "problems": [asdict(p) for p in error.problems]}
        path = Path(os.environ[JOB], f"error-{os.environ.get('RANK', '0')}.json")
        path.with_suffix(".part").write_text(json.dumps(facts))
        path.with_suffix(".part").replace(path)


def _error(folder: Path, exit_code: int) -> TendonError:
    """The first error that a process reported; a signal's echo counts only when there is nothing else."""
    told: list[dict[str, Any]] = [json.loads(path.read_text()) for path in sorted(folder.glob("error-*.json"))]
    told.sort(key=lambda facts: (facts["exit_code"] == Interrupted.exit_code, facts["at"]))
    if told:
        kind = ERRORS.get(told[0]["exit_code"], TendonError)
        return kind.of([Problem(**problem) for problem in told[0]["problems"]])
    return Interrupted(
        "a process of the training died without a word",
        where=f"torchrun, exit code {exit_code}",
        why="its last lines are above; the kernel kills a process that takes too much memory (exit code -9)",
        fix="run the same command again: it resumes; give it more memory if it was that",
    )


def _reference(function: object) -> str:
    """``module:name`` of a function, so that another process can find it."""
    name = getattr(function, "__qualname__", "")
    if not name or "<" in name or "." in name:
        raise ConfigError(
            "several processes cannot be given this function",
            where="training.num_gpus",
            why=f"{function!r} is not a function at the top of a module",
            fix="pass a function of a module, or training.num_gpus=1",
        )
    return f"{getattr(function, '__module__', '')}:{name}"
