"""The one shape a demonstration has in memory, whatever file it came from, and the schema of many.

Sources make episodes, convert writes them, the schema travels in the manifest. Axes: T steps; H, W, C of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Feature:
    """One low-dimensional quantity per step; ``shape`` without the time axis, () for a scalar."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source_dtype: str  # what the source held; differs from dtype where values were cast

    @property
    def dim(self) -> int:
        """How many numbers a step has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Camera:
    """One image per step. ``member`` is its lower-case name inside a shard.

    The last three fields say more of an mp4 and are left out of JSON where they say nothing.
    """

    name: str
    member: str
    height: int
    width: int
    channels: int
    codec: str = "mjpeg"  # or "mp4": chunks of video; or "npy": raw frames, of an exact copy
    encoding: str = ""  # inside of an mp4: h264, av1, ...
    fps: float = 0.0  # of the mp4
    chunk: int = 0  # frames per mp4; fewer in the last one and where the source's key frames say so

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {key: value for key, value in asdict(self).items() if value or key not in ("encoding", "fps", "chunk")}


@dataclass(frozen=True)
class Schema:
    """What every episode of a dataset holds; features in the order of their bytes in a row."""

    features: tuple[Feature, ...]
    cameras: tuple[Camera, ...]
    fps: float

    @property
    def row_dtype(self) -> np.dtype[np.void]:
        """The structured dtype of one step, packed."""
        import numpy as np

        return np.dtype([(each.name, np.dtype(each.dtype).newbyteorder("<"), each.shape) for each in self.features])

    @property
    def dims(self) -> dict[str, int]:
        """Numbers per step of every feature."""
        return {each.name: each.dim for each in self.features}

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; the byte offset of every feature in a row is added for other readers."""
        dtype = self.row_dtype
        offsets = {name: entry[1] for name, entry in (dtype.fields or {}).items()}
        return {
            "fps": self.fps,
            "row_bytes": dtype.itemsize,
            "features": [
                asdict(each) | {"shape": list(each.shape), "offset": offsets[each.name]} for each in self.features
            ],
            "cameras": [each.to_json() for each in self.cameras],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Schema:
        """The schema that ``to_json`` described."""
        features = tuple(
            Feature(each["name"], each["dtype"], tuple(each["shape"]), each["source_dtype"])
            for each in values["features"]
        )
        return cls(features, tuple(Camera(**each) for each in values["cameras"]), values["fps"])


@dataclass(frozen=True)
class VideoChunk:
    """Consecutive frames of one camera as an mp4 that starts with a key frame and needs nothing outside of it."""

    content: bytes
    first_frame: int  # of the episode
    num_frames: int  # frames of the episode in it
    skip: int = 0  # frames at its front that belong to no episode: it was cut at the key frame before


Frames = Union["np.ndarray", tuple[bytes, ...], tuple[VideoChunk, ...]]


class LazyImages(Mapping[str, Frames]):
    """Frames by camera, made when they are asked for and not kept: one camera at a time is in memory."""

    def __init__(self, makers: Mapping[str, Callable[[], Frames]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> Frames:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True)
class Episode:
    """One demonstration.

    ``features`` holds ``[T, ...]`` arrays by feature name; ``images`` by camera name raw ``uint8 [T, H, W, C]``, T
    encoded images, or the chunks of a video that together show T frames.
    """

    episode_id: str
    length: int
    features: Mapping[str, np.ndarray]
    images: Mapping[str, Frames] = field(default_factory=dict)
    task: str = ""
    success: bool | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, bytes] = field(default_factory=dict)  # anything else, by lower-case file name; kept as it is
