"""A GenManip-like dataset: three cameras, a state of six parts, an action whose gripper comes first; some tasks without a text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.lerobot_sets import CAMERA, make

STATE = {"joints": 7, "gripper": 2, "joints_vel": 7, "gripper_vel": 2, "ee_pos": 3, "ee_rot": 3}
ACTION = {"delta_ee_pos": 3, "delta_ee_rot": 3, "gripper": 1}  # as stored; genmanip_v1 puts the gripper first
VIEWS = ("ego_view", "base_view", "base_2_view")
LENGTHS = (18, 25, 11)
CLOSES = 7  # the step from which on the gripper is closed


def genmanip_demo(
    folder: Path, *, texts: tuple[str, str] = ("put the cup away", "close the lid"), seed: int = 0
) -> Path:
    """Episodes 0 and 2 have the first text, episode 1 the second."""
    path = make(folder, "v2.1")
    info = json.loads((path / "meta/info.json").read_text())
    for episode, file in enumerate(sorted(path.glob("data/**/*.parquet"))):
        table = pq.read_table(file)
        rng = np.random.default_rng([seed, episode])
        state = rng.normal(size=(len(table), sum(STATE.values())))
        state[:, 7:9] = state[:, 16:18] = np.arange(len(table))[:, None] >= CLOSES
        moves = rng.normal(size=(len(table), sum(ACTION.values())))
        moves[:, 6] = np.arange(len(table)) >= CLOSES
        for name, values in (("observation.robot", state), ("moves", moves)):
            table = table.append_column(name, pa.array(values.astype(np.float32).tolist()))
            info["features"][name] = {"dtype": "float32", "shape": [values.shape[1]], "names": None}
        pq.write_table(table, file)
    info["splits"] = {"train": "0:3"}
    (path / "meta/info.json").write_text(json.dumps(info))
    lines = [json.dumps({"task_index": i, "task": text}) for i, text in enumerate(texts)]
    (path / "meta/tasks.jsonl").write_text("\n".join(lines) + "\n")
    rows = [{"episode_index": e, "tasks": [texts[e % 2]], "length": n} for e, n in enumerate(LENGTHS)]
    (path / "meta/episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    modality = {
        "state": _entries(STATE, "observation.robot"),
        "action": {key: {**entry, "absolute": key == "gripper"} for key, entry in _entries(ACTION, "moves").items()},
        "video": {view: {"original_key": CAMERA} for view in VIEWS},
        "annotation": {"human.action.task_description": {"original_key": "task_index"}},
    }
    (path / "meta/modality.json").write_text(json.dumps(modality))
    return path


def _entries(parts: dict[str, int], column: str) -> dict[str, dict[str, object]]:
    made, at = {}, 0
    for key, width in parts.items():
        made[key] = {"start": at, "end": at + width, "original_key": column}
        at += width
    return made
