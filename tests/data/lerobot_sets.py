"""LeRobot datasets written by hand with pyarrow and PyAV, as far as LeRobot itself needs them (versions 2.0, 2.1, 3.0)."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CAMERA = "observation.images.Front"
FPS = 10


def pictures(seed: int, num: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Smooth moving pictures, ``uint8 [num, H, W, 3]``."""
    y, x = np.mgrid[0:height, 0:width]
    t = np.arange(num)[:, None, None]
    waves = [np.sin((x + 2 * t) / 9 + seed), np.cos((y + t) / 7), np.sin((x + y - t) / 15 + seed)]
    return np.stack([120 + 100 * np.broadcast_to(wave, (num, height, width)) for wave in waves], -1).astype(np.uint8)


def encoded(frames: np.ndarray, codec: str = "libx264", format: str = "mp4", container: dict[str, str] | None = None,
            **options: Any) -> bytes:  # fmt: skip
    """A video with the encoder's own habits: frames in other than display order, groups of ``g`` frames."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format, options=container or {}) as sink:
        stream: Any = sink.add_stream(codec, rate=Fraction(FPS))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"threads": "1"} | {key: str(value) for key, value in options.items()}
        for frame in frames:
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        sink.mux(stream.encode())
    return buffer.getvalue()


def make(
    folder: Path, version: str, lengths: tuple[int, ...] = (18, 25, 11), video: bool = True, **encoding: Any
) -> Path:
    """A dataset with one camera. In version 3.0 all episodes lie in one mp4 that knows nothing of their borders."""
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]},
        "action": {"dtype": "float64", "shape": [2], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
        "note": {"dtype": "string", "shape": [1], "names": None},
    } | {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in DEFAULTS.items()}
    if video:
        features[CAMERA] = {"dtype": "video", "shape": [3, 32, 48], "names": ["channel", "height", "width"]}
    info: dict[str, Any] = {
        "codebase_version": version, "robot_type": "arm", "fps": FPS, "features": features, "chunks_size": 1000,
        "total_episodes": len(lengths), "total_frames": sum(lengths), "splits": {"train": "0:2", "val": "2:3"},
    }  # fmt: skip
    tables = [table(e, length, sum(lengths[:e])) for e, length in enumerate(lengths)]
    meta = folder / "meta"
    meta.mkdir(parents=True)
    if version == "v3.0":
        _put(folder / "data/chunk-000/file-000.parquet", pa.concat_tables(tables))
        if video:
            path = folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"
            path.parent.mkdir(parents=True)
            path.write_bytes(encoded(pictures(0, sum(lengths)), **encoding))
        rows = []
        for e, length in enumerate(lengths):
            first = sum(lengths[:e])
            row = {"episode_index": e, "tasks": [f"task {e % 2}"], "length": length, "data/chunk_index": 0,
                   "data/file_index": 0, "dataset_from_index": first, "dataset_to_index": first + length}  # fmt: skip
            if video:
                row |= {f"videos/{CAMERA}/chunk_index": 0, f"videos/{CAMERA}/file_index": 0}
                row |= {
                    f"videos/{CAMERA}/from_timestamp": first / FPS,
                    f"videos/{CAMERA}/to_timestamp": (first + length) / FPS,
                }
            rows.append(row)
        _put(meta / "episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
        _put(meta / "tasks.parquet", pa.table({"task_index": [0, 1], "__index_level_0__": ["task 0", "task 1"]}))
    else:
        for e, one in enumerate(tables):
            _put(folder / f"data/chunk-000/episode_{e:06d}.parquet", one)
            if video:
                path = folder / f"videos/chunk-000/{CAMERA}/episode_{e:06d}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(pictures(e, lengths[e]), **encoding))
        episodes = [{"episode_index": e, "tasks": [f"task {e % 2}"], "length": n} for e, n in enumerate(lengths)]
        (meta / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in episodes))
        (meta / "tasks.jsonl").write_text(
            "".join(json.dumps({"task_index": i, "task": f"task {i}"}) + "\n" for i in (0, 1))
        )
    (meta / "info.json").write_text(json.dumps(info))
    return folder


DEFAULTS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def table(episode: int, length: int, first: int) -> pa.Table:
    """The rows of an episode; its state says episode and step."""
    state = np.stack(
        [np.full(length, episode), np.arange(length), np.random.default_rng(episode).normal(size=length)], 1
    )
    action = np.random.default_rng(episode + 99).normal(size=(length, 2))
    return pa.table(
        {
            "observation.state": pa.array(list(state.astype(np.float32)), pa.list_(pa.float32())),
            "action": pa.FixedSizeListArray.from_arrays(pa.array(action.reshape(-1)), 2),
            "next.success": pa.array(np.arange(length) == length - 1 + episode % 2),
            "note": pa.array(["x"] * length),
            "timestamp": pa.array((np.arange(length) / FPS).astype(np.float32)),
            "frame_index": pa.array(np.arange(length)),
            "episode_index": pa.array(np.full(length, episode)),
            "index": pa.array(np.arange(length) + first),
            "task_index": pa.array(np.full(length, episode % 2)),
        }
    )


def _put(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
