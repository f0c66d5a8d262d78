"""``make parity``: robomimic HDF5 and MineStudio LMDB beside robomimic 0.3.0 and MineStudio 1.1.6 themselves.

Every value counts what differs, so the bounds are 0; rows that count what was compared say that they compared something.
"""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.convert import ConversionOptions, convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.data.sources.minestudio import INTERACTION, TRACK_IDS, TRACK_INTERACTIONS
from tendon.data.writers import write_dataset
from tests.benchmarks import peers
from tests.benchmarks.rows import Skip, row
from tests.conftest import make_lift_like_hdf5

SEGMENTATION = (INTERACTION, TRACK_INTERACTIONS, TRACK_IDS)

EPISODES = 3

kept: list[Any] = []  # folders that live as long as this process


@lru_cache(maxsize=1)
def scratch() -> Path:
    """A folder that lives as long as this process."""
    kept.append(tempfile.TemporaryDirectory(prefix="tendon-parity-"))
    return Path(kept[-1].name)


def converted(path: Path, name: str, **options: Any) -> Dataset:
    """Our conversion of a source."""
    store, chosen = str(scratch() / "store"), ConversionOptions(**options)
    manifest = convert(open_source(str(path)), store, name, chosen)
    return open_dataset(dataset_uri(store, name, manifest.plan))


@lru_cache(maxsize=1)
def robomimic_file() -> tuple[Path, dict[str, Any], dict[str, np.ndarray]]:
    """A file with robomimic's own masks, what its SequenceDataset says of it, and the items of one step."""
    path, items = make_lift_like_hdf5(scratch() / "lift.hdf5", images=True, valid=0), scratch() / "items.npz"
    answer = peers.ask(peers.robomimic(), "robomimic_items.py", "--split", str(path), str(items))
    with np.load(items) as arrays:
        return path, answer, dict(arrays)


@row(
    "parity",
    "robomimic-convert",
    "low-dim values and frames that differ from what robomimic's SequenceDataset returns",
    "== 0",
)
def robomimic_convert() -> float:
    """Our exact conversion in its dtypes, the usual one in float32, beside every item of one step."""
    path, _, items = robomimic_file()
    wrong = 0
    for exact in (True, False):
        dataset = converted(path, "lift", exact=exact)
        rows = np.concatenate([dataset.lowdim(each) for each in dataset.rows])
        for feature in dataset.manifest.schema.columns:
            key = dataset.manifest.metadata["paths"][feature.key]
            theirs = items.get(key)
            if theirs is not None:
                wrong += int((rows[feature.key] != theirs.astype(feature.dtype)).sum())
        for camera in dataset.manifest.schema.cameras if exact else ():
            frames = np.concatenate([dataset.frames(each, camera.name) for each in dataset.rows])
            wrong += int((frames != items[dataset.manifest.metadata["paths"][camera.name]]).sum())
    return float(wrong)


@row(
    "parity",
    "robomimic-export",
    "arrays of SequenceDataset items over our file that differ from those over the source file",
    "== 0",
)
def robomimic_export() -> float:
    """robomimic -> shards -> robomimic, read by robomimic: windows of 1 and of 3 + 4 steps, masks train and valid, next_obs."""
    path, before, _ = robomimic_file()
    target = scratch() / "again.hdf5"
    if not target.exists():
        write_dataset(converted(path, "lift", exact=True), str(target), "robomimic")
    after = peers.ask(peers.robomimic(), "robomimic_items.py", str(target))
    assert before["items"] == after["items"] > 0
    assert before["digests"].keys() == after["digests"].keys()
    pairs = [(each, after["digests"][name]) for name, each in before["digests"].items()]
    return float(sum(one.get(key) != other.get(key) for one, other in pairs for key in one.keys() | other.keys()))


@lru_cache(maxsize=1)
def minestudio_folder() -> tuple[Path, dict[str, Any], Path]:
    """A dataset that MineStudio's own converters wrote, what its readers answer, and where they put what they read."""
    try:
        import lmdb  # noqa: F401
    except ImportError:
        raise Skip("lmdb is not installed: pip install 'tendon[minestudio]'") from None
    python, root = peers.minestudio(), scratch() / "minestudio"
    peers.ask(python, "minestudio_write.py", str(root), str(EPISODES))
    answer = peers.ask(python, "minestudio_read.py", str(root / "dataset"), str(root / "read"))
    return root / "dataset", answer, root / "read"


def read_by_peer(folder: Path, episode: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What MineStudio's readers returned for an episode."""
    with np.load(folder / f"{episode}.npz") as arrays:
        return dict(arrays), json.loads((folder / f"{episode}.json").read_text())


@row(
    "parity",
    "minestudio-convert",
    "values and frames that differ from what MineStudio 1.1.6 reads from its own dataset",
    "== 0",
)
def minestudio_convert() -> float:
    """Frames after our copy of the chunks, buttons, camera, meta information, what is aimed at."""
    path, answer, read = minestudio_folder()
    dataset = converted(path, "mine")
    assert [each.episode_id for each in dataset.rows] == sorted(answer["episodes"])
    names = dataset.manifest.metadata["minestudio"]["buttons"]
    wrong = 0
    for each in dataset.rows:
        arrays, rest = read_by_peer(read, each.episode_id)
        rows = dataset.lowdim(each)
        wrong += int((dataset.frames(each, "observation.images.image") != arrays["image"]).sum())
        wrong += int((rows["action.camera"] != arrays["action/camera"]).sum())
        wrong += sum(
            int((rows["action.buttons"][:, i] != arrays[f"action/{key}"]).sum()) for i, key in enumerate(names)
        )
        wrong += int((rows[INTERACTION] != arrays["segmentation/obj_id"]).sum())
        for feature in dataset.manifest.schema.columns:
            key = feature.key.removeprefix("observation.")
            if feature.key.startswith("observation.") and feature.key not in SEGMENTATION:
                wrong += int((rows[feature.key] != np.array(rest["meta_info"][key])).sum())
    return float(wrong)


@row(
    "parity",
    "minestudio-export",
    "arrays that MineStudio 1.1.6 reads differently from what we wrote than from its own dataset",
    "== 0",
)
def minestudio_export() -> float:
    """MineStudio -> shards -> MineStudio, read by MineStudio: frames, actions, masks, meta information, windows, events."""
    path, before, read = minestudio_folder()
    target, out = scratch() / "minestudio-again", scratch() / "minestudio-again-read"
    if not target.exists():
        write_dataset(converted(path, "mine"), str(target), "minestudio-v1.1")
    after = peers.ask(peers.minestudio(), "minestudio_read.py", str(target), str(out))
    assert before["events"], "the peer found no event in its own dataset"
    wrong = sum(before[key] != after[key] for key in ("episodes", "windows", "window_keys"))
    wrong += sorted(before["events"]) != sorted(after["events"])
    for episode in before["episodes"]:
        (one, rest), (other, other_rest) = read_by_peer(read, episode), read_by_peer(out, episode)
        assert one["segmentation/obj_mask"].any(), "no mask was compared"
        wrong += sum(one[key].dtype != other[key].dtype or not np.array_equal(one[key], other[key]) for key in one)
        wrong += rest != other_rest
    return float(wrong)
