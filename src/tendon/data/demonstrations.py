"""What writers read: a committed dataset, or Episodes that are in no dataset, through one interface.

``Dataset`` is a ``Demonstrations`` as it is; ``SourceDemonstrations`` makes one of any Source, so that Episodes go from a
simulator's expert or a foreign file to any writer without a dataset in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np

from tendon.data.episode import Camera, Episode, Mask, Schema, VideoChunk
from tendon.data.images import prepared
from tendon.data.masks import RunLengths
from tendon.data.plan import ConversionOptions, plan_conversion
from tendon.data.rows import EpisodeRow
from tendon.data.sources.first_look import described
from tendon.data.sources.source import Source
from tendon.data.tario import MP4, jpegs, rows_of

TRAIN = "train"


class Demonstrations(Protocol):
    """Episodes by row, with their values by feature, camera and mask."""

    @property
    def uri(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def schema(self) -> Schema: ...  # noqa: D102
    @property
    def metadata(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def rows(self) -> Sequence[EpisodeRow]: ...  # noqa: D102
    @property
    def splits(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def texts(self) -> tuple[str, ...]: ...  # noqa: D102
    def episodes(self, split: str) -> Sequence[EpisodeRow]: ...  # noqa: D102
    def lowdim(self, row: EpisodeRow) -> np.ndarray: ...  # noqa: D102
    def frames(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> np.ndarray: ...  # noqa: D102
    def jpegs(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> list[bytes]: ...  # noqa: D102
    def video_chunks(  # noqa: D102
        self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None
    ) -> list[VideoChunk]: ...
    def masks(self, row: EpisodeRow, name: str) -> np.ndarray: ...  # noqa: D102
    def run_lengths(self, row: EpisodeRow, name: str) -> RunLengths: ...  # noqa: D102
    def extras(self, row: EpisodeRow) -> dict[str, bytes]: ...  # noqa: D102


class SourceDemonstrations:
    """The Episodes of a source. One of them is in memory at a time, unless the source keeps them all.

    Example:
        ``write_dataset(SourceDemonstrations(EpisodesSource("demo", schema, episodes, digest)), "out.hdf5", "robomimic")``
    """

    def __init__(self, source: Source, name: str = "", options: ConversionOptions | None = None) -> None:
        """Describe the source.

        Args:
            source: of the Episodes.
            name: what formats that have a name for a dataset write.
            options: episodes to skip, image size and so on.

        Raises:
            DataError: an episode cannot be written (all such episodes at once), or there is none.
        """
        self._source, self._plan = source, plan_conversion(described(source), options)
        self.uri, self.name = source.uri, name or source.uri.rstrip("/").rpartition("/")[2]
        self.schema, self.metadata = self._plan.schema, self._plan.info.metadata
        self._current: Episode | None = None

    @cached_property
    def rows(self) -> tuple[EpisodeRow, ...]:
        """Every episode, in the order of the source."""
        rows = []
        for i, info in enumerate(self._plan.episodes):
            episode = self._source.read(info.episode_id, images=False)
            rows.append(EpisodeRow(i, info.episode_id, 0, info.length, episode.task, episode.success, info.splits))
        return tuple(rows)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits."""
        return tuple(sorted({split for each in self._plan.episodes for split in each.splits}))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The table of texts: that of the schema, then tasks of episodes that it lacks."""
        return tuple(dict.fromkeys([*self.schema.texts, *(row.task for row in self.rows)]))

    def episodes(self, split: str) -> list[EpisodeRow]:
        """The episodes of a split."""
        return [row for row in self.rows if split in row.splits]

    def lowdim(self, row: EpisodeRow) -> np.ndarray:
        """The steps of an episode as one structured array ``[T]``."""
        return rows_of(self._episode(row), self.schema)

    def frames(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> np.ndarray:
        """Frames of one camera, ``uint8 [N, H, W, C]``."""
        from tendon.data.video import decode_chunks, decode_jpegs

        stored: Any = self._episode(row).images[camera]
        wanted = range(row.length) if frames is None else frames
        if isinstance(stored, np.ndarray):
            return stored if frames is None else np.asarray(stored[np.asarray(frames, np.int64)])
        if stored and isinstance(stored[0], VideoChunk):
            return decode_chunks(list(stored), wanted)
        return decode_jpegs([stored[i] for i in wanted], self._camera(camera).channels)

    def jpegs(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> list[bytes]:
        """Encoded frames of one camera."""
        encoded = list(jpegs(self._episode(row).images[camera], self._camera(camera), self._plan.options.jpeg_quality))
        return encoded if frames is None else [encoded[i] for i in frames]

    def video_chunks(self, row: EpisodeRow, camera: str, frames: Sequence[int] | None = None) -> list[VideoChunk]:
        """The chunks of a camera whose frames are video; only those with one of ``frames`` where these are given."""
        assert self._camera(camera).codec == MP4, camera
        chunks = cast("tuple[VideoChunk, ...]", self._episode(row).images[camera])
        if frames is None:
            return list(chunks)
        firsts = [chunk.first_frame for chunk in chunks]
        return [chunks[k] for k in np.unique(np.searchsorted(firsts, np.asarray(frames), "right") - 1).tolist()]

    def masks(self, row: EpisodeRow, name: str) -> np.ndarray:
        """All masks of one name, ``uint8 [T, H, W]`` of zeros and ones."""
        masks, of = self._episode(row).masks[name], self._mask(name)
        if isinstance(masks, RunLengths):
            return masks.decoded(of.height, of.width)
        return np.asarray(masks != 0, np.uint8)

    def run_lengths(self, row: EpisodeRow, name: str) -> RunLengths:
        """All masks of one name as runs."""
        masks = self._episode(row).masks[name]
        return masks if isinstance(masks, RunLengths) else RunLengths.of(masks)

    def extras(self, row: EpisodeRow) -> dict[str, bytes]:
        """What else an episode has, by file name."""
        return dict(self._episode(row).extras)

    def _episode(self, row: EpisodeRow) -> Episode:
        if self._current is None or self._current.episode_id != row.episode_id:
            self._current = prepared(self._source.read(row.episode_id), self.schema, self._plan.info)
        return self._current

    def _camera(self, name: str) -> Camera:
        return next(each for each in self.schema.cameras if each.name == name)

    def _mask(self, name: str) -> Mask:
        return next(each for each in self.schema.masks if each.name == name)
