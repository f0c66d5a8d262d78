"""``make parity`` of the loader: the windows of other readers, by the same arithmetic, on the same data."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.loader import Loader
from tendon.loader.window_presets import lerobot_windows, robomimic_windows
from tests.benchmarks import peers
from tests.benchmarks.rows import row
from tests.conftest import make_lift_like_hdf5


def _converted(source: Path, folder: str) -> Dataset:
    manifest = convert(open_source(str(source)), f"{folder}/store", "windows")
    return open_dataset(dataset_uri(f"{folder}/store", "windows", manifest.plan))


@row(
    "parity",
    "robomimic-windows",
    "largest difference of windows and masks to SequenceDataset's, 36 rules (inf: another number of windows)",
    "== 0",
)
def robomimic_windows_equal() -> float:
    """Every stack, length and padding of a small grid, on the same file."""
    cases = [[fs, sl, a, b] for fs in (1, 2, 3) for sl in (1, 3, 4) for a in (True, False) for b in (True, False)]
    with tempfile.TemporaryDirectory() as folder:
        path, out, worst = Path(folder) / "windows.hdf5", Path(folder) / "windows.npz", 0.0
        make_lift_like_hdf5(path, episodes=5, length=6, valid=0)
        dataset = _converted(path, folder)
        peers.ask(peers.robomimic(), "robomimic_windows.py", "values", str(path), str(out), json.dumps(cases))
        theirs = np.load(out)
        for i, (fs, sl, a, b) in enumerate(cases):
            spoken = robomimic_windows(["observation.object", "action"], fs, sl, a, b)
            loader = Loader(dataset, "all", spoken, 1, 0)
            if loader.num_windows != len(theirs[f"{i}/object"]):
                return float("inf")
            batch = loader.samples(0, loader.num_windows)
            # ours come shuffled, and shards hold episodes in another order: both sides by episode and time
            mine = np.lexsort((batch["frame_index"], batch["observation.object"][:, fs - 1, 0]))
            own = theirs[f"{i}/object"][:, fs - 1, :2]
            other = np.lexsort((own[:, 1], own[:, 0]))
            for ours, name in (("observation.object", "object"), ("action", "actions")):
                want = theirs[f"{i}/{name}"][other].astype(np.float32)
                worst = max(worst, float(np.abs(batch[ours][mine] - want).max()))
            worst = max(worst, float((~batch["action_is_pad"][mine] != theirs[f"{i}/mask"][other].astype(bool)).sum()))
        return worst


@row(
    "parity",
    "lerobot-windows",
    "largest difference of windows and masks to LeRobotDataset's delta_timestamps (inf: another number of items)",
    "== 0",
)
def lerobot_windows_equal() -> float:
    """State and action windows that reach over both ends of every episode."""
    times = {"observation.state": [-0.3, -0.1, 0.0], "action": [-0.1, 0.0, 0.1, 0.2, 0.5, 1.2]}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "made", Path(folder) / "items.npz"
        peers.ask(peers.lerobot(), "lerobot_data.py", "make", str(source), "lowdim")
        peers.ask(peers.lerobot(), "lerobot_windows.py", "values", str(source), str(out), json.dumps(times))
        theirs = np.load(out)
        dataset = _converted(source, folder)
        loader = Loader(dataset, "all", lerobot_windows(times, fps=10), 1, 0)
        if loader.num_windows != len(theirs["frame_index"]):
            return float("inf")
        batch, worst = loader.samples(0, loader.num_windows), 0.0
        # shards hold episodes in another order: both sides by the values at t, which are unlike any others
        mine = np.lexsort(batch["observation.state"][:, -1].T)
        other = np.lexsort(theirs["observation.state"][:, -1].T)
        for key in times:
            worst = max(worst, float(np.abs(batch[key][mine] - theirs[key][other]).max()))
            worst = max(worst, float((batch[f"{key}_is_pad"][mine] != theirs[f"{key}_is_pad"][other]).sum()))
        return max(worst, float(np.abs(batch["frame_index"][mine] - theirs["frame_index"][other]).max()))
