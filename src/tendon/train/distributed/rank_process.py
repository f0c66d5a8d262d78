"""``python -m tendon.train.distributed.rank_process``: one process of several, started by torchrun, told by launch.py what to do."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from tendon import logs
from tendon.config.compose import from_dict
from tendon.data.stats import DatasetStats
from tendon.errors import TendonError, unexpected
from tendon.fork_server import stop_with_parent
from tendon.train.distributed.launch import JOB, report
from tendon.train.distributed.torchrun_process import AGENT
from tendon.train.distributed.trial_process import STOPPED


def main() -> int:
    """Train as this rank; the exit code."""
    if AGENT in os.environ and not stop_with_parent(int(os.environ[AGENT])):
        os._exit(STOPPED)
    folder, rank = Path(os.environ[JOB]), int(os.environ["RANK"])
    Path(folder, f"pid-{rank}").write_text(str(os.getpid()))
    logs.setup("train", quiet=rank > 0)
    job = json.loads(Path(folder, "job.json").read_text())

    def progress(done: int, total: int) -> None:
        if rank == 0:
            Path(folder, "step").write_text(str(done))

    try:
        from tendon.train.loop.training import train

        train(
            from_dict(job["config"]),
            job["dataset_uri"],
            DatasetStats.from_json(job["stats"]),
            job["trial_uri"],
            progress,
            open_data=_found(job["open_data"]),
            rollouts=_found(job["rollouts"]) if job["rollouts"] else None,
            open_play=_found(job["open_play"]) if job["open_play"] else None,
        )
    except TendonError as error:
        report(error)
        return error.exit_code
    except Exception as error:
        logging.getLogger(__name__).exception("rank %d failed", rank)
        report(TendonError.of([unexpected(f"rank {rank} of train", error)]))
        return 1
    return 0


def _found(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything is committed; torch's own end may wait for ever for a process that is gone
