"""``make parity PEER=export``: exports of what is unusual, opened by the tools they are written for."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.data.writers import write_dataset
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
