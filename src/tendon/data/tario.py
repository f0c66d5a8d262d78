"""The bytes of a shard: a deterministic ustar archive of episodes, written and scanned.

A sample ``ep_<8 digits>`` is one episode: ``meta.json``, ``lowdim.npy`` (one structured array), and per camera
``<camera>.mjpeg``, ``<camera>.npy`` (raw frames) or ``<camera>.0000.mp4``, ``<camera>.0001.mp4``, ...; then what else there is:
``extra.<file name>``.
A writer of our own rather than webdataset's TarWriter: that one imports torch, and offset, size and crc32c of every
member are needed while writing. The result is plain: ``tar`` and ``webdataset`` read it. Called by convert and index.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tendon.data.episode import Camera, Episode, Schema, VideoChunk
from tendon.errors import DataError

BLOCK = 512
CRC_PART = 64 << 10
MAX_NAME = 100
META, LOWDIM = "meta.json", "lowdim.npy"
EXTRA = "extra."  # before the file name of what is neither low-dimensional nor a camera
MP4 = "mp4"  # the codec of a camera whose frames are chunks of video
RAW = "npy"  # the codec of a camera whose frames are one uint8 array [T, H, W, C]
CHUNK_KEYS = ("first_frame", "num_frames", "skip")
JPEG_END_START = b"\xff\xd9\xff\xd8"  # one frame ends, the next begins; cannot occur inside a frame we wrote


@dataclass(frozen=True)
class Member:
    """One file of an archive: ``offset`` and ``size`` of its content in bytes."""

    name: str
    offset: int
    size: int
    crc32c: int

    @property
    def sample(self) -> str:
        """The episode it belongs to: what stands before the first dot."""
        return self.name.partition(".")[0]

    @property
    def suffix(self) -> str:
        """What it is: what stands after the first dot."""
        return self.name.partition(".")[2]


class ShardWriter:
    """Collects members in memory; equal members in equal order give equal bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, name: str, content: bytes) -> Member:
        """Append one file."""
        self._append(_header(name, len(content)))
        member = Member(name, self._size, len(content), crc32c(content))
        self._append(content)
        self._append(bytes(-len(content) % BLOCK))
        return member

    def finish(self) -> bytes:
        """The whole archive."""
        return b"".join([*self._parts, bytes(2 * BLOCK)])

    def _append(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)


def write_episode(
    writer: ShardWriter, number: int, episode: Episode, splits: tuple[str, ...], schema: Schema, jpeg_quality: int
) -> list[Member]:
    """Append one episode as the sample ``ep_<number>``."""
    key = f"ep_{number:08d}"
    meta = {
        "episode_id": episode.episode_id,
        "length": episode.length,
        "task": episode.task,
        "success": episode.success,
        "splits": list(splits),
        "fps": schema.fps,
        "cameras": {f"{each.member}.{each.codec}": each.name for each in schema.cameras},
        "source": dict(episode.provenance),
    }
    videos = {each.member: _whole_video(episode, each) for each in schema.cameras if each.codec == MP4}
    if videos:
        meta["chunks"] = {name: _chunk_values(chunks) for name, chunks in videos.items()}
    members = [
        writer.add(f"{key}.{META}", json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()),
        writer.add(f"{key}.{LOWDIM}", npy_bytes(rows_of(episode, schema))),
    ]
    for camera in schema.cameras:
        for k, chunk in enumerate(videos.get(camera.member, ())):
            members.append(writer.add(f"{key}.{chunk_member(camera, k)}", chunk.content))
        if camera.codec == MP4:
            continue
        if camera.codec == RAW:
            content = npy_bytes(np.ascontiguousarray(episode.images[camera.name]))
            members.append(writer.add(f"{key}.{camera.member}.{RAW}", content))
            continue
        content = b"".join(jpegs(episode.images[camera.name], camera, jpeg_quality))
        members.append(writer.add(f"{key}.{camera.member}.mjpeg", content))
    members += [writer.add(f"{key}.{EXTRA}{name}", content) for name, content in sorted(episode.extras.items())]
    return members


def rows_of(episode: Episode, schema: Schema) -> np.ndarray:
    """The low-dimensional features of an episode as one structured array, shape (T,)."""
    rows = np.empty(episode.length, schema.row_dtype)
    for feature in schema.features:
        rows[feature.name] = episode.features[feature.name]
    return rows


def chunk_member(camera: Camera, k: int) -> str:
    """The name of a camera's chunk ``k`` behind that of its sample."""
    return f"{camera.member}.{k:04d}.{MP4}"


def jpegs(
    frames: np.ndarray | tuple[bytes, ...] | tuple[VideoChunk, ...], camera: Camera, quality: int
) -> Iterator[bytes]:
    """The frames as JPEGs; what is encoded already is not encoded again."""
    if isinstance(frames, tuple):
        for frame in frames:
            assert isinstance(frame, bytes), f"{camera.name} is a video, its codec in the schema must be mp4"
            yield frame
        return
    import simplejpeg

    colors = ("GRAY", "Gray") if camera.channels == 1 else ("RGB", "420")
    for frame in np.ascontiguousarray(frames):
        yield simplejpeg.encode_jpeg(frame, quality, colors[0], colors[1], fastdct=False)


def _whole_video(episode: Episode, camera: Camera) -> tuple[VideoChunk, ...]:
    """The chunks of a camera, which must follow each other and show every step."""
    chunks = cast("tuple[VideoChunk, ...]", episode.images[camera.name])
    at = 0
    for chunk in chunks:
        if chunk.first_frame != at:
            break
        at += chunk.num_frames
    if at != episode.length:
        raise DataError(
            f"the video of {camera.name} does not show every step of {episode.episode_id}",
            where=f"{episode.episode_id}, {camera.name}",
            why=f"its chunks show {at} frames without a gap, the episode has {episode.length} steps",
            fix=f"data.skip_episodes=[{episode.episode_id}], or record it again",
        )
    return chunks


def _chunk_values(chunks: Sequence[VideoChunk]) -> dict[str, Any]:
    return {key: [getattr(chunk, key) for chunk in chunks] for key in CHUNK_KEYS}


def npy_bytes(rows: np.ndarray) -> bytes:
    """A .npy file, format version 1.0 whatever numpy would choose."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, rows, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def npy_rows(content: bytes) -> np.ndarray:
    """The array in a .npy file that ``npy_bytes`` made, without a copy; it cannot be written to."""
    buffer = io.BytesIO(content)
    np.lib.format.read_magic(buffer)
    shape, _, dtype = np.lib.format.read_array_header_1_0(buffer)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    return np.frombuffer(content, dtype, offset=buffer.tell()).reshape(shape)


def frame_starts(content: bytes) -> np.ndarray:
    """Where every JPEG of an mjpeg member begins."""
    starts = [0] if content else []
    at = content.find(JPEG_END_START)
    while at >= 0:
        starts.append(at + 2)
        at = content.find(JPEG_END_START, at + 2)
    return np.array(starts, np.uint32)


def scan(shard: bytes, where: str) -> Iterator[Member]:
    """Every member of an archive, by walking its headers.

    Raises:
        DataError: a header is damaged or the archive ends too early; names ``where`` and the offset.
    """
    at = 0
    while at + BLOCK <= len(shard):
        header = shard[at : at + BLOCK]
        if not any(header):
            return
        name, size = header[:MAX_NAME].rstrip(b"\0").decode("ascii", "replace"), header[124:135]
        begin = at + BLOCK
        if not _checksum_holds(header) or begin + int(size, 8) > len(shard):
            break
        content = memoryview(shard)[begin : begin + int(size, 8)]
        yield Member(name, begin, len(content), crc32c(content))
        at = begin + len(content) + -len(content) % BLOCK
    raise DataError(
        "a shard is damaged",
        where=f"{where}, offset {at}",
        why="the archive ends before its end mark" if at + BLOCK > len(shard) else "a member's header does not add up",
        fix="delete the shard and convert again: only what is missing is made",
    )


def crc32c(content: bytes | memoryview) -> int:
    """The checksum that every read verifies."""
    import google_crc32c

    if isinstance(content, bytes):
        return int(google_crc32c.value(content))
    crc = 0
    for at in range(0, len(content), CRC_PART):  # it takes bytes only: copy what stays in the cache
        crc = google_crc32c.extend(crc, bytes(content[at : at + CRC_PART]))
    return int(crc)


def _header(name: str, size: int) -> bytes:
    encoded = name.encode("ascii")
    assert len(encoded) <= MAX_NAME, name
    assert size < 8**11, name
    head = encoded.ljust(MAX_NAME, b"\0") + b"0000444\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    tail = b"0" + bytes(100) + b"ustar\00000" + bytes(64) + b"0000000\0" * 2 + bytes(155 + 12)
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * 32) + tail


def _checksum_holds(header: bytes) -> bool:
    try:
        return (
            int(header[148:154], 8) == sum(header[:148]) + sum(header[156:]) + 8 * 32 and int(header[124:135], 8) >= 0
        )
    except ValueError:
        return False
