"""A window is (episode, t, deltas per feature): the arithmetic that turns windows into row numbers and masks. Pure.

Deltas are steps relative to t, as in LeRobot; robomimic's frame_stack n and seq_length m are the deltas -(n-1) ... m-1.
An edge says what a delta beyond the episode gives. Axes: B windows, W deltas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

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

    num_windows: int

    def locate(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Episode and t of every window."""
        episodes = np.searchsorted(self.start, windows, side="right") - 1
        return episodes, windows - self.start[episodes] + self.t0[episodes]


def window_table(lengths: Sequence[int], spans: Iterable[Span]) -> WindowTable:
    """The windows of episodes of these lengths; the edge ``none`` takes windows away, the others never do."""
    spans = list(spans)
    lengths_E = np.asarray(lengths, np.int64)
    first = max([0, *(-min(span.deltas) for span in spans if span.before == "none")])
    behind = max([0, *(max(span.deltas) for span in spans if span.after == "none")])
    counts = np.maximum(lengths_E - first - behind, 0)
    rows = np.cumsum(lengths_E) - lengths_E
    starts = np.cumsum(counts) - counts  # an episode without windows shares its start with the next, which locate finds
    return WindowTable(rows, lengths_E, np.full(len(lengths_E), first), starts, int(counts.sum()))


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
