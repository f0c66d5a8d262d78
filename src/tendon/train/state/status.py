"""Is a trial's training done, and what came of it: status.json in its folder. No torch: what is done starts nothing.

``train`` writes it last; ``find_finished`` believes it only if the checkpoint it names is there, whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tendon.storage import join, open_store
from tendon.storage.json_values import read_note, to_json
from tendon.storage.trees import has_tree
from tendon.train.state.checkpoint import FOLDER, WEIGHTS, digests

STATUS = "status.json"


@dataclass(frozen=True)
class TrainResult:
    """What training leaves: the final checkpoint and the numbers for the leaderboard."""

    checkpoint_uri: str
    step: int
    metrics: Mapping[str, float]
    resumed_from: int  # the step this attempt began at; 0: from scratch
    weights_sha256: str
    device: str = ""
    num_processes: int = 1
    best: Mapping[str, str] = field(default_factory=dict)  # names of the checkpoints that are best in some way


def find_finished(trial_uri: str) -> TrainResult | None:
    """The result of a finished training, None when it is not finished or its checkpoint is gone."""
    store = open_store(trial_uri)
    status = read_note(store, STATUS)
    needed = ("checkpoint", "weights_sha256", "step", "metrics", "resumed_from")
    if any(
        name not in status for name in needed
    ):  # a damaged one is written again: training goes on from its last step
        return None
    tree = store.at(f"{FOLDER}/{status['checkpoint']}")
    if not has_tree(tree, "") or digests(tree).get(WEIGHTS) != status["weights_sha256"]:
        return None
    return TrainResult(
        checkpoint_uri=join(trial_uri, FOLDER, status["checkpoint"]),
        step=status["step"],
        metrics=status["metrics"],
        resumed_from=status["resumed_from"],
        weights_sha256=status["weights_sha256"],
        device=status.get("device", ""),
        num_processes=status.get("num_processes", 1),
        best=status.get("best", {}),
    )


def write_finished(trial_uri: str, result: TrainResult) -> None:
    """Commit the result; from now on ``find_finished`` answers with it."""
    status = {
        "status": "finished",
        "step": result.step,
        "checkpoint": result.checkpoint_uri.rsplit("/", 1)[-1],
        "weights_sha256": result.weights_sha256,
        "resumed_from": result.resumed_from,
        "device": result.device,
        "num_processes": result.num_processes,
        "best": dict(result.best),
        "metrics": dict(result.metrics),
    }
    open_store(trial_uri).write(STATUS, (to_json(status, indent=1) + "\n").encode())
