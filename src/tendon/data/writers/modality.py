"""LeRobot v2.1 with meta/modality.json out, as InternManip and GR00T read it; ``write_dataset`` calls it.

Every observation and action is a column and a key of modality.json. These readers know vectors and videos alone: a matrix
becomes a vector, frames that are not video are encoded, which changes them. Tasks are an annotation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from tendon.data.demonstrations import Demonstrations
from tendon.data.episode import VideoChunk
from tendon.data.rows import EpisodeRow
from tendon.data.sources.lerobot import MODALITY
from tendon.data.tario import MP4
from tendon.data.video import encode_mp4
from tendon.data.writers import Progress, lerobot_v21
from tendon.data.writers.lerobot_table import without_depth
from tendon.data.writers.modality_entries import modality_of


def write(dataset: Demonstrations, target: Path, progress: Progress) -> None:
    """Make the folder ``target``."""
    plain = VectorsAndVideos(dataset)
    lerobot_v21.write_folder(cast("Demonstrations", plain), target, progress, with_totals=True)
    entries = modality_of(plain.schema, dataset.metadata)
    (target / MODALITY).write_text(json.dumps(entries, indent=4, ensure_ascii=False), encoding="utf-8")


class VectorsAndVideos:
    """Demonstrations whose columns are numbers and vectors, and whose cameras are all video."""

    def __init__(self, dataset: Demonstrations) -> None:
        self._dataset = dataset
        schema = without_depth(dataset.schema)
        self._encoded = {each.name for each in schema.cameras if each.codec != MP4}
        fps = dataset.schema.fps
        cameras = tuple(
            replace(each, codec=MP4, encoding="h264", fps=fps) if each.name in self._encoded else each
            for each in schema.cameras
        )
        columns = tuple(replace(each, shape=(each.dim,)) if len(each.shape) > 1 else each for each in schema.columns)
        self.schema = replace(schema, columns=columns, cameras=cameras)
        self._videos: Mapping[str, VideoChunk] = {}
        self._of = -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def lowdim(self, row: EpisodeRow) -> np.ndarray:
        """The steps of an episode, matrices as vectors."""
        return self._dataset.lowdim(row).view(self.schema.row_dtype)

    def video_chunks(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> list[VideoChunk]:
        """One video of the episode, encoded once however often it is asked for in a row."""
        if camera not in self._encoded:
            return self._dataset.video_chunks(row, camera, frames)
        if self._of != row.index:
            self._of, self._videos = row.index, {}
        if camera not in self._videos:
            content = encode_mp4(self._dataset.frames(row, camera), self.schema.fps)
            self._videos = dict(self._videos) | {camera: VideoChunk(content, 0, row.length)}
        return [self._videos[camera]]

    def frames(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> np.ndarray:
        """Frames as they are in the videos."""
        from tendon.data.video import decode_chunks

        wanted = range(row.length) if frames is None else frames
        return decode_chunks(self.video_chunks(row, camera), wanted)
