"""LeRobot's parquet files: the rows of an episode, numbers as arrays, pictures decoded when they are asked for.

lerobot.py reads through it. Only the row groups that an episode lies in are read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tendon.data.episode import Camera, Mask
from tendon.data.features import Feature
from tendon.data.sources.folder import SourceFolder
from tendon.data.sources.lerobot_layout import EpisodeAt
from tendon.data.tario import JPEG_END_START
from tendon.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_OPEN, MAX_OPEN_GROUPS = 64, 20_000
MAX_FOOTERS = 1 << 14
MANY_GROUPS = 2_000  # their footer is read in milliseconds and takes megabytes
READ_WHOLE = 1 << 20  # bytes of a file up to which it is read at once, without a map or a thread of Arrow's
BLOCK_BYTES = 4 << 20  # row groups that are decoded together: one group per episode costs as little as one in all
BLOCK_ROWS = 1 << 16
KEPT_BYTES = 192 << 20  # of decoded blocks
TABLE_BYTES = 8 << 10  # what a table takes beside its values
EPISODE_INDEX = "episode_index"


class Block(NamedTuple):
    """Row groups ``[begin, end)`` of a file that are decoded together: the rows ``[first_row, last_row)``."""

    key: str
    begin: int
    end: int
    first_row: int
    last_row: int


@dataclass(frozen=True)
class _Groups:
    """What a file's footer says of its row groups, and which of them are read together."""

    ends: np.ndarray  # [G] rows up to the end of every group
    block_of: np.ndarray  # [G]

    @classmethod
    def of(cls, metadata: Any) -> _Groups:
        num = metadata.num_row_groups
        groups = [metadata.row_group(i) for i in range(num)]
        rows = np.fromiter((each.num_rows for each in groups), np.int64, num)
        sizes = np.fromiter((each.total_byte_size for each in groups), np.int64, num)
        share = np.maximum(sizes / BLOCK_BYTES, rows / BLOCK_ROWS)
        return cls(np.cumsum(rows), np.floor(np.cumsum(share) - share / 2).astype(np.int64))

    def blocks(self, key: str, first_row: int, stop_row: int) -> list[Block]:
        """The blocks that the rows lie in; the last one of the file where they lie behind its end."""
        last_group = len(self.ends) - 1
        first = min(int(np.searchsorted(self.ends, first_row, "right")), last_group)
        last = max(first, min(int(np.searchsorted(self.ends, stop_row, "left")), last_group))
        blocks = []
        for number in range(int(self.block_of[first]), int(self.block_of[last]) + 1):
            begin, end = np.searchsorted(self.block_of, [number, number + 1]).tolist()
            if begin < end:
                before = int(self.ends[begin - 1]) if begin else 0
                blocks.append(Block(key, begin, end, before, int(self.ends[end - 1])))
        return blocks


class DataFiles:
    """Rows of episodes out of the parquet files of a folder."""

    def __init__(self, folder: SourceFolder) -> None:
        self.folder = folder
        self._groups: OrderedDict[str, _Groups] = OrderedDict()
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._open_groups = 0
        self._blocks: OrderedDict[tuple[Any, ...], tuple[pa.Table, int]] = OrderedDict()
        self._kept = 0  # bytes of _blocks

    def rows(self, at: EpisodeAt, columns: Sequence[str]) -> pa.Table:
        """The columns of an episode.

        Raises:
            DataError: the file is unreadable, or its rows are not those of the episode.
        """
        import pyarrow as pa

        try:
            rows = self._read(at, list(columns))
        except (OSError, pa.ArrowException, KeyError) as error:
            raise self._broken(at, "a table cannot be read", f"{error}".splitlines()[0]) from error
        self.check_rows(at, rows.column(EPISODE_INDEX).to_numpy())
        return rows

    def check_rows(self, at: EpisodeAt, episodes: np.ndarray) -> None:
        """Nothing, if rows with these numbers of episodes are those of ``at``.

        Raises:
            DataError: they are of another episode, or too few.
        """
        if len(episodes) != at.length or (episodes != at.number).any():
            there = int((episodes == at.number).sum())
            why = f"{there} of {len(episodes)} rows are of episode {at.number}, the episode has {at.length} steps"
            raise self._broken(at, "a table does not hold the rows that belong to an episode", why)

    def num_rows(self, at: EpisodeAt) -> int:
        """How many rows an episode's file has.

        Raises:
            DataError: the file is unreadable.
        """
        import pyarrow as pa

        try:
            ends = self._groups_of(at.data_key).ends
        except (OSError, pa.ArrowException, KeyError) as error:
            raise self._broken(at, "a table cannot be read", f"{error}".splitlines()[0]) from error
        return int(ends[-1]) if len(ends) else 0

    def texts_of(self, keys: Sequence[str], name: str, most_bytes: int) -> list[str] | str:
        """The texts of a column in all of these files, sorted; or why they are not kept."""
        import pyarrow as pa

        found: set[str] = set()
        num_bytes = 0
        for key in keys:
            try:
                file = self._file(key)
                if name not in file.schema_arrow.names:
                    return "the tables do not have it"
                for batch in file.iter_batches(BLOCK_ROWS, columns=[name], use_threads=False):
                    column = batch.column(0)
                    if not _is_text(column.type):
                        return f"info.json says string, the tables hold {column.type}"
                    new = {each or "" for each in column.unique().to_pylist()} - found
                    found |= new
                    num_bytes += sum(map(len, new))
                    if num_bytes > most_bytes:
                        return f"its texts are longer than {most_bytes:,} characters together"
            except (OSError, pa.ArrowException, KeyError, UnicodeDecodeError):  # noqa: PERF203 - told where its rows are read
                continue
        return sorted(found)

    def blocks(self, at: EpisodeAt) -> list[Block]:
        """The blocks in which an episode lies.

        Raises:
            DataError: the file is unreadable.
        """
        import pyarrow as pa

        try:
            return self._groups_of(at.data_key).blocks(at.data_key, at.first_row, at.first_row + at.length)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise self._broken(at, "a table cannot be read", f"{error}".splitlines()[0]) from error

    def all_blocks(self, key: str) -> list[Block]:
        """All blocks of a file that was read before."""
        groups = self._groups_of(key)
        return groups.blocks(key, 0, int(groups.ends[-1]))

    def has_large_footer(self, key: str) -> bool:
        """Whether opening a file takes long and much memory: it has thousands of row groups."""
        return len(self._groups_of(key).ends) > MANY_GROUPS

    def close(self, key: str) -> None:
        """Free what an open file holds."""
        if key in self._open:
            self._open_groups -= self._open.pop(key).num_row_groups

    def decode(self, block: Block, columns: Sequence[str]) -> pa.Table:
        """Columns of a block, and the number of every row's episode."""
        columns = [*columns, EPISODE_INDEX]
        table = self._file(block.key).read_row_groups(list(range(block.begin, block.end)), columns, use_threads=False)
        return table.combine_chunks() if block.end - block.begin > 1 else table

    def _read(self, at: EpisodeAt, columns: list[str]) -> pa.Table:
        import pyarrow as pa

        first, stop = at.first_row, at.first_row + at.length
        parts = []
        for block in self._groups_of(at.data_key).blocks(at.data_key, first, stop):
            begin = max(first, block.first_row)
            parts.append(self._block(block, columns).slice(begin - block.first_row, min(stop, block.last_row) - begin))
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts)

    def _block(self, block: Block, columns: list[str]) -> pa.Table:
        """The columns of a block, which stay decoded while there is room."""
        name = (block, tuple(columns))
        if name not in self._blocks:
            table = self.decode(block, columns)
            size = table.nbytes + TABLE_BYTES
            while self._blocks and self._kept + size > KEPT_BYTES:
                self._kept -= self._blocks.popitem(last=False)[1][1]
            self._blocks[name] = (table, size)
            self._kept += size
        self._blocks.move_to_end(name)
        return self._blocks[name][0]

    def _groups_of(self, key: str) -> _Groups:
        if key not in self._groups:
            while len(self._groups) >= MAX_FOOTERS:
                self._groups.popitem(last=False)
            self._groups[key] = _Groups.of(self._file(key).metadata)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _file(self, key: str) -> Any:
        """An open file; its footer takes some kilobytes for every row group, so that few large ones stay open."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if key not in self._open:
            while len(self._open) >= MAX_OPEN or self._open_groups > MAX_OPEN_GROUPS:
                self._open_groups -= self._open.popitem(last=False)[1].num_row_groups
            path = self.folder.path(key)
            # no map of the file: it would end this process when somebody cuts the file
            small = self.folder.sizes[key] <= READ_WHOLE
            file = pq.ParquetFile(pa.BufferReader(path.read_bytes()) if small else pa.OSFile(str(path)))
            self._open[key] = file
            self._open_groups += file.num_row_groups
        self._open.move_to_end(key)
        return self._open[key]

    def _broken(self, at: EpisodeAt, what: str, why: str) -> DataError:
        return DataError(
            what,
            where=f"{self.folder.uri}/{at.data_key}, {at.episode_id}",
            why=why,
            fix=f"data.skip_episodes=[{at.episode_id}], or copy the file again (without finalize() it has no footer)",
        )


def pictures_at(files: DataFiles, at: EpisodeAt, camera: Camera) -> np.ndarray | tuple[bytes, ...]:
    """The pictures of an episode: as they are where a shard can hold them so, else decoded."""
    column = files.rows(at, [camera.name]).column(camera.name).combine_chunks()
    where = f"{files.folder.uri}/{at.data_key}, {at.episode_id}, {camera.name}"
    pictures = _pictures_of(column, files.folder, where)
    return tuple(pictures) if _are_plain_jpegs(pictures, camera) else decoded(pictures, camera, where)


def masks_at(files: DataFiles, at: EpisodeAt, mask: Mask) -> np.ndarray:
    """The masks of an episode, ``[T, H, W]``, nonzero where they are."""
    column = files.rows(at, [mask.name]).column(mask.name).combine_chunks()
    where = f"{files.folder.uri}/{at.data_key}, {at.episode_id}, {mask.name}"
    return decoded(_pictures_of(column, files.folder, where), mask, where)[..., 0]


def numbers_of(column: pa.ChunkedArray, feature: Feature, where: str) -> np.ndarray:
    """A column as ``[T, ...]`` in the feature's dtype, without a loop over steps."""
    import pyarrow as pa

    array = column.combine_chunks()
    array = getattr(array, "storage", array)  # of an extension type
    length = len(array)
    while not array.null_count and pa.types.is_nested(array.type):
        array = array.flatten()
    if array.null_count or len(array) != length * feature.dim:
        raise DataError(
            f"{feature.key} does not have {feature.dim} values in every step",
            where=where,
            why=f"{array.null_count} values are missing, {len(array)} of {length} x {feature.dim} are there",
            fix="leave the episode out with data.skip_episodes, or record it again",
        )
    values = array.to_numpy(zero_copy_only=False)
    return np.asarray(values, feature.dtype).reshape(length, *feature.shape)


def text_numbers(column: pa.ChunkedArray, texts: Mapping[str, int], where: str) -> np.ndarray:
    """A column of texts as their numbers ``[T]``; a missing text is the empty one."""
    try:
        return np.array([texts[each or ""] for each in column.to_pylist()], np.int64)
    except KeyError as error:
        raise DataError(
            "a text is not the one that was there at first",
            where=where,
            why=f"{str(error.args[0])[:80]!r} is new: the table was changed",
            fix="run the same command again, when nobody writes to the dataset",
        ) from error


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def decoded(pictures: Sequence[bytes], camera: Camera | Mask, where: str) -> np.ndarray:
    """Pictures of any encoding as ``uint8 [T, H, W, C]``."""
    import av

    frames = np.empty((len(pictures), camera.height, camera.width, camera.channels), np.uint8)
    decoders: dict[str, Any] = {}
    for i, content in enumerate(pictures):
        name = "png" if content[:4] == b"\x89PNG" else "mjpeg"
        if (claimed := _claimed_size(content)) not in (None, frames.shape[1:3]):  # before a decoder takes memory for it
            raise _bad_picture(where, i, f"it is {claimed}, info.json says {frames.shape[1:3]}")
        if name not in decoders:
            decoders[name] = av.CodecContext.create(name, "r")
        packet: Any = av.Packet(content)
        packet.is_keyframe = True  # else FFmpeg adds the picture before to a PNG
        try:
            shown = decoders[name].decode(packet)[0]
            picture = shown.to_ndarray(format="gray" if camera.channels == 1 else "rgb24")
        except (av.FFmpegError, IndexError, ValueError) as error:
            raise _bad_picture(where, i, f"it cannot be decoded: {error}") from error
        if picture.shape[:2] != frames.shape[1:3]:
            raise _bad_picture(where, i, f"it is {picture.shape[:2]}, info.json says {frames.shape[1:3]}")
        frames[i] = picture.reshape(frames.shape[1:])
    return frames


def _claimed_size(content: bytes) -> tuple[int, ...] | None:
    """Height and width that an encoded picture names; None where it names none."""
    import simplejpeg

    if content[:4] == b"\x89PNG":
        return (int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big"))
    try:
        return tuple(simplejpeg.decode_jpeg_header(content)[:2])
    except ValueError:
        return None


def _are_plain_jpegs(pictures: Sequence[bytes], camera: Camera) -> bool:
    """Whether the pictures can be kept as they are: JPEGs of the camera's size that an mjpeg member can be split into again."""
    import simplejpeg

    if not all(each.startswith(b"\xff\xd8") and each.endswith(b"\xff\xd9") for each in pictures):
        return False
    if any(JPEG_END_START in each for each in pictures):
        return False
    try:
        headers = [simplejpeg.decode_jpeg_header(each) for each in pictures]
    except ValueError:
        return False
    colors = ("Gray",) if camera.channels == 1 else ("YCbCr",)
    return all(
        (height, width) == (camera.height, camera.width) and kind in colors for height, width, kind, _ in headers
    )


def _pictures_of(column: Any, folder: SourceFolder, where: str) -> list[bytes]:
    """The encoded pictures of a struct of bytes and path: bytes where they are, else the file of that name."""
    pictures = []
    for i, each in enumerate(column.to_pylist()):
        if not each or not (each.get("bytes") or each.get("path")):
            raise _bad_picture(where, i, "it has neither bytes nor a path")
        pictures.append(each["bytes"] or folder.read(each["path"]))
    return pictures


def _bad_picture(where: str, step: int, why: str) -> DataError:
    return DataError(
        "a picture in a table is not usable",
        where=f"{where}, step {step}",
        why=why,
        fix="leave the episode out with data.skip_episodes, or record it again",
    )
