"""LeRobot's statistics of an episode and of all: min, max, mean, std, count and quantiles per feature.

Exact where LeRobot's are: in float64, deviations from the mean. Cameras are sampled and scaled to [0, 1]; LeRobot 0.4.4
squares their bytes without widening them, so that its std of a camera is wrong and differs from ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from tendon.data import mp4
from tendon.data.demonstrations import Demonstrations
from tendon.data.episode import Camera, Mask
from tendon.data.rows import EpisodeRow
from tendon.data.tario import MP4
from tendon.data.video import decode_mp4

MAX_VALUES = 50_000_000  # kept of one feature for exact quantiles; of more, every k-th step
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
FRAMES_PER_EPISODE = 8  # of every camera; a video gives the key frames that are nearest, which decode alone
LARGE_SIDE = 300  # pixels from which on a picture is thinned to about half of it
STACKED_AT_ONCE = 1024  # episodes
Stats = dict[str, np.ndarray]


def stats_of(values: np.ndarray, quantiles: bool = True) -> Stats:
    """The statistics of ``[T, ...]`` over T; scalars become one-dimensional."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    shape = values.shape[1:] or (1,)
    stats = {
        "min": values.min(0).reshape(shape),
        "max": values.max(0).reshape(shape),
        "mean": rows.mean(0).reshape(shape),
        "std": rows.std(0).reshape(shape),
        "count": np.array([len(values)]),
    }
    if quantiles:
        at = np.quantile(rows, list(QUANTILES.values()), axis=0)
        stats |= {name: each.reshape(shape) for name, each in zip(QUANTILES, at, strict=True)}
    return stats


def camera_stats(dataset: Demonstrations, row: EpisodeRow, camera: Camera, quantiles: bool = True) -> Stats:
    """The statistics of a camera's channels, shape (C, 1, 1); the count is that of the frames looked at."""
    return _picture_stats(_sample(dataset, row, camera), quantiles)


def mask_stats(dataset: Demonstrations, row: EpisodeRow, mask: Mask, quantiles: bool = True) -> Stats:
    """The same of a mask, whose pictures are black and white."""
    return _picture_stats(dataset.masks(row, mask.name)[_sampled(row), :, :, None] * 255, quantiles)


def _picture_stats(frames: np.ndarray, quantiles: bool) -> Stats:
    side = max(frames.shape[1:3])
    step = max(side // (LARGE_SIDE // 2), 1) if side >= LARGE_SIDE else 1
    pixels = frames[:, ::step, ::step].reshape(-1, frames.shape[3]) / 255.0
    stats = {name: each.reshape(-1, 1, 1) for name, each in stats_of(pixels, quantiles).items() if name != "count"}
    return stats | {"count": np.array([len(frames)])}


class _Pile:
    """Arrays that become one, below each other; of many small ones, a thousand are joined at a time, which takes less memory."""

    def __init__(self) -> None:
        self._large: list[np.ndarray] = []
        self._small: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        self._small.append(values)
        if len(self._small) >= STACKED_AT_ONCE:
            self._large.append(np.concatenate(self._small))
            self._small = []

    def joined(self) -> np.ndarray:
        return np.concatenate([*self._large, *self._small])


class AllStats:
    """The statistics of many episodes, a hundred thousand of them in some hundred megabytes, and those of all together."""

    def __init__(self) -> None:
        self._piles: defaultdict[str, defaultdict[str, _Pile]] = defaultdict(lambda: defaultdict(_Pile))

    def add(self, stats: Mapping[str, Stats]) -> None:
        """Take an episode into account."""
        for name, each in stats.items():
            piles = self._piles[name]
            for kind, values in each.items():
                piles[kind].add(values[None])

    def merged(self, steps: Sequence[int]) -> dict[str, Stats]:
        """For every feature; an episode counts by its ``steps``, however many of its pictures were looked at."""
        merged = {}
        for name in list(self._piles):
            piles = self._piles.pop(name)
            merged[name] = _merged({kind: pile.joined() for kind, pile in piles.items()}, steps)
        return merged


def _merged(stacks: Mapping[str, np.ndarray], steps: Sequence[int]) -> Stats:
    """The statistics of all parts ``[E, ...]`` together; quantiles (of cameras) are weighted means, as LeRobot 0.4.4 has them.

    ``steps`` weight the parts, whose counts may be those of a sample.
    """
    counts = stacks["count"][:, 0].astype(np.float64)
    sizes = np.asarray(steps, np.float64)
    means = stacks["mean"]
    weights = (sizes / sizes.sum()).reshape(-1, *[1] * (means.ndim - 1))
    mean = (weights * means).sum(0)
    variances = stacks["std"] ** 2 + (means - mean) ** 2
    stats = {
        "min": stacks["min"].min(0),
        "max": stacks["max"].max(0),
        "mean": mean,
        "std": np.sqrt((weights * variances).sum(0)),
        "count": np.array([int(counts.sum())]),
    }
    return stats | {name: (weights * stacks[name]).sum(0) for name in QUANTILES if name in stacks}


class Quantiles:
    """Quantiles of every feature over all steps, exact up to MAX_VALUES values and of evenly spaced steps above."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._piles: defaultdict[str, _Pile] = defaultdict(_Pile)

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take an episode into account."""
        for name, values in arrays.items():
            every = -(-self.steps * int(np.prod(values.shape[1:])) // MAX_VALUES)
            self._piles[name].add(values[:: max(every, 1)])

    def of(self, name: str) -> Stats:
        """The quantiles of a feature."""
        values = self._piles.pop(name).joined()
        columns = values.reshape(len(values), -1).T  # one at a time in float64, which takes less memory
        at = [np.quantile(each.astype(np.float64), list(QUANTILES.values())) for each in columns]
        by_kind = np.reshape(at, (-1, len(QUANTILES))).T
        return {kind: each.reshape(values.shape[1:] or (1,)) for kind, each in zip(QUANTILES, by_kind, strict=True)}


class Totals:
    """The statistics of everything that is added, with exact quantiles of what is no picture."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = lengths
        self._stats, self._quantiles = AllStats(), Quantiles(sum(lengths))
        self._numeric: set[str] = set()

    def add(self, arrays: Mapping[str, np.ndarray], stats: Mapping[str, Stats]) -> None:
        """Take the next episode into account: its numbers, and the statistics of all its features."""
        self._numeric |= arrays.keys()
        self._quantiles.add(arrays)
        self._stats.add(stats)

    def merged(self) -> dict[str, Stats]:
        """For every feature."""
        merged = self._stats.merged(self._lengths)
        return {
            name: each | (self._quantiles.of(name) if name in self._numeric else {}) for name, each in merged.items()
        }


def _sample(dataset: Demonstrations, row: EpisodeRow, camera: Camera) -> np.ndarray:
    wanted = _sampled(row)
    if camera.codec != MP4:
        return dataset.frames(row, camera.name, wanted.tolist())
    frames = []
    for chunk in dataset.video_chunks(row, camera.name, wanted.tolist()):
        track = mp4.read_track(chunk.content)
        inside = wanted[(wanted >= chunk.first_frame) & (wanted < chunk.first_frame + chunk.num_frames)]
        at = np.searchsorted(track.cuts, inside - chunk.first_frame + chunk.skip, "right") - 1
        frames += [
            decode_mp4(mp4.cut(chunk.content, track, key, key + 1)) for key in np.unique(track.cuts[at]).tolist()
        ]
    return np.concatenate(frames)


def _sampled(row: EpisodeRow) -> np.ndarray:
    """The steps of an episode whose pictures are looked at."""
    return np.unique(np.linspace(0, row.length - 1, min(FRAMES_PER_EPISODE, row.length)).round().astype(int))
