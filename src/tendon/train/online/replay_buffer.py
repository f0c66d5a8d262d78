"""The newest episodes up to a number of frames: a ring of whole episodes, the oldest leave first. Pure but for its own contents.

Which rows a batch takes is a function of numbers of chance and of the episodes that are there: nothing else is kept.
Axes: B rows, W steps of a window, E episodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tendon.loader.windows import Windows, steps_of
from tendon.train.online.episodes import OnlineEpisode

Arrays = dict[str, np.ndarray]


class ReplayBuffer:
    """Episodes in the order in which they were played."""

    def __init__(self, capacity: int) -> None:
        """``capacity``: frames."""
        self.capacity = capacity
        self.episodes: deque[OnlineEpisode] = deque()
        self.num_frames = 0

    def add(self, episodes: Iterable[OnlineEpisode]) -> None:
        """Behind the others; as many of the oldest leave as are too much."""
        for episode in episodes:
            self.episodes.append(episode)
            self.num_frames += episode.num_frames
            while self.num_frames > self.capacity:
                self.num_frames -= self.episodes.popleft().num_frames

    @property
    def span(self) -> tuple[int, int]:
        """Numbers of the first episode and behind the last one."""
        return (self.episodes[0].number, self.episodes[-1].number + 1) if self.episodes else (0, 0)

    def between(self, first: int, end: int) -> list[OnlineEpisode]:
        """Those with a number from ``first`` to before ``end`` that are still there."""
        return [episode for episode in self.episodes if first <= episode.number < end]

    @property
    def num_bytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for episode in self.episodes for array in episode.values.values())


def drawn_rows(episodes: Sequence[OnlineEpisode], draws_B: np.ndarray, windows: Windows, drop_last: int) -> Arrays:
    """Windows at random steps, each as likely as the others: arrays as the loader gives them.

    Args:
        episodes: to draw from.
        draws_B: numbers in [0, 1).
        windows: steps of each feature, by the keys of the dataset.
        drop_last: no window begins at the last n steps of an episode.
    """
    counts_E = np.array([max(0, episode.num_steps - drop_last) for episode in episodes], np.int64)
    ends_E = np.cumsum(counts_E)
    chosen_B = np.minimum((draws_B * ends_E[-1]).astype(np.int64), ends_E[-1] - 1)
    place_B = np.searchsorted(ends_E, chosen_B, side="right")
    t_B = chosen_B - (ends_E - counts_E)[place_B]
    rows: Arrays = {}
    for key, span in windows.training.items():
        lengths_B = np.array([len(episode.values[key]) for episode in episodes], np.int64)[place_B]
        steps_BW, beyond_BW = steps_of(t_B, lengths_B, np.array(span.deltas))
        first = episodes[0].values[key]
        values = np.empty((*steps_BW.shape, *first.shape[1:]), first.dtype)
        for place in np.unique(place_B):
            own_B = place_B == place
            values[own_B] = episodes[place].values[key][steps_BW[own_B]]
        rows |= {key: values, f"{key}_is_pad": beyond_BW}
    numbers_E = np.array([episode.number for episode in episodes], np.int64)
    return rows | {"episode_index": -1 - numbers_E[place_B], "frame_index": t_B}


def num_windows(episodes: Iterable[OnlineEpisode], drop_last: int) -> int:
    """How many windows there are to draw from."""
    return sum(max(0, episode.num_steps - drop_last) for episode in episodes)


# -------------------------------------------------------------------------------------------------------- as a checkpoint


def tensors_of(episodes: Iterable[OnlineEpisode]) -> dict[str, Tensor]:
    """Every array of the episodes; they share its memory."""
    return {
        f"{episode.number}/{key}": torch.from_numpy(array)
        for episode in episodes
        for key, array in episode.values.items()
    }


def episodes_of(facts: Iterable[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> list[OnlineEpisode]:
    """The inverse: of their facts and the arrays by number."""
    arrays: dict[int, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition("/")
        arrays.setdefault(int(number), {})[key] = tensor.numpy()
    return [OnlineEpisode(values=arrays[one["number"]], **one) for one in facts]
