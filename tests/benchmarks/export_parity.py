"""``make parity PEER=export``: exports of what is unusual, opened by the tools they are written for."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.data.writers import write_dataset
from tendon.data.writers.modality import VectorsAndVideos
from tests.benchmarks import peers
from tests.benchmarks.rows import Skip, row

SCRIPT = "lerobot_data.py"
_folders: list[tempfile.TemporaryDirectory[str]] = []


@cache
def exported(format: str) -> tuple[Path, Dataset]:
    """A set with a (T, 1) column, a matrix and two cameras of pictures, in a format."""
    import h5py

    from tests.conftest import make_lift_like_hdf5

    _folders.append(tempfile.TemporaryDirectory(prefix="tendon-export-"))
    root = Path(_folders[-1].name)
    path = make_lift_like_hdf5(root / "lift.hdf5", images=True, size=32)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            steps = len(demo["actions"])
            demo["obs/one"] = np.arange(steps, dtype=np.float32)[:, None]
            demo["obs/matrix"] = np.arange(9 * steps, dtype=np.float32).reshape(steps, 3, 3)
    manifest = convert(open_source(str(path)), str(root / "store"), "lift")
    dataset = open_dataset(dataset_uri(str(root / "store"), "lift", manifest.plan))
    write_dataset(dataset, str(root / "out"), format)
    return root / "out", dataset


@row(
    "parity",
    "export-lerobot-v3.0",
    "values that lerobot 0.4.4 reads differently of (T, 1) columns and matrices",
    "== 0",
)
def version_3() -> float:
    """Its reader refused a list of one value."""
    root, dataset = exported("lerobot-v3.0")
    out = root.parent / "read.npz"
    peers.ask(peers.lerobot(), SCRIPT, "read", str(root), str(out))
    with np.load(out) as told:
        wrong = abs(len(told["index"]) - dataset.manifest.steps)
        for name in ("observation.one", "observation.matrix", "action"):
            ours = np.concatenate([dataset.lowdim(each)[name] for each in dataset.rows])
            wrong += int((ours.reshape(told[name].shape) != told[name]).sum())
    return wrong


@row(
    "parity",
    "export-lerobot-v2.1",
    "columns of v2.1 with pictures that datasets, as lerobot 0.3 calls it, does not decode",
    "== 0",
)
def version_2() -> float:
    """Pictures were structs of bytes to it."""
    root, dataset = exported("lerobot-v2.1")
    answer = peers.ask(peers.lerobot(), SCRIPT, "table", str(root))
    kinds = answer["kinds"]
    pictures = [each.name for each in dataset.schema.cameras]
    wrong = sum("Image" not in kinds[name] for name in pictures) + (kinds["observation.one"] != "float")
    return wrong + (answer["rows"] != dataset.manifest.steps)


@cache
def with_texts_of_steps(format: str) -> tuple[Path, list[str], list[str]]:
    """A set whose column of texts changes from step to step, in a format; the texts and the order of the source's features."""
    import pyarrow as pa

    from tests.data import lerobot_sets
    from tests.data.test_exports import with_texts

    _folders.append(tempfile.TemporaryDirectory(prefix="tendon-export-"))
    root = Path(_folders[-1].name)
    origin = lerobot_sets.make(root / "set", "v3.0", video=False)
    texts = with_texts(origin, pa.string())
    manifest = convert(open_source(str(origin)), str(root / "store"), "texts")
    dataset = open_dataset(dataset_uri(str(root / "store"), "texts", manifest.plan))
    write_dataset(dataset, str(root / "out"), format)
    return root / "out", texts, list(json.loads((origin / "meta/info.json").read_text())["features"])


@row(
    "parity",
    "export-texts-v3.0",
    "texts of steps that lerobot 0.4.4 reads differently, and features that it lists in another order than the source",
    "== 0",
)
def texts_3() -> float:
    """A column of strings between columns of numbers."""
    root, texts, order = with_texts_of_steps("lerobot-v3.0")
    out = root.parent / "read.npz"
    answer = peers.ask(peers.lerobot(), SCRIPT, "read", str(root), str(out))
    with np.load(out) as told:
        wrong = sum(ours != theirs for ours, theirs in zip(texts, told["note"].tolist(), strict=True))
    return wrong + (answer["features"] != order)


@row(
    "parity",
    "export-texts-v2.1",
    "texts of steps that datasets, as lerobot 0.3 calls it, reads differently from v2.1",
    "== 0",
)
def texts_2() -> float:
    """The same by the reader of tables."""
    root, texts, _ = with_texts_of_steps("lerobot-v2.1")
    told = peers.ask(peers.lerobot(), SCRIPT, "table", str(root))["texts"]["note"]
    return sum(ours != theirs for ours, theirs in zip(texts, told, strict=True))


@row(
    "parity",
    "export-minestudio-1.0",
    "frames of MineStudio 1.0, written as 1.1, whose target MineStudio 1.1.6 reads otherwise",
    "== 0",
)
def segments_of_1_0() -> float:
    """Segments of 1.0 are numbers and masks; 1.1 reads interactions with events and ranges."""
    try:
        from tests.data.test_minestudio import EPISODES, close_all, make_folder
    except BaseException as error:  # pytest's skip is no Exception
        raise Skip(f"lmdb is not installed: {error}") from None
    _folders.append(tempfile.TemporaryDirectory(prefix="tendon-export-"))
    root = Path(_folders[-1].name)
    make_folder(root / "mine", "1.0")
    close_all()
    manifest = convert(open_source(str(root / "mine")), str(root / "store"), "mine")
    dataset = open_dataset(dataset_uri(str(root / "store"), "mine", manifest.plan))
    write_dataset(dataset, str(root / "out"), "minestudio-v1.1")
    answer = peers.ask(peers.minestudio(), "minestudio_read.py", str(root / "out"), str(root / "read"))
    wrong = abs(len(answer["episodes"]) - len(EPISODES))
    for name in answer["episodes"]:
        with np.load(root / "read" / f"{name}.npz") as told:
            drawn = told["segmentation/obj_mask"].reshape(len(told["image"]), -1).any(1)
            wrong += int((told["segmentation/obj_id"] != 2).sum()) + int((~drawn).sum())
    return wrong


def through_groot(root: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What GR00T's own loader says of a folder, and every step of it."""
    python, checkout = peers.groot()
    out = root.parent / "read.npz"
    answer = peers.ask(python, "groot_read.py", str(checkout), str(root), str(out))
    with np.load(out) as told:
        return answer, dict(told)


def differences(answer: dict[str, Any], told: dict[str, np.ndarray], dataset: Dataset, names: dict[str, str]) -> int:
    """Values of every step, texts and statistics that are not ours; ``names``: the feature of each key of GR00T's."""
    wrong = abs(answer["episodes"] - len(dataset.rows))
    wrong += len({key.partition("/")[2] for key in told} ^ names.keys())
    for episode in dataset.rows:
        for key, name in names.items():
            theirs = told[f"{episode.index}/{key}"]
            if key.startswith("video."):
                ours = dataset.frames(episode, name)
            else:
                ours = np.ascontiguousarray(dataset.lowdim(episode)[name]).reshape(episode.length, -1)
            wrong += int(
                (theirs.reshape(len(theirs), -1) != ours.reshape(episode.length, -1).astype(theirs.dtype)).sum()
            )
    for entry in answer["statistics"].values():
        for kind, computed in entry["computed"].items():
            wrong += int((~np.isclose(entry["read"][kind], computed, rtol=1e-4, atol=1e-5)).sum())
    return wrong


@row(
    "parity",
    "export-modality-groot",
    "values, texts and statistics of a modality export that GR00T N1.7's loader of episodes reads otherwise",
    "== 0",
)
def modality() -> float:
    """A number, a matrix and vectors; cameras that were pictures are compared as they are in the videos."""
    root, dataset = exported("modality")
    answer, told = through_groot(root)
    names = {
        f"state.{key.removeprefix('observation.')}": key
        for key in dataset.schema.dims
        if key.startswith("observation.")
    }
    names |= {"action.action": "action"}
    names |= {f"video.{each.name.rpartition('.')[2]}": each.name for each in dataset.schema.cameras}
    plain = cast("Dataset", VectorsAndVideos(dataset))
    wrong = differences(answer, told, plain, names)
    tasks = [each.task for each in dataset.rows for _ in range(each.length)]
    return wrong + sum(ours != theirs for ours, theirs in zip(tasks, *answer["texts"].values(), strict=True))


@row(
    "parity",
    "export-kept-modality-groot",
    "values and texts of a LeRobot v2.1 export that kept its source's modality.json which GR00T N1.7 reads otherwise",
    "== 0",
)
def kept_modality() -> float:
    """Ranges of vectors, video as it was, two annotations of which one changes from step to step."""
    from tests.data import lerobot_sets
    from tests.data.test_modality import TEXT, with_columns, write_modality

    _folders.append(tempfile.TemporaryDirectory(prefix="tendon-export-"))
    root = Path(_folders[-1].name)
    origin = lerobot_sets.make(root / "set", "v2.1")
    with_columns(origin, {"annotation.human.action.task_description": ("int64", [])})
    parts = {"state": {"tip": (2, 3), "pose": (0, 2)}, "action": {"grip": (1, 2), "arm": (0, 1)}}
    entries: dict[str, Any] = {
        kind: {key: {"start": begin, "end": end} for key, (begin, end) in each.items()} for kind, each in parts.items()
    }
    task = {"human.task": {"original_key": "task_index"}}
    write_modality(
        origin, entries | {"video": {"ego": {"original_key": lerobot_sets.CAMERA}}, "annotation": {**task, **TEXT}}
    )
    manifest = convert(open_source(str(origin), "lerobot"), str(root / "store"), "kept")
    dataset = open_dataset(dataset_uri(str(root / "store"), "kept", manifest.plan))
    write_dataset(dataset, str(root / "out"), "lerobot-v2.1")
    answer, told = through_groot(root / "out")
    columns = {"state": "observation.state", "action": "action"}
    wrong = differences(answer, {}, dataset, {})
    for episode in dataset.rows:
        for kind, each in parts.items():
            for key, (begin, end) in each.items():
                ours = dataset.lowdim(episode)[columns[kind]][:, begin:end]
                wrong += int((told[f"{episode.index}/{kind}.{key}"] != ours.astype(np.float32)).sum())
        wrong += int((told[f"{episode.index}/video.ego"] != dataset.frames(episode, lerobot_sets.CAMERA)).sum())
    for name, texts in (
        ("human.task", [each.task for each in dataset.rows for _ in range(each.length)]),
        ("human.action.task_description", ["task 1"] * dataset.manifest.steps),
    ):
        wrong += sum(one != other for one, other in zip(texts, answer["texts"][name], strict=True))
    return wrong
