"""Video members of a dataset as LeRobot's mp4 files: chunks joined without decoding wherever that shows the same frames.

An episode whose chunks hold frames of no episode between those it needs is decoded and encoded again, and that is said.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tendon.data import mp4
from tendon.data.demonstrations import Demonstrations
from tendon.data.episode import Camera, VideoChunk
from tendon.data.rows import EpisodeRow
from tendon.data.video import decode_chunks, encode_mp4

log = logging.getLogger(__name__)


def pieces_of(
    dataset: Demonstrations, row: EpisodeRow, camera: Camera, may_skip: bool
) -> tuple[list[mp4.Piece], int, list[VideoChunk]]:
    """An episode's video as pieces, how many frames at their front are not shown, and the chunks they came from.

    ``may_skip``: frames before the episode and behind it may stay.
    """
    chunks = dataset.video_chunks(row, camera.name)
    pieces = [_piece(chunk.content) for chunk in chunks]
    extra = [len(piece.track) - chunk.skip - chunk.num_frames for piece, chunk in zip(pieces, chunks, strict=True)]
    inside = sum(chunk.skip for chunk in chunks[1:]) + sum(extra[:-1])
    outside = chunks[0].skip + extra[-1]
    same = all(mp4.joinable(pieces[0].track, piece.track) for piece in pieces)
    if same and not inside and (may_skip or not outside):
        return pieces, chunks[0].skip, chunks
    log.info("export-data: %s of %s is encoded again: it was not cut at its own frames", camera.name, row.episode_id)
    fps = camera.fps or dataset.schema.fps
    return [_piece(encode_mp4(decode_chunks(chunks, range(row.length)), fps))], 0, []


class JoinedVideos:
    """Files of one camera that hold many episodes, one after the other, until a file is full."""

    def __init__(self, root: Path, template: str, camera: Camera, files_per_chunk: int, file_bytes: int) -> None:
        self.root, self.template, self.camera = root, template, camera
        self.files_per_chunk, self.file_bytes = files_per_chunk, file_bytes
        self._number = 0
        self._pieces: list[mp4.Piece] = []
        self._bytes = 0

    def add(self, pieces: Sequence[mp4.Piece], skip: int) -> tuple[int, int, float]:
        """Append an episode: the number of the chunk folder and of the file, and the second at which it begins."""
        size = sum(len(piece.content) for piece in pieces)
        full = self._bytes + size > self.file_bytes
        if self._pieces and (full or not mp4.joinable(self._pieces[0].track, pieces[0].track)):
            self.flush()
            self._number += 1
        ticks = sum(int(piece.track.durations.sum()) for piece in self._pieces)
        ticks += int(pieces[0].track.durations[:skip].sum())
        self._pieces += pieces
        self._bytes += size
        return *divmod(self._number, self.files_per_chunk), ticks / pieces[0].track.timescale

    def flush(self) -> None:
        """Write the file that is being filled."""
        chunk, file = divmod(self._number, self.files_per_chunk)
        path = self.root / self.template.format(video_key=self.camera.name, chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mp4.join(self._pieces))
        self._pieces, self._bytes = [], 0


def _piece(content: bytes) -> mp4.Piece:
    try:
        track = mp4.read_track(content)
    except mp4.Mp4Error:
        content = mp4.plain_mp4(content)
        track = mp4.read_track(content)
    body = track.durations[:-1]
    if len(body) and (body == body[0]).all():  # muxers disagree on how long the last frame is shown
        track = replace(track, durations=np.full(len(track), body[0]))
    return mp4.Piece(content, track, 0, len(track))
