"""``python -m tendon.train.distributed.node_process MODULE:FUNCTION --run-uri URI --trial NAME``: one node of a TrainJob.

It is the first process of its container, which ignores SIGTERM until somebody handles it: that is the first thing done here,
before anything heavy is imported. What ended it is left where the waiting step finds it: the exit code, and the four lines as
the termination message of the container.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

STOPPED = 75
MESSAGE = "TENDON_TERMINATION_LOG"
MOST_BYTES = 4000  # Kubernetes keeps 4096
TOLD_TO_STOP = (
    "error: the node was told to stop\nwhere: before its training began\nwhy:   SIGTERM came; nothing was there to be saved\n"
    "fix:   run the same command again: it resumes\n"
)


def _leave(number: int, frame: object) -> None:
    """Nothing is there to be saved until the launcher puts its own handler here."""
    leave_message(TOLD_TO_STOP)
    os.write(2, TOLD_TO_STOP.encode())
    os._exit(STOPPED)


def leave_message(text: str) -> None:
    """The termination message of this container; nothing where there is no file for it."""
    path = Path(os.environ.get(MESSAGE, "/dev/termination-log"))
    if path.exists():
        try:
            path.write_bytes(text.encode()[-MOST_BYTES:])
        except OSError as error:
            os.write(2, f"no termination message: {error}\n".encode())


def main(words: list[str]) -> int:
    """Train as this node; the exit code."""
    import argparse
    import importlib

    parser = argparse.ArgumentParser(prog="node_process", description="One node of a TrainJob.")
    parser.add_argument("function", help="what trains, given run_uri and trial")
    parser.add_argument("--run-uri", required=True, help="the run that plan made")
    parser.add_argument("--trial", required=True, help="the trial of it")
    parser.add_argument("--trust", action="append", default=[], help="sha256 of a Python file that may run")
    arguments = parser.parse_args(words)

    from tendon import logs, trust
    from tendon.errors import TendonError, unexpected

    logs.setup("train")
    try:
        trust.allow(arguments.trust)
        module, _, name = arguments.function.partition(":")
        getattr(importlib.import_module(module), name)(run_uri=arguments.run_uri, trial=arguments.trial)
    except TendonError as error:
        return _ended(error)
    except Exception as error:
        return _ended(TendonError.of([unexpected("train", error)]))
    return 0


def _ended(error: Exception) -> int:
    leave_message(f"{error}\n")
    sys.stderr.write(f"{error}\n")
    return int(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, _leave)
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything is committed; a thread of a library must not keep the pod
