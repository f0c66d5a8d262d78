"""A window is (episode, t, deltas per feature): the arithmetic that turns windows into row numbers and masks. Pure.

Deltas are steps relative to t, as in LeRobot; rules.py says the same in the words of the other readers. An edge says
what a delta beyond the episode gives. Axes: B windows, W deltas, E episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

TABLE_WINDOWS = 1 << 24  # up to so many, the episode of a window is looked up rather than searched

Edge = Literal["repeat", "zero", "none"]  # the nearest step, zeros, or no such window at all


@dataclass(frozen=True)
class Span:
    """The deltas of one feature and what happens before the first and after the last step of an episode."""

    deltas: tuple[int, ...]
    before: Edge = "repeat"
    after: Edge = "repeat"


@dataclass(frozen=True)
class WindowTable:
    """All windows of some episodes, numbered episode by episode. Arrays over episodes, int64."""

    row0: np.ndarray  # row of the episode's first step
    length: np.ndarray
    t0: np.ndarray  # t of the episode's first window
    start: np.ndarray  # number of the episode's first window
    counts: np.ndarray  # windows of the episode

    num_windows: int
    stride: int = 1  # steps from one window to the next

    def locate(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Episode and t of every window."""
        episodes = self.episode_of_window(windows)
        return episodes, (windows - self.start[episodes]) * self.stride + self.t0[episodes]

    def episode_of_window(self, windows: np.ndarray) -> np.ndarray:
        """The episode of every window."""
        if self.num_windows <= TABLE_WINDOWS:
            return np.asarray(self._episode_of[windows])
        return np.searchsorted(self.start, windows, side="right") - 1

    @cached_property
    def _episode_of(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)


def window_table(
    lengths: Sequence[int] | np.ndarray, spans: Iterable[Span], stride: int = 1, drop_n_last_frames: int = 0
) -> WindowTable:
    """The windows of episodes of these lengths; the edge ``none`` takes windows away, the others never do.

    Args:
        lengths: steps of every episode.
        spans: of all features.
        stride: steps between the windows of an episode; the last may reach beyond its end.
        drop_n_last_frames: no window begins at the last n steps, as with LeRobot's Diffusion Policy.
    """
    spans = list(spans)
    lengths_E = np.asarray(lengths, np.int64)
    first = max([0, *(-min(span.deltas) for span in spans if span.before == "none")])
    behind = max([0, *(max(span.deltas) for span in spans if span.after == "none")])
    counts = np.maximum(lengths_E - first - max(behind, drop_n_last_frames), 0)
    counts = -(-counts // stride)
    rows = np.cumsum(lengths_E) - lengths_E
    starts = np.cumsum(counts) - counts  # an episode without windows shares its start with the next, which locate finds
    t0 = np.full(len(lengths_E), first)
    return WindowTable(rows, lengths_E, t0, starts, counts, int(counts.sum()), stride)


def steps_of(t_B: np.ndarray, length_B: np.ndarray, deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps inside their episodes ``[B, W]``, and which of them are padding ``[B, W]`` (True: beyond the episode)."""
    wanted = t_B[:, None] + deltas
    steps = np.minimum(np.maximum(wanted, 0), length_B[:, None] - 1)
    return steps, steps != wanted


def spans_of(
    deltas: Mapping[str, Sequence[int]], edges: Mapping[str, Edge | tuple[Edge, Edge]] | None = None
) -> dict[str, Span]:
    """One span per feature; an edge may be one rule or a pair (before, after)."""
    spans = {}
    for name, own in deltas.items():
        edge = (edges or {}).get(name, "repeat")
        before, after = (edge, edge) if isinstance(edge, str) else edge
        spans[name] = Span(tuple(int(delta) for delta in own), before, after)
    return spans
