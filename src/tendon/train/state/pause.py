"""Training that pauses at a step: a rung of successive halving. What is trained is what an unpaused training is, bit for bit.

The step is handed to the processes of this training by the environment, since no number depends on it: a trial that is
paused by one sweep may be trained to its end by another at the same time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tendon.storage import join, open_store
from tendon.storage.trees import has_tree
from tendon.train.state.checkpoint import FOLDER, WEIGHTS, digests
from tendon.train.state.status import TrainResult, find_finished

VARIABLE = "TENDON_PAUSE_AT_STEP"
MARK = "paused.json"


@contextmanager
def pausing_at(step: int) -> Iterator[None]:
    """Within: a training ends at this step, its state saved; 0: at its last."""
    before = os.environ.pop(VARIABLE, None)
    if step:
        os.environ[VARIABLE] = str(step)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def environment(pause_at: int) -> dict[str, str]:
    """What the process of a training is started with; several in one step may pause at steps of their own."""
    others = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return others | ({VARIABLE: str(pause_at)} if pause_at else {})


def last_step(num_steps: int) -> int:
    """The step at which this training ends."""
    return min(num_steps, int(os.environ.get(VARIABLE, "0")) or num_steps)


def write_paused(trial_uri: str, result: TrainResult) -> None:
    """Say that the training paused, and where."""
    mark = {
        "step": result.step,
        "checkpoint": result.checkpoint_uri.rsplit("/", 1)[-1],
        "metrics": dict(result.metrics),
    }
    open_store(trial_uri).write(MARK, (json.dumps(mark, indent=1) + "\n").encode())


def find_result(trial_uri: str, pause_at: int | None = None) -> TrainResult | None:
    """What this training was to reach: the end, or the step at which it was to pause; None when it did not.

    ``pause_at``: 0 is the end; when left out, what this process was started with.
    """
    finished = find_finished(trial_uri)
    wanted = int(os.environ.get(VARIABLE, "0")) if pause_at is None else pause_at
    if finished is not None or not wanted:
        return finished
    store = open_store(trial_uri)
    if store.head(MARK) is None:
        return None
    mark: Mapping[str, object] = json.loads(store.read(MARK))
    tree = store.at(f"{FOLDER}/{mark['checkpoint']}")
    if int(str(mark["step"])) < wanted or not has_tree(tree, ""):
        return None
    uri = join(trial_uri, FOLDER, str(mark["checkpoint"]))
    return TrainResult(uri, int(str(mark["step"])), mark["metrics"], 0, digests(tree)[WEIGHTS])  # type: ignore[arg-type]
