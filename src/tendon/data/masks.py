"""Masks of zeros and ones as bytes: run lengths for few large areas, bits for anything. Pure.

A member ``<mask>.rle`` is one array uint32: the number of the first run of every step and of the end, then start and length
of each run, pixels counted row by row from 0. ``<mask>.bits`` is one array uint8 ``[T, bytes]``, the first pixel highest.
Axes: T steps, N runs, H, W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

CODECS = ("rle", "bits")


@dataclass(frozen=True)
class RunLengths:
    """Masks of T steps. Step t has the runs ``first[t]`` to ``first[t + 1]``; a run is a start and a length."""

    first: np.ndarray  # uint32 [T + 1]
    runs: np.ndarray  # uint32 [N, 2]

    def __len__(self) -> int:
        return len(self.first) - 1

    @classmethod
    def of(cls, masks: np.ndarray) -> RunLengths:
        """Of ``masks [T, H, W]``, nonzero where the mask is."""
        runs = [_runs(mask.reshape(-1) != 0) for mask in masks]
        return cls.joined(runs)

    @classmethod
    def of_text(cls, texts: Sequence[str]) -> RunLengths:
        """Of MineStudio's text per step: blank-separated starts, which count from 1, and lengths.

        Raises:
            ValueError: a text is something else.
        """
        runs = []
        for text in texts:
            numbers = np.array(text.split(), np.int64)
            if len(numbers) % 2 or (numbers < 1).any():
                raise ValueError(f"{text[:40]!r} is not a list of starts (from 1) and lengths")
            runs.append((numbers.reshape(-1, 2) - [1, 0]).astype(np.uint32))
        return cls.joined(runs)

    @classmethod
    def joined(cls, runs: Sequence[np.ndarray]) -> RunLengths:
        """Of the runs ``[N, 2]`` of every step."""
        first = np.cumsum([0, *(len(each) for each in runs)]).astype(np.uint32)
        return cls(first, np.concatenate([*runs, np.zeros((0, 2), np.uint32)]).astype(np.uint32))

    def text(self, step: int) -> str:
        """The mask of a step as MineStudio writes it."""
        runs = self.runs[self.first[step] : self.first[step + 1]]
        return " ".join(f"{start + 1} {length}" for start, length in runs.tolist())

    @property
    def end(self) -> int:
        """The pixel behind the last one of any mask."""
        return int(self.runs.astype(np.int64).sum(1).max(initial=0))

    def into(self, step: int, out_HW: np.ndarray) -> None:
        """Write the mask of a step into ``uint8 [H, W]``."""
        flat = out_HW.reshape(-1)
        flat[:] = 0
        for start, length in self.runs[self.first[step] : self.first[step + 1]].tolist():
            flat[start : start + length] = 1

    def decoded(self, height: int, width: int) -> np.ndarray:
        """All of them, ``uint8 [T, H, W]``."""
        out = np.zeros((len(self), height, width), np.uint8)
        for step in range(len(self)):
            self.into(step, out[step])
        return out

    def resized(self, size: tuple[int, int], target: tuple[int, int]) -> RunLengths:
        """The nearest pixel of masks of another size."""
        out, pixels = [], np.empty(size, np.uint8)
        for step in range(len(self)):
            self.into(step, pixels)
            out.append(_runs(nearest(pixels[None], target)[0].reshape(-1) != 0))
        return RunLengths.joined(out)


def member_array(masks: np.ndarray | RunLengths, codec: str) -> np.ndarray:
    """The array of a member."""
    if codec == "bits":
        assert isinstance(masks, np.ndarray), "masks that are stored as bits come as an array"
        return np.packbits(masks.reshape(len(masks), -1) != 0, axis=1)
    runs = masks if isinstance(masks, RunLengths) else RunLengths.of(masks)
    return np.concatenate([runs.first, runs.runs.reshape(-1)]).astype("<u4")


def opened(values: np.ndarray, codec: str, length: int) -> Callable[[int, np.ndarray], None]:
    """A function of step and ``uint8 [H, W]`` that writes the mask of that step, from the array of a member.

    Raises:
        ValueError: it is another array, or holds other steps.
    """
    if codec == "rle":
        return run_lengths(values, length).into
    if len(values) != length:
        raise ValueError(f"it holds {len(values)} masks, the episode has {length} steps")

    def unpack(step: int, out_HW: np.ndarray) -> None:
        out_HW.reshape(-1)[:] = np.unpackbits(values[step], count=out_HW.size)

    return unpack


def decoded(values: np.ndarray, codec: str, shape: tuple[int, int, int]) -> np.ndarray:
    """All masks of a member's array, ``uint8 [T, H, W]``."""
    out = np.empty(shape, np.uint8)
    write = opened(values, codec, shape[0])
    for step in range(shape[0]):
        write(step, out[step])
    return out


def nearest(masks: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """``[T, H, W, ...]`` in another size: each pixel is the one at its place in the original, as with INTER_NEAREST."""
    rows, columns = (
        np.minimum(np.arange(new) * old // new, old - 1) for old, new in zip(masks.shape[1:3], target, strict=True)
    )
    return np.asarray(masks[:, rows][:, :, columns])


def run_lengths(values: np.ndarray, length: int) -> RunLengths:
    """The runs of a member's array.

    Raises:
        ValueError: it does not hold the runs of so many masks.
    """
    first, runs = values[: length + 1], values[length + 1 :]
    if len(first) != length + 1 or len(runs) != 2 * int(first[-1]):
        raise ValueError(f"it does not hold the runs of {length} masks")
    return RunLengths(first, runs.reshape(-1, 2))


def _runs(mask: np.ndarray) -> np.ndarray:
    """Starts and lengths of the runs of a flat mask of bool."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return np.stack([edges[::2], edges[1::2] - edges[::2]], 1).astype(np.uint32)
