"""The bytes of a shard: a deterministic ustar archive of episodes, written and scanned.

A sample ``ep_<8 digits>`` is one episode: ``meta.json``, ``lowdim.npy`` (one structured array), and per camera
``<camera>.mjpeg``, ``<camera>.npy`` (raw frames) or ``<camera>.0000.mp4``, ``<camera>.0001.mp4``, ...; per mask ``<mask>.rle`` or
``<mask>.bits``; then what else there is: ``extra.<file name>``.
A writer of our own rather than webdataset's TarWriter: that one imports torch, and offset, size and crc32c of every
member are needed while writing. The result is plain: ``tar`` and ``webdataset`` read it. Called by convert and index.
"""

from __future__ import annotations

import ast
import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tendon.data.episode import Camera, Episode, Schema, VideoChunk
from tendon.data.masks import member_array
from tendon.errors import DataError

Bytes = bytes | memoryview

BLOCK = 512
START_BYTES = 32 << 20  # of a shard in memory; pages that are not used cost nothing
MAX_NAME = 100
META, LOWDIM = "meta.json", "lowdim.npy"
EXTRA = "extra."  # before the file name of what is neither low-dimensional nor a camera
MP4 = "mp4"  # the codec of a camera whose frames are chunks of video
NPY_3_0 = b"\x93NUMPY\x03\x00"
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
        """The sample that it belongs to: its name before the first dot."""
        return self.name.partition(".")[0]

    @property
    def suffix(self) -> str:
        """Its name after the first dot."""
        return self.name.partition(".")[2]


class ShardWriter:
    """Collects members in one buffer, which grows and serves shard after shard; equal members give equal bytes."""

    def __init__(self) -> None:
        self._space = np.empty(START_BYTES, np.uint8).data
        self._size, self._digest = 0, hashlib.sha256()

    def add(self, name: str, *parts: Bytes) -> Member:
        """Append one file."""
        return self.add_stream(name, parts)[0]

    def add_stream(self, name: str, parts: Iterable[Bytes]) -> tuple[Member, list[int]]:
        """Append one file whose parts are made while it is written. Returns it, and the offset of each part in it."""
        head, begin = self._size, self._size + BLOCK
        starts, at, space = [], begin, self._space
        for part in parts:
            end = at + len(part)
            if end > len(space):
                space = self._grown(end)
            space[at:end] = part
            starts.append(at - begin)
            at = end
        self._size = at + -at % BLOCK
        space = self._grown(self._size)
        space[head:begin], space[at : self._size] = _header(name, at - begin), bytes(-at % BLOCK)
        self._digest.update(space[head : self._size])  # now, while it is in the processor's cache
        return Member(name, begin, at - begin, crc32c(space[begin:at])), starts

    def finish(self) -> tuple[memoryview, str]:
        """The whole archive, valid until ``clear``, and its sha256."""
        end = self._size + 2 * BLOCK
        self._grown(end)[self._size : end] = bytes(2 * BLOCK)
        self._digest.update(bytes(2 * BLOCK))
        return self._space[:end].toreadonly(), self._digest.hexdigest()

    def clear(self) -> None:
        """Begin the next archive."""
        self._size, self._digest = 0, hashlib.sha256()

    def _grown(self, end: int) -> memoryview:
        """The buffer, with space for ``end`` bytes."""
        if end > len(self._space):
            larger = np.empty(max(2 * len(self._space), end), np.uint8).data
            larger[: len(self._space)] = self._space
            self._space = larger
        return self._space


@dataclass(frozen=True)
class Sample:
    """One episode in a shard: what a row of the index is made from. ``starts``: of every frame of an mjpeg member."""

    meta: Mapping[str, Any]
    rows: np.ndarray
    members: Sequence[Member]
    starts: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        """``ep_<number>``."""
        return self.members[0].sample


def write_episode(
    writer: ShardWriter, number: int, episode: Episode, splits: tuple[str, ...], schema: Schema, jpeg_quality: int
) -> Sample:
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
    if schema.masks:
        meta["masks"] = {f"{each.member}.{each.codec}": each.name for each in schema.masks}
    if videos:
        meta["chunks"] = {name: _chunk_values(chunks) for name, chunks in videos.items()}
    rows = rows_of(episode, schema)
    starts: dict[str, np.ndarray] = {}
    members = [
        writer.add(f"{key}.{META}", json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()),
        writer.add(f"{key}.{LOWDIM}", *npy_parts(rows)),
    ]
    for camera in schema.cameras:
        if camera.codec == MP4:
            for k, chunk in enumerate(videos[camera.member]):
                members.append(writer.add(f"{key}.{chunk_member(camera, k)}", chunk.content))
        elif camera.codec == RAW:
            frames = np.ascontiguousarray(episode.images[camera.name])
            members.append(writer.add(f"{key}.{camera.member}.{RAW}", *npy_parts(frames)))
        else:
            encoded = jpegs(episode.images[camera.name], camera, jpeg_quality)
            member, begins = writer.add_stream(f"{key}.{camera.member}.mjpeg", encoded)
            members.append(member)
            starts[member.suffix] = np.array(begins, np.uint32)
    for mask in schema.masks:
        array = member_array(episode.masks[mask.name], mask.codec)
        members.append(writer.add(f"{key}.{mask.member}.{mask.codec}", *npy_parts(array)))
    members += [writer.add(f"{key}.{EXTRA}{name}", content) for name, content in sorted(episode.extras.items())]
    return Sample(meta, rows, members, starts)


def read_samples(shard: bytes, where: str) -> Iterator[Sample]:
    """The same again from the bytes of a shard alone.

    Raises:
        DataError: the archive is damaged.
    """
    for _, group in itertools.groupby(scan(shard, where), lambda member: member.sample):
        members = list(group)
        content = {each.suffix: shard[each.offset : each.offset + each.size] for each in members}
        starts = {suffix: frame_starts(each) for suffix, each in content.items() if suffix.endswith(".mjpeg")}
        try:
            sample = Sample(json.loads(content[META]), npy_rows(content[LOWDIM]), members, starts)
        except Exception as error:  # whatever json and numpy make of damaged bytes
            raise DataError(
                "a sample of a shard is damaged",
                where=f"{where}, {members[0].name}, offset {members[0].offset}",
                why=f"{type(error).__name__}: {error}".splitlines()[0],
                fix="delete the shard and convert again: only what is missing is made",
            ) from error
        yield sample


def rows_of(episode: Episode, schema: Schema) -> np.ndarray:
    """The low-dimensional features of an episode as one structured array, shape (T,)."""
    rows = np.empty(episode.length, schema.row_dtype)
    for feature in schema.columns:
        rows[feature.key] = episode.features[feature.key]
    return rows


def chunk_member(camera: Camera, k: int) -> str:
    """The name of a camera's chunk ``k`` behind that of its sample."""
    return f"{camera.member}.{k:04d}.{MP4}"


def jpegs(
    frames: np.ndarray | tuple[bytes, ...] | tuple[VideoChunk, ...], camera: Camera, quality: int
) -> Iterator[bytes]:
    """The frames as JPEGs; frames that are encoded already are not encoded again."""
    if isinstance(frames, tuple):
        for frame in frames:
            assert isinstance(frame, bytes), f"{camera.name} is a video, its codec in the schema must be mp4"
            yield frame
        return
    import simplejpeg

    encode = simplejpeg.encode_jpeg
    space, sampling = ("GRAY", "Gray") if camera.channels == 1 else ("RGB", "420")
    for frame in np.ascontiguousarray(frames):
        yield encode(frame, quality, space, sampling, fastdct=False)


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


def npy_parts(rows: np.ndarray) -> tuple[bytes, Bytes]:
    """A .npy file: its header, of format version 1.0 where that can say it, and the array itself."""
    described, header = np.lib.format.header_data_from_array_1_0(rows), io.BytesIO()
    try:
        np.lib.format.write_array_header_1_0(header, described)
    except ValueError:  # too long, or names outside of latin-1
        header = io.BytesIO(_npy_header_3_0(described))
    return header.getvalue(), rows.view(np.uint8).reshape(-1).data if rows.size else b""


def _npy_header_3_0(described: Mapping[str, Any]) -> bytes:
    text = repr(described).encode()
    text += b" " * (-(len(NPY_3_0) + 4 + len(text) + 1) % 64) + b"\n"
    return NPY_3_0 + len(text).to_bytes(4, "little") + text


def npy_rows(content: bytes | np.ndarray) -> np.ndarray:
    """The array in a .npy file that ``npy_parts`` made, without a copy."""
    at = 12 if bytes(content[: len(NPY_3_0)]) == NPY_3_0 else 10
    end = at + int.from_bytes(bytes(content[8:at]), "little")
    buffer = io.BytesIO(bytes(content[:end]))
    if at == 12:
        described = ast.literal_eval(bytes(content[at:end]).decode())
        shape, dtype = described["shape"], np.lib.format.descr_to_dtype(described["descr"])
    else:
        np.lib.format.read_magic(buffer)
        shape, _, dtype = np.lib.format.read_array_header_1_0(buffer, max_header_size=1 << 16)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    return np.frombuffer(content, dtype, offset=end).reshape(shape)  # type: ignore[call-overload,no-any-return]


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


def crc32c(content: Bytes | np.ndarray) -> int:
    """The checksum that every read verifies."""
    import google_crc32c

    # a memoryview must be an array to it, which nobody can take away while it is read
    flat = np.asarray(content) if isinstance(content, memoryview) else content
    return int(google_crc32c.value(flat))


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
