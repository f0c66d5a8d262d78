"""The one shape a demonstration has in memory, whatever file it came from, and the schema of many.

Sources make episodes, convert writes them, the schema travels in the manifest. Axes: T steps; H, W, C of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Union

from tendon.data.features import TASK, Feature, column, is_action_part, kind_in_vocabulary

if TYPE_CHECKING:
    import numpy as np

    from tendon.data.masks import RunLengths


@dataclass(frozen=True)
class Camera:
    """One image, or one depth image in metres, per step. ``member`` is its lower-case name inside a shard.

    The last fields are left out of JSON where they say nothing.
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
    kind: Literal["image", "depth"] = "image"  # depth is float32, its codec npy

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one frame."""
        return (self.height, self.width, self.channels)

    @property
    def dtype(self) -> str:
        """Of its values."""
        return "uint8" if self.kind == "image" else "float32"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        usual = {"encoding": "", "fps": 0.0, "chunk": 0, "kind": "image"}
        return {key: value for key, value in asdict(self).items() if key not in usual or value != usual[key]}


@dataclass(frozen=True)
class Mask:
    """One mask of zeros and ones per step. ``member`` is its lower-case name inside a shard."""

    name: str
    member: str
    height: int
    width: int
    codec: Literal["rle", "bits"] = "rle"  # run lengths, or eight pixels a byte

    @property
    def channels(self) -> int:
        """A mask has one channel."""
        return 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one mask."""
        return (self.height, self.width)

    @property
    def dtype(self) -> str:
        """Of its values."""
        return "uint8"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


@dataclass(frozen=True)
class Schema:
    """What every episode of a dataset holds; columns in the order of their bytes in a row.

    ``texts`` is the table that columns of the kind text are indexes into.
    """

    columns: tuple[Feature, ...]
    cameras: tuple[Camera, ...]
    fps: float
    masks: tuple[Mask, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[Feature, ...]:
        """Everything that a step has. ``task`` is always among them: where no column says it, the episode does."""
        images = [Feature(each.name, each.kind, each.shape, each.dtype) for each in self.cameras]
        masks = [Feature(each.name, "mask", (each.height, each.width), "uint8") for each in self.masks]
        task = [] if any(each.key == TASK for each in self.columns) else [Feature(TASK, "text", (), "int64")]
        return (*self.columns, *images, *masks, *task)

    @property
    def format_version(self) -> int:
        """The oldest version of the format that can say this: 1 knows numbers of the vocabulary's kinds and cameras."""
        parts = [each for each in self.columns if is_action_part(each.key)]
        other_kinds = any(each.kind != kind_in_vocabulary(each.key) for each in self.columns)
        other_kinds |= any(each.kind != "image" for each in self.cameras)
        return 2 if self.masks or self.texts or other_kinds or len(parts) > 1 else 1

    @property
    def row_dtype(self) -> np.dtype[np.void]:
        """The structured dtype of one step, packed."""
        import numpy as np

        return np.dtype([(each.key, np.dtype(each.dtype).newbyteorder("<"), each.shape) for each in self.columns])

    @property
    def dims(self) -> dict[str, int]:
        """Numbers per step of every column."""
        return {each.key: each.dim for each in self.columns}

    @property
    def pictures(self) -> tuple[Camera | Mask, ...]:
        """Cameras, then masks."""
        return (*self.cameras, *self.masks)

    @property
    def text_keys(self) -> tuple[str, ...]:
        """The columns that are indexes into ``texts``."""
        return tuple(each.key for each in self.columns if each.kind == "text")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; the byte offset of every column in a row is added for other readers.

        In the oldest version that can say it: the values are part of the dataset's digest.
        """
        dtype = self.row_dtype
        offsets = {name: entry[1] for name, entry in (dtype.fields or {}).items()}
        newer = self.format_version > 1
        features = []
        for each in self.columns:
            entry = {"dtype": each.dtype, "shape": list(each.shape), "source_dtype": each.source_dtype}
            meaning = {"key": each.key, "kind": each.kind, "names": list(each.names)} if newer else {"name": each.key}
            features.append(entry | meaning | {"offset": offsets[each.key]})
        values = {
            "fps": self.fps,
            "row_bytes": dtype.itemsize,
            "features": features,
            "cameras": [each.to_json() for each in self.cameras],
        }
        if newer:
            values |= {"masks": [each.to_json() for each in self.masks], "texts": list(self.texts)}
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Schema:
        """The schema that ``to_json`` described, in either version."""
        columns = tuple(
            column(
                each.get("key") or each["name"],
                each["dtype"],
                tuple(each["shape"]),
                each["source_dtype"],
                kind=each.get("kind"),
                names=tuple(each.get("names", ())),
            )
            for each in values["features"]
        )
        cameras = tuple(Camera(**each) for each in values["cameras"])
        masks = tuple(Mask(**each) for each in values.get("masks", ()))
        return cls(columns, cameras, values["fps"], masks, tuple(values.get("texts", ())))


@dataclass(frozen=True)
class VideoChunk:
    """Consecutive frames of one camera as an mp4 that starts with a key frame and needs nothing outside of it."""

    content: bytes
    first_frame: int  # of the episode
    num_frames: int  # frames of the episode in it
    skip: int = 0  # frames at its front that belong to no episode: it was cut at the key frame before


Frames = Union["np.ndarray", tuple[bytes, ...], tuple[VideoChunk, ...]]
Masks = Union["np.ndarray", "RunLengths"]  # [T, H, W], nonzero where the mask is; or runs of ones per step


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

    ``features`` holds ``[T, ...]`` arrays by key; ``images`` by camera name raw ``uint8 [T, H, W, C]``, T encoded images,
    or the chunks of a video that together show T frames; ``masks`` by name T masks. ``task`` is the text of the whole
    episode; a text that changes from step to step is a column of indexes into the schema's ``texts``.
    """

    episode_id: str
    length: int
    features: Mapping[str, np.ndarray]
    images: Mapping[str, Frames] = field(default_factory=dict)
    task: str = ""
    success: bool | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, bytes] = field(default_factory=dict)  # anything else, by lower-case file name; kept as it is
    masks: Mapping[str, Masks] = field(default_factory=dict)
