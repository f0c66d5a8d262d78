"""Recordings as files of every form that demonstrations come in; ``FORMS[form](recordings, folder)`` returns the address.

A form has no place for everything: ``LACKS`` says which kinds of defects it cannot hold, and why.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tendon.data.sources.episodes import EpisodesSource
from tendon.data.writers import write_dataset
from tests.benchmarks.planted.clean import DT, Recording

CHUNK = 32  # frames of an LMDB value
NO_TIMES = "it stores no timestamps: a step is a step"
LACKS: dict[str, dict[str, str]] = {
    "hdf5": {"wrong_fps": NO_TIMES, "timestamp_gap": NO_TIMES},
    "lerobot": {},
    "modality": {},
    "lmdb": {
        "wrong_fps": NO_TIMES,
        "timestamp_gap": NO_TIMES,
        "empty_text": "it stores no texts",
        "wrong_text": "it stores no texts",
        "swapped_cameras": "it has one camera",
        "train_valid_overlap": "it has no splits: they are made by conversion, which cannot overlap",
        "label_leak": "its numbers of the state have fixed names, and none is a copy of an action's",
    },
}
POSITION, ROTATION, JOINTS = (
    ("xpos", "ypos", "zpos"),
    ("pitch", "cursor_y", "yaw"),
    ("delta_yaw", "delta_pitch", "cursor_x"),
)


def hdf5(recordings: Sequence[Recording], folder: Path) -> str:
    """A robomimic file."""
    import h5py

    path = folder / "set.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 1 / DT}})
        for number, each in enumerate(recordings):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"], demo.attrs["ep_meta"] = each.length, json.dumps({"lang": each.task})
            demo["actions"] = each.action
            for key, values in (each.state | {f"{name}_image": frames for name, frames in each.frames.items()}).items():
                demo[f"obs/{key}"] = values
        for split in ("train", "valid"):
            members = [f"demo_{i}" for i, each in enumerate(recordings) if split in each.split.split()]
            if members:
                file[f"mask/{split}"] = np.array(members, "S")
    return str(path)


def lerobot(recordings: Sequence[Recording], folder: Path) -> str:
    """LeRobot v3.0, cameras as pictures in the table."""
    return _written(recordings, folder / "set", "lerobot-v3.0")


def modality(recordings: Sequence[Recording], folder: Path) -> str:
    """LeRobot v2.1 with modality.json, cameras as video."""
    return _written(recordings, folder / "set", "modality")


def _written(recordings: Sequence[Recording], root: Path, format: str) -> str:
    from tests.benchmarks.planted.measure import episode_of, schema_of

    write_dataset(
        EpisodesSource("planted", schema_of(recordings[0]), [episode_of(each) for each in recordings], "planted"),
        str(root),
        format,
    )
    in_valid = [i for i, each in enumerate(recordings) if "valid" in each.split.split()]
    if in_valid:  # LeRobot's splits are ranges
        path = root / "meta/info.json"
        info = json.loads(path.read_text())
        info["splits"] = {"train": f"0:{len(recordings)}", "valid": f"{in_valid[0]}:{in_valid[-1] + 1}"}
        path.write_text(json.dumps(info))
    return str(root)


def lmdb(recordings: Sequence[Recording], folder: Path) -> str:
    """MineStudio's LMDB: positions, rotations and three joints under the names that it has; whole chunks of 32 frames."""
    from tendon.data.video import encode_mp4

    root = folder / "set"
    grey = encode_mp4(np.full((CHUNK, 32, 32, 3), 128, np.uint8), 20, key_every=CHUNK)
    images: dict[str, list[bytes]] = {}
    actions: dict[str, list[bytes]] = {}
    states: dict[str, list[bytes]] = {}
    for each in recordings:
        numbers = dict(zip(POSITION, each.state["eef_pos"].T, strict=True))
        numbers |= dict(zip(ROTATION, each.state["eef_rot"].T, strict=True))
        numbers |= dict(zip(JOINTS, each.state["joint_pos"].T, strict=True))
        # the gripper's width stands where MineStudio counts slots: a float is read as one
        numbers["hotbar"] = each.state["gripper"][:, 0]
        starts = range(0, each.length // CHUNK * CHUNK, CHUNK)
        parts = {
            "use": (each.action[:, 6] > 0).astype(np.int64),
            "move": each.action[:, :3],
            "turn": each.action[:, 3:6],
        }
        actions[each.name] = [pickle.dumps({k: v[s : s + CHUNK] for k, v in parts.items()}) for s in starts]
        states[each.name] = [
            pickle.dumps([{key: float(values[t]) for key, values in numbers.items()} for t in range(s, s + CHUNK)])
            for s in starts
        ]
        shown = each.frames.get("front")
        images[each.name] = [
            grey if shown is None else encode_mp4(shown[s : s + CHUNK], 20, key_every=CHUNK) for s in starts
        ]
    for name, values in (("image", images), ("action", actions), ("meta_info", states)):
        _write_lmdb(root / name / "part-0", values)
    return str(root)


def _write_lmdb(folder: Path, episodes: dict[str, list[bytes]]) -> None:
    import lmdb as library

    folder.mkdir(parents=True)
    infos = [
        {"episode": name, "episode_idx": i, "num_frames": CHUNK * len(chunks)}
        for i, (name, chunks) in enumerate(episodes.items())
    ]
    environment = library.open(str(folder), map_size=1 << 30)
    with environment.begin(write=True) as transaction:
        for i, chunks in enumerate(episodes.values()):
            for k, chunk in enumerate(chunks):
                transaction.put(str((i, k * CHUNK)).encode(), chunk)
        total = sum(info["num_frames"] for info in infos)
        values = {"__chunk_size__": CHUNK, "__chunk_infos__": infos, "__num_episodes__": len(infos)}
        for key, value in (values | {"__num_total_frames__": total}).items():
            transaction.put(key.encode(), pickle.dumps(value))
    environment.close()


FORMS: dict[str, Callable[[Sequence[Recording], Path], str]] = {
    "hdf5": hdf5,
    "lerobot": lerobot,
    "lmdb": lmdb,
    "modality": modality,
}
