"""Trials for tests of attempts.py: each trains as its folder says, in a process of its own, and leaves a note of each try."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from tendon.config.schema import TrainConfig
from tendon.errors import DataError, Interrupted, MissingDependency, StorageError
from tendon.train.distributed.interrupts import Interrupts
from tendon.train.state.status import TrainResult


def finish(trial_uri: str) -> None:
    """What a finished training leaves."""
    from tendon.storage import open_store
    from tendon.storage.trees import put_tree
    from tendon.train.state.checkpoint import WEIGHTS, digests
    from tendon.train.state.status import write_finished

    folder = Path(trial_uri, "made")
    (folder / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(b"weights")
    put_tree(open_store(trial_uri), "checkpoints/000010", folder)
    sha256 = digests(open_store(f"{trial_uri}/checkpoints/000010"))[WEIGHTS]
    write_finished(trial_uri, TrainResult(f"{trial_uri}/checkpoints/000010", 10, {"loss": 0.5}, 0, sha256))


def train(*, config: TrainConfig, dataset_uri: str, trial_uri: str) -> Any:
    """``dataset_uri`` is what happens at each try: ``kill,kill,well``; the last word holds for all further ones."""
    tries = Path(trial_uri, "tries")
    tries.parent.mkdir(parents=True, exist_ok=True)
    with tries.open("a") as file:
        file.write(f"{os.getpid()}\n")
    words = dataset_uri.split(",")
    word = words[min(len(tries.read_text().splitlines()), len(words)) - 1]
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "silent":
        os._exit(9)
    elif word == "lie":
        os._exit(0)
    elif word == "import":
        import a_module_that_is_nowhere  # type: ignore[import-not-found]  # noqa: F401
    elif word == "hang":
        raise Interrupted("process 1 of the training hangs", where="rank 1", why="it waits", fix="again")
    elif word == "data":
        raise DataError("the loss is not a number", where="step 3", why="lr", fix="training.lr=0.001")
    elif word == "missing":
        raise MissingDependency("no torch", where="here", why="not installed", fix="install it")
    elif word == "store":
        raise StorageError("the store was away", where="s3", why="503", fix="again")
    elif word == "wait":
        _save_when_told(trial_uri)
    finish(trial_uri)


def _save_when_told(trial_uri: str) -> None:
    with Interrupts() as signals:
        Path(trial_uri, "waiting").touch()
        while not signals.requested:
            time.sleep(0.01)
    Path(trial_uri, "saved").write_text(str(time.time()))
    raise Interrupted("training was interrupted at step 3", where=trial_uri, why="SIGTERM came", fix="again")
