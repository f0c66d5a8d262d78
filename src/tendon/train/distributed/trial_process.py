"""``python -m tendon.train.distributed.trial_process FOLDER``: the process in which a trial is trained, started by attempts.py.

In: ``job.json`` in the folder. Out: an exit code, and ``error.json`` when it is not 0. Nothing heavy is imported before
the process can be told to stop.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon.fork_server import stop_with_parent

if TYPE_CHECKING:
    from tendon.errors import TendonError

STOPPED = 75


def main(folder: Path) -> int:
    """Train what the job says; the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # nothing is there to be saved until the loop puts its own handler here
    job = json.loads((folder / "job.json").read_text())
    if not stop_with_parent(job["parent"]):  # no training outlives the step that waits for it
        return STOPPED

    from tendon import logs
    from tendon.errors import TendonError, with_a_name

    logs.setup("train")
    try:
        from tendon.config.compose import from_dict

        train = _found(job["train"])
        train(config=from_dict(job["config"]), dataset_uri=job["dataset_uri"], trial_uri=job["trial_uri"])
    except TendonError as error:
        return _report(folder, error)
    except Exception as error:
        return _report(folder, with_a_name("train", error))
    return 0


def _leave(number: int, frame: object) -> None:
    os._exit(STOPPED)


def _report(folder: Path, error: TendonError) -> int:
    facts = {"exit_code": error.exit_code, "problems": [asdict(problem) for problem in error.problems]}
    (folder / "error.part").write_text(json.dumps(facts))
    (folder / "error.part").replace(folder / "error.json")
    return error.exit_code


def _found(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything is committed; a thread of a library must not keep a finished trial from ending
