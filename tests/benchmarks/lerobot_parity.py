"""``make parity PEER=lerobot``: datasets that lerobot 0.4.4 writes and reads, beside what we make of them.

Every value counts what differs, so the bounds are 0.
"""

from __future__ import annotations

import tempfile
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.convert import ConversionOptions, convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.data.tario import MP4
from tendon.data.video import decode_mp4
from tendon.data.writers import write_dataset
from tests.benchmarks import peers
from tests.benchmarks.rows import row

SCRIPT = "lerobot_data.py"
KINDS = ("lowdim", "video", "h264", "images")
FORMATS = ("lerobot-v3.0", "lerobot-v2.1")


@lru_cache(maxsize=1)
def scratch() -> Path:
    """A folder that lives as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="tendon-parity-")
    kept.append(folder)
    return Path(folder.name)


kept: list[Any] = []


@cache
def made(kind: str) -> tuple[Path, dict[str, np.ndarray], Dataset]:
    """A dataset that lerobot wrote, what its reader says, and our conversion of it."""
    python = peers.lerobot()
    root = scratch() / kind
    peers.ask(python, SCRIPT, "make", str(root), kind)
    options = ConversionOptions(codec="npy" if kind == "images" else "")
    return root, read(root), converted(root, options)


def read(root: Path) -> dict[str, np.ndarray]:
    """Every item of a dataset as lerobot's own reader gives it."""
    out = scratch() / "read.npz"
    peers.ask(peers.lerobot(), SCRIPT, "read", str(root), str(out))
    with np.load(out) as columns:
        return dict(columns)


def converted(root: Path, options: ConversionOptions | None = None) -> Dataset:
    """Our conversion of a dataset."""
    store = str(scratch() / "store")
    manifest = convert(open_source(str(root)), store, "x", options)
    return open_dataset(dataset_uri(store, "x", manifest.plan))


def different(dataset: Dataset, told: dict[str, np.ndarray]) -> int:
    """How many numbers, texts and pixels of a dataset are not what lerobot's reader says."""
    wrong, at = abs(len(told["index"]) - dataset.manifest.steps), 0
    for episode in dataset.rows:
        steps = slice(at, at + episode.length)
        at += episode.length
        rows = dataset.lowdim(episode)
        for name in rows.dtype.names or ():
            ours, theirs = rows[name].astype(told[name].dtype), told[name][steps]
            wrong += int((ours.reshape(theirs.shape) != theirs).sum())
        wrong += int(
            (told["task"][steps] != episode.task).sum() + (told["episode_index"][steps] != episode.index).sum()
        )
        for camera in dataset.manifest.schema.cameras:
            wrong += int((dataset.frames(episode, camera.name) != told[camera.name][steps]).sum())
    return wrong


def chunks_differ(kind: str) -> int:
    """Pixels of our chunks that differ from the source's video, by lerobot's decoder and by ours."""
    root, _, dataset = made(kind)
    wrong = 0
    for camera in dataset.manifest.schema.cameras:
        source = next((root / "videos" / camera.name).rglob("*.mp4"))
        paths = []
        for episode in dataset.rows:
            for chunk in dataset.video_chunks(episode, camera.name):
                paths.append(scratch() / f"{kind}-{camera.member}-{len(paths)}.mp4")
                paths[-1].write_bytes(chunk.content)
        out = scratch() / "decoded.npz"
        peers.ask(peers.lerobot(), SCRIPT, "decode", str(out), str(source), *map(str, paths))
        with np.load(out) as frames:
            theirs = np.concatenate([frames[str(i + 1)] for i in range(len(paths))])
            wrong += int((theirs != frames["0"]).sum())
        ours = np.concatenate([decode_mp4(path.read_bytes()) for path in paths])
        wrong += int((ours != decode_mp4(source.read_bytes())).sum())
    return wrong


def _register(kind: str) -> None:
    @row(
        "parity",
        f"lerobot-in-{kind}",
        f"values, texts and pixels of a lerobot {kind} dataset that we read differently",
        "== 0",
    )
    def differs() -> float:
        _, told, dataset = made(kind)
        return different(dataset, told)

    if kind in ("video", "h264"):

        @row(
            "parity",
            f"lerobot-remux-{kind}",
            "pixels of our chunks unlike the source's video, decoded by torchcodec and by PyAV",
            "== 0",
        )
        def remuxed() -> float:
            return chunks_differ(kind)

    for format in FORMATS:
        _register_out(kind, format)


def _register_out(kind: str, format: str) -> None:
    name = f"{kind}-{format.removeprefix('lerobot-')}"

    @row(
        "parity",
        f"lerobot-out-{name}",
        f"values, texts and pixels that lerobot reads differently in our {format} ({kind})",
        "== 0",
    )
    def differs() -> float:
        _, told, dataset = made(kind)
        root = scratch() / name / "me" / "x"
        if not root.exists():
            write_dataset(dataset, str(root), format)
            if format == "lerobot-v2.1":
                peers.ask(peers.lerobot(), SCRIPT, "upgrade", str(scratch() / name), "me/x")
        again = read(root)
        wrong = sum(int((again[key] != told[key]).sum()) for key in told) + len(set(told) ^ set(again))
        return wrong

    @row(
        "parity",
        f"lerobot-back-{name}",
        f"bytes of arrays, frames and chunks changed by lerobot -> shards -> {format} -> shards",
        "== 0",
    )
    def changed() -> float:
        _, _, dataset = made(kind)
        root = scratch() / f"{name}-back"
        write_dataset(dataset, str(root), format)
        again = converted(root, ConversionOptions(codec="npy" if kind == "images" else ""))
        wrong = 0
        for a, b in zip(dataset.rows, again.rows, strict=True):
            wrong += dataset.lowdim(a).tobytes() != again.lowdim(b).tobytes()
            for camera in dataset.manifest.schema.cameras:
                if camera.codec == MP4:
                    wrong += dataset.video_chunks(a, camera.name) != again.video_chunks(b, camera.name)
                wrong += int((dataset.frames(a, camera.name) != again.frames(b, camera.name)).sum())
        return wrong


for _kind in KINDS:
    _register(_kind)


@row(
    "parity",
    "lerobot-out-robomimic",
    "values and pixels that lerobot reads differently in our lerobot-v3.0 of a robomimic file",
    "== 0",
)
def from_robomimic() -> float:
    """Pictures stay JPEGs, which lerobot decodes with another library: rounding may differ, more than 3 levels count."""
    from tests.conftest import make_lift_like_hdf5

    dataset = converted(make_lift_like_hdf5(scratch() / "lift.hdf5", images=True))
    root = scratch() / "lift"
    write_dataset(dataset, str(root), "lerobot-v3.0")
    told, wrong, at = read(root), 0, 0
    for episode in dataset.rows:
        steps = slice(at, at + episode.length)
        at += episode.length
        rows = dataset.lowdim(episode)
        for name in rows.dtype.names or ():
            theirs = told[name][steps]
            wrong += int((rows[name].astype(theirs.dtype).reshape(theirs.shape) != theirs).sum())
        for camera in dataset.manifest.schema.cameras:
            frames = dataset.frames(episode, camera.name).astype(int)
            wrong += int((np.abs(frames - told[camera.name][steps]) > 3).sum())
    return wrong


@row(
    "parity",
    "lerobot-stats",
    "largest difference of mean and std of numbers between our stats.json and lerobot's, relative",
    "<= 1e-5",
)
def stats_agree() -> float:
    """Cameras are left out: lerobot 0.4.4 computes their std on bytes that overflow; it samples other frames too."""
    import json

    root, _, dataset = made("lowdim")
    out = scratch() / "stats"
    write_dataset(dataset, str(out), "lerobot-v3.0")
    ours, theirs = (json.loads((each / "meta/stats.json").read_text()) for each in (out, root))
    worst = 0.0
    for name, each in theirs.items():
        for kind in ("mean", "std", "min", "max"):
            a, b = np.asarray(ours[name][kind], float), np.asarray(each[kind], float)
            if a.shape == b.shape:  # lerobot reduces features of two dimensions to their last one
                worst = max(worst, float((np.abs(a - b) / np.maximum(np.abs(b), 1e-3)).max()))
    return worst
