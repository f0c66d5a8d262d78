"""A dataset as LeRobot says it: the features of info.json, its tasks and splits, and the table of an episode.

Both LeRobot writers use it. Values are copied; pictures stay the JPEGs that they are, raw frames become PNGs.
"""

from __future__ import annotations

import io
import json
import logging
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tendon.data.demonstrations import Demonstrations
from tendon.data.episode import Camera, Mask, Schema
from tendon.data.features import DECLARED, TASK, Feature, kind_in_vocabulary
from tendon.data.rows import EpisodeRow
from tendon.data.tario import MP4, RAW

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

PNG = b"\x89PNG\r\n\x1a\n"
DEFAULTS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


class Outgoing:
    """What a LeRobot dataset made from ``dataset`` says of itself."""

    def __init__(self, dataset: Demonstrations) -> None:
        self.dataset = dataset
        self.schema = without_depth(dataset.schema)
        self.source_metadata: Mapping[str, Any] = dataset.metadata.get(
            "lerobot", {}
        )  # by the source, if it was LeRobot
        self.strings = tuple(dataset.metadata.get("strings", ()))  # columns that hold texts themselves
        self.constant_texts: Mapping[str, str] = dataset.metadata.get("constant_texts", {})
        self.fps = int(self.schema.fps) if self.schema.fps == int(self.schema.fps) else self.schema.fps

    @property
    def videos(self) -> list[Camera]:
        """Cameras that become mp4 files."""
        return [each for each in self.schema.cameras if each.codec == MP4]

    @property
    def pictures(self) -> list[Camera]:
        """Cameras that become pictures in the table."""
        return [each for each in self.schema.cameras if each.codec != MP4]

    @cached_property
    def features(self) -> dict[str, dict[str, Any]]:
        """The entries of info.json, in the order of the source where there was one."""
        entries = {each.key: self._entry(each) for each in self.schema.columns if each.key != TASK}
        entries |= {name: {"dtype": "string", "shape": [1], "names": None} for name in self.constant_texts}
        entries |= {each.name: self._camera_entry(each) for each in self.schema.cameras}
        entries |= {each.name: self._mask_entry(each) for each in self.schema.masks}
        entries |= {
            name: {"dtype": kind, "shape": [1], "names": None} for name, kind in DEFAULTS.items() if name not in entries
        }
        known = self.source_metadata.get("order", self.source_metadata.get("features", {}))
        in_source = [name for name in known if name in entries]
        return {name: entries[name] for name in [*in_source, *(name for name in entries if name not in in_source)]}

    @cached_property
    def tasks(self) -> list[str]:
        """The text of every task, its place is its number."""
        if self.schema.texts and not self.strings:
            return list(self.dataset.texts)  # columns of texts are indexes into it
        of_modality = self.dataset.metadata.get("modality", {}).get("tasks", ())
        known: list[str] = list(self.source_metadata.get("tasks", of_modality))
        return list(dict.fromkeys([*known, *(row.task for row in self.dataset.rows)]))

    @cached_property
    def task_numbers(self) -> dict[str, int]:
        """The number of every task."""
        return {task: number for number, task in enumerate(self.tasks)}

    @cached_property
    def splits(self) -> dict[str, str]:
        """Ranges of episodes; a split whose episodes do not follow each other cannot be said."""
        ranges = {}
        for name in self.dataset.splits:
            numbers = [row.index for row in self.dataset.episodes(name)]
            if numbers == list(range(numbers[0], numbers[-1] + 1)):
                ranges[name] = f"{numbers[0]}:{numbers[-1] + 1}"
            else:
                log.warning("export-data: split %s is left out: LeRobot's splits are ranges of episodes", name)
        return ranges or {"train": f"0:{len(self.dataset.rows)}"}

    def arrays(self, row: EpisodeRow, first_index: int) -> dict[str, np.ndarray]:
        """Every numeric column of an episode as ``[T, ...]``; ``first_index`` counts the steps before it."""
        steps = np.arange(row.length)
        rows = self.dataset.lowdim(row)
        made: dict[str, np.ndarray] = {
            "timestamp": (steps / self.schema.fps).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(row.length, row.index),
            "index": steps + first_index,
            "task_index": np.full(row.length, self.task_numbers[row.task]),
        }
        columns = {
            "task_index" if name == TASK else name: rows[name]
            for name in rows.dtype.names or ()
            if name not in self.strings
        }
        made |= {name: np.ascontiguousarray(values) for name, values in columns.items()}
        return made | {"task_index": made["task_index"].astype(np.int64)}

    def tasks_of(self, row: EpisodeRow, arrays: Mapping[str, np.ndarray]) -> list[str]:
        """The tasks of an episode: the one that stands for all of it, then others in the order of their numbers."""
        texts = [self.tasks[int(number)] for number in np.unique(arrays["task_index"])]
        return list(dict.fromkeys([row.task, *texts] if row.task else texts))

    def table(self, row: EpisodeRow, arrays: Mapping[str, np.ndarray]) -> pa.Table:
        """The rows of an episode."""
        import pyarrow as pa

        texts = {name: [text] * row.length for name, text in self.constant_texts.items()}
        if self.strings:
            rows, table = self.dataset.lowdim(row), self.dataset.texts
            texts |= {name: [table[number] for number in rows[name].reshape(-1).tolist()] for name in self.strings}
        pictures = {each.name: self._encoded(row, each) for each in self.pictures}
        for mask in self.schema.masks:
            pictures[mask.name] = [png_bytes(each[..., None] * 255) for each in self.dataset.masks(row, mask.name)]
        columns: dict[str, Any] = {}
        for name, entry in self.features.items():
            if entry["dtype"] == "image":
                ending = "png" if pictures[name][:1] and pictures[name][0][:4] == PNG[:4] else "jpg"
                paths = [f"frame-{step:06d}.{ending}" for step in range(row.length)]
                columns[name] = pa.StructArray.from_arrays(
                    [pa.array(pictures[name], pa.binary()), pa.array(paths, pa.string())], ["bytes", "path"]
                )
            elif name in texts:
                columns[name] = pa.array(texts[name], pa.string())
            elif entry["dtype"] != "video":
                columns[name] = _column(arrays[name])
        return pa.table(columns)

    def _encoded(self, row: EpisodeRow, camera: Camera) -> list[bytes]:
        """A picture per step: JPEGs as they are, raw frames as PNG."""
        if camera.codec != RAW:
            return self.dataset.jpegs(row, camera.name)
        return [png_bytes(frame) for frame in self.dataset.frames(row, camera.name)]

    def _entry(self, feature: Feature) -> dict[str, Any]:
        if feature.key in self.strings:
            return {"dtype": "string", "shape": [1], "names": None}
        shape = list(feature.shape) or [1]
        source_entry = self.source_metadata.get("features", {}).get(feature.key, {})
        names = source_entry.get("names") if source_entry.get("shape") == shape else None
        of_dims = feature.kind != "category" and shape == [len(feature.names)]
        entry = {"dtype": feature.dtype, "shape": shape, "names": names or (list(feature.names) if of_dims else None)}
        if feature.kind != kind_in_vocabulary(feature.key):
            named = {} if of_dims or not feature.names else {"names": list(feature.names)}
            entry["info"] = {DECLARED: {"kind": feature.kind} | named}
        return entry

    def _mask_entry(self, mask: Mask) -> dict[str, Any]:
        """Pictures of black and white: LeRobot has no masks, and reads these."""
        shape, names = [mask.height, mask.width, 1], ["height", "width", "channels"]
        return {"dtype": "image", "shape": shape, "names": names, "info": {DECLARED: {"kind": "mask"}}}

    def _camera_entry(self, camera: Camera) -> dict[str, Any]:
        shape = [camera.height, camera.width, camera.channels]
        entry: dict[str, Any] = {"dtype": "image", "shape": shape, "names": ["height", "width", "channels"]}
        if camera.codec == MP4:
            entry["dtype"] = "video"
            entry["info"] = {
                "video.height": camera.height,
                "video.width": camera.width,
                "video.codec": camera.encoding,
                "video.pix_fmt": self._pixel_format(camera),
                "video.is_depth_map": False,
                "video.fps": self.fps,
                "video.channels": camera.channels,
                "has_audio": False,
            }
        return entry

    def _pixel_format(self, camera: Camera) -> str:
        import av

        chunk = self.dataset.video_chunks(self.dataset.rows[0], camera.name, [0])[0]
        with av.open(io.BytesIO(chunk.content)) as container:
            return str(container.streams.video[0].codec_context.pix_fmt)


def hugging_face_features(features: Mapping[str, Mapping[str, Any]]) -> dict[bytes, bytes]:
    """What the library ``datasets`` writes beside a table: without it, it takes pictures for structs of bytes."""
    described: dict[str, Any] = {}
    for name, entry in features.items():
        shape, dtype = list(entry["shape"]), entry["dtype"]
        if dtype == "image":
            described[name] = {"_type": "Image"}
        elif dtype != "video":
            value = {"dtype": dtype, "_type": "Value"}
            several = {"feature": value, "length": shape[0], "_type": "Sequence"} if len(shape) == 1 else {
                "shape": shape, "dtype": dtype, "_type": f"Array{len(shape)}D"
            }  # fmt: skip
            described[name] = value if shape == [1] else several
    return {b"huggingface": json.dumps({"info": {"features": described}}).encode()}


def without_depth(schema: Schema) -> Schema:
    """The features that LeRobot's versions 2 and 3 have a place for."""
    depth = [each.name for each in schema.cameras if each.kind == "depth"]
    if depth:
        log.warning("export-data: LeRobot's format has no place for %s: left out", ", ".join(depth))
    return replace(schema, cameras=tuple(each for each in schema.cameras if each.kind != "depth"))


def _column(values: np.ndarray) -> Any:
    """``[T]`` and ``[T, 1]`` as numbers, as LeRobot declares them; ``[T, D]`` as lists of fixed size, more dimensions as lists of lists."""
    import pyarrow as pa

    flat = pa.array(values.reshape(-1))
    if values.ndim == 1 or values.shape[1:] == (1,):
        return flat
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    for width in reversed(values.shape[1:]):
        offsets = pa.array(np.arange(0, len(flat) + 1, width, dtype=np.int32))
        flat = pa.ListArray.from_arrays(offsets, flat)
    return flat


def png_bytes(frame: np.ndarray) -> bytes:
    """``uint8 [H, W, 1 or 3]`` as a PNG."""
    height, width, channels = frame.shape
    rows = np.concatenate(
        [np.zeros((height, 1), np.uint8), frame.reshape(height, -1)], 1
    )  # a row starts with its filter
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    checked = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return PNG + b"".join(checked)


def nested(values: Any) -> Any:
    """Arrays inside of dicts and lists as plain lists."""
    if isinstance(values, Mapping):
        return {key: nested(each) for key, each in values.items()}
    if isinstance(values, Sequence) and not isinstance(values, str):
        return [nested(each) for each in values]
    return values.tolist() if isinstance(values, np.ndarray | np.generic) else values
