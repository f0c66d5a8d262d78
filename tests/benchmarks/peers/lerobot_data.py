"""Runs inside the environment of lerobot 0.4.4: makes datasets with it, reads datasets with it, upgrades v2.1 to v3.0.

    make FOLDER video|h264|large|images|lowdim [LENGTH ...] write a dataset of made-up demonstrations
    read FOLDER OUT.npz                               every item of a dataset as LeRobot's own reader gives it
    decode OUT.npz VIDEO ...                          every frame of mp4 files as LeRobot's decoder gives them
    upgrade PARENT NAME                               LeRobot's converter of v2.1 datasets, in place
    table FOLDER                                      the tables of v2.1 as lerobot 0.3 opens them
    golden FOLDER                                     what tests/golden/lerobot holds: small datasets, and how they read

The last line printed is a JSON answer.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HOME", "/nonexistent")
os.environ.setdefault("SVT_LOG", "1")

import numpy as np

SIZES = {"images": (48, 64), "large": (480, 640)}  # of a picture in a table: raw frames may have 64 pixels
SIZE = (64, 96)
FPS = 10
LENGTHS = (40, 57, 33, 8, 61)
TASKS = ("push the block", "lift it")


def features(kind: str) -> dict:
    image = {"dtype": "image" if kind == "images" else "video", "shape": (*SIZES.get(kind, SIZE), 3)}
    image["names"] = ["height", "width", "channels"]
    found = {
        "observation.state": {"dtype": "float32", "shape": (4,), "names": ["a", "b", "c", "d"]},
        "observation.grid": {"dtype": "float64", "shape": (2, 3), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        "gripper": {"dtype": "int64", "shape": (3,), "names": None},
    }
    if kind != "lowdim":
        found |= {"observation.images.Top": image, "observation.images.wrist": dict(image)}
    return found


def picture(episode: int, step: int, camera: int, size: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    wave = [np.sin((x + 3 * step) / 9 + episode), np.cos(y / 7 + camera), np.sin((x + y) / 15 + step / 5)]
    noise = np.random.default_rng([episode, step, camera]).normal(0, 4, (*size, 3))
    return np.clip(np.stack(wave, -1) * 100 + 120 + noise, 0, 255).astype(np.uint8)


def make(folder: str, kind: str, *lengths: int) -> dict:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    kwargs = {"vcodec": "h264"} if kind == "h264" else {}
    dataset = LeRobotDataset.create(
        "any/name",
        fps=FPS,
        features=features(kind),
        root=folder,
        use_videos=kind in ("video", "h264", "large"),
        **kwargs,
    )
    for episode, length in enumerate(lengths or LENGTHS):
        rng = np.random.default_rng(episode)
        state = np.cumsum(rng.normal(0, 0.1, (length, 4)), 0).astype(np.float32)
        for step in range(length):
            frame = {
                "observation.state": state[step],
                "observation.grid": rng.normal(size=(2, 3)),
                "action": np.tanh(rng.normal(size=2)).astype(np.float32),
                "next.reward": np.array([step / length], np.float32),
                "next.success": np.array([step == length - 1 and episode % 2 == 0]),
                "gripper": rng.integers(0, 9, 3),
                "task": TASKS[episode % 2],
            }
            if kind != "lowdim":
                frame["observation.images.Top"] = picture(episode, step, 0, SIZES.get(kind, SIZE))
                frame["observation.images.wrist"] = picture(episode, step, 1, SIZES.get(kind, SIZE))
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()
    import lerobot

    return {"episodes": episode + 1, "version": lerobot.__version__}


def read(folder: str, out: str) -> dict:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("any/name", root=folder)
    columns: dict[str, list] = {}
    for i in range(len(dataset)):
        for key, value in dataset[i].items():
            if key in dataset.meta.camera_keys:
                value = np.rint(value.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
            columns.setdefault(key, []).append(np.asarray(value))
    np.savez(out, **{key: np.stack(values) for key, values in columns.items()})
    stats = {
        key: {name: np.asarray(value).tolist() for name, value in each.items()}
        for key, each in dataset.meta.stats.items()
    }
    return {
        "frames": len(dataset),
        "episodes": dataset.num_episodes,
        "stats": stats,
        "features": list(dataset.features),
    }


def decode(out: str, *videos: str) -> dict:
    from torchcodec.decoders import VideoDecoder

    found = {}
    for i, path in enumerate(videos):
        decoder = VideoDecoder(path, seek_mode="approximate")  # as lerobot opens it
        frames = decoder.get_frames_at(list(range(decoder.metadata.num_frames))).data
        found[str(i)] = frames.permute(0, 2, 3, 1).numpy()
    np.savez(out, **found)
    return {"videos": len(videos)}


def upgrade(parent: str, name: str) -> dict:
    from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset

    convert_dataset(repo_id=name, root=parent, push_to_hub=False)
    return {"folders": sorted(path.name for path in Path(parent).iterdir())}


def golden(folder: str) -> dict:
    """KIND.tar.xz: a dataset in ``data/`` and in ``read.npz`` how it reads, of each camera the first frame."""
    import tarfile
    import tempfile

    answer: dict = {}
    for kind, lengths in (("video", (9, 12)), ("images", (3, 2))):
        with tempfile.TemporaryDirectory() as scratch:
            root, columns = Path(scratch) / "data", Path(scratch) / "read.npz"
            answer = make(str(root), kind, *lengths)
            read(str(root), str(columns))
            with np.load(columns) as found:
                values = {key: each[:1] if each.ndim == 4 else each for key, each in found.items()}
            np.savez_compressed(columns, version=answer["version"], **values)
            with tarfile.open(Path(folder) / f"{kind}.tar.xz", "w:xz") as tar:
                for path in sorted(Path(scratch).rglob("*")):
                    if path.is_file():
                        tar.add(path, path.relative_to(scratch))
    return answer


def table(folder: str) -> dict:
    """A dataset's files as lerobot 0.3 opens them: by ``datasets`` alone; every kind of value of the first row."""
    from datasets import load_dataset

    loaded = load_dataset("parquet", data_dir=f"{folder}/data", split="train")
    kinds = {name: type(value).__name__ for name, value in loaded[0].items()}
    texts = {name: loaded[name][:] for name, kind in kinds.items() if kind == "str"}
    return {"rows": len(loaded), "kinds": kinds, "texts": texts}


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    arguments = [int(each) if verb == "make" and each.isdigit() else each for each in rest]
    verbs = {"make": make, "read": read, "decode": decode, "upgrade": upgrade, "golden": golden, "table": table}
    print(json.dumps(verbs[verb](*arguments)))
