"""``make parity PEER=export``: exports of what is unusual, opened by the tools they are written for."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.data.writers import write_dataset
from tests.benchmarks import peers
from tests.benchmarks.rows import row

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
