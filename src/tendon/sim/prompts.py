"""Where the mask of what is aimed at comes from while a policy acts: the simulator's labels, a record, or SAM-2.

A world says what the prompt is (``Prompt``) when an episode starts; its source then gives a mask for every frame, uint8
``[H, W]`` of zeros and ones, all zeros where the object is not seen. Frames are uint8 ``[H, W, 3]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .protocol import Array, Refused

INTERACTIONS = {  # MineStudio's numbers; it reads use as interact
    "hunt": 0, "use": 3, "mine": 2, "interact": 3, "craft": 4, "switch": 5, "approach": 6,
}  # fmt: skip
NO_TARGET = -1
SOURCES = ("labels", "recorded", "sam2")


@dataclass(frozen=True)
class Prompt:
    """What is aimed at in one episode."""

    seed: int
    size: tuple[int, int]  # height and width of frames and masks
    labels: Callable[[], Array] | None = None  # the mask of the newest frame, where the world knows it
    point: Callable[[], tuple[int, int] | None] | None = None  # row and column on the object; None: it is not seen yet


class LabelPrompts:
    """The world's own mask of the object."""

    def start(self, frame: Array, prompt: Prompt) -> Array:
        """The mask of an episode's first frame."""
        if prompt.labels is None:
            raise Refused("this world has no labels of its objects", "env.options.masks=sam2, or recorded")
        self._labels = prompt.labels
        return self._labels()

    def track(self, frame: Array) -> Array:
        """The mask of the next frame."""
        return self._labels()


class RecordedPrompts:
    """Masks that ``save_prompts`` kept for this seed, one for every frame; none is seen after the last one."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise Refused(
                f"there are no recorded masks in {path}", "env.options.record=FILE.npz, as save_prompts makes it"
            )
        self._path = path

    def start(self, frame: Array, prompt: Prompt) -> Array:
        """The mask of an episode's first frame."""
        with np.load(self._path) as file:
            if str(prompt.seed) not in file:
                raise Refused(f"{self._path} holds no masks of seed {prompt.seed}", "choose a seed that was recorded")
            size, packed = tuple(file["size"].tolist()), file[str(prompt.seed)]
        if size != prompt.size:
            why = (
                f"{self._path} holds masks of {size[0]} x {size[1]}, the frames are {prompt.size[0]} x {prompt.size[1]}"
            )
            raise Refused(why, "record them anew in this size")
        self._masks = np.unpackbits(packed, axis=1, count=size[0] * size[1]).reshape(-1, *size)
        self._step = -1
        return self.track(frame)

    def track(self, frame: Array) -> Array:
        """The mask of the next frame."""
        self._step += 1
        if self._step < len(self._masks):
            return np.asarray(self._masks[self._step])
        return np.zeros(self._masks.shape[1:], np.uint8)


def save_prompts(path: Path, masks_by_seed: Mapping[int, Array]) -> None:
    """Keep the masks ``[T, H, W]`` of episodes for ``RecordedPrompts``.

    Example:
        ``save_prompts(Path("masks.npz"), {7: np.stack(masks_of_seed_7)})``
    """
    sizes = {np.shape(masks)[1:] for masks in masks_by_seed.values()}
    if len(sizes) != 1:
        raise ValueError(f"masks of one file have one size, these have {sorted(sizes)}")
    packed: dict[str, Any] = {
        str(seed): np.packbits(masks.reshape(len(masks), -1) != 0, axis=1) for seed, masks in masks_by_seed.items()
    }
    np.savez_compressed(path, size=np.array(sizes.pop()), **packed)


class Sam2Prompts:
    """SAM-2 follows the object from a point on it; before the point is seen, masks are empty.

    It needs ``sam2`` with the camera predictor that MineStudio brings along, and its weights.
    """

    OBJECT = 0

    def __init__(self, config: str, checkpoint: str) -> None:
        try:
            from sam2.build_sam import build_sam2_camera_predictor
        except ImportError as error:
            raise Refused(
                f"SAM-2's camera predictor cannot be imported: {error}",
                "install MineStudio's sam2 into the simulator's interpreter, or env.options.masks=labels",
            ) from error
        if not (config and checkpoint):
            raise Refused(
                "SAM-2 needs its configuration and its weights", "env.options.sam2={config: ..., checkpoint: ...}"
            )
        self._predictor: Any = build_sam2_camera_predictor(config, checkpoint)

    def start(self, frame: Array, prompt: Prompt) -> Array:
        """The mask of an episode's first frame."""
        if prompt.point is None:
            raise Refused("nobody says where the object is", "env.options.point=[row, column]")
        self._point, self._size, self._follows = prompt.point, prompt.size, False
        return self.track(frame)

    def track(self, frame: Array) -> Array:
        """The mask of the next frame."""
        if self._follows:
            _, logits = self._predictor.track(frame)
            return self._mask(logits)
        point = self._point()
        if point is None:
            return np.zeros(self._size, np.uint8)
        self._follows = True
        self._predictor.load_first_frame(frame)
        row, column = point
        _, _, logits = self._predictor.add_new_prompt(
            frame_idx=0,
            obj_id=self.OBJECT,
            points=np.array([[column, row]], np.float32),
            labels=np.array([1], np.int32),
        )
        return self._mask(logits)

    def _mask(self, logits: Any) -> Array:
        first = logits[0]
        values = np.asarray(first.cpu() if hasattr(first, "cpu") else first)
        return np.asarray(values.reshape(self._size) > 0, np.uint8)


PromptSource = LabelPrompts | RecordedPrompts | Sam2Prompts


def prompt_source(options: Mapping[str, Any], default: str) -> PromptSource:
    """The source that ``env.options.masks`` names.

    Args:
        options: of the environment: ``masks``, ``record`` (a file) and ``sam2`` (config and checkpoint).
        default: the source where nobody names one.
    """
    name = options.get("masks", default)
    if name == "labels":
        return LabelPrompts()
    if name == "recorded":
        return RecordedPrompts(Path(str(options.get("record", ""))).absolute())
    if name == "sam2":
        given = dict(options.get("sam2", {}))
        return Sam2Prompts(str(given.get("config", "")), str(given.get("checkpoint", "")))
    raise Refused(f"masks come from {', '.join(SOURCES)}, not from {name!r}", f"env.options.masks={default}")
