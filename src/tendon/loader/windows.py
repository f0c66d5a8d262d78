"""A window is (episode, t, deltas per feature). This file turns windows into row numbers and masks. Pure.

``Windows`` is what a policy declares: what its loss reads, what ``act`` reads, and how windows follow each other. Deltas are
steps relative to t, as in LeRobot; window_presets.py has those of other data loaders. An edge rule says what a delta beyond
the episode gives. Axes: B windows, W deltas, E episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

TABLE_WINDOWS = 1 << 24  # up to so many windows, a table holds the episode of each; above, it is searched

Edge = Literal["repeat", "zero", "none"]  # the nearest step, zeros, or no such window at all


@dataclass(frozen=True)
class Span:
    """The deltas of one feature, and the edge rules before the first and after the last step of an episode."""

    deltas: tuple[int, ...]
    before: Edge = "repeat"
    after: Edge = "repeat"


@dataclass(frozen=True)
class Windows:
    """The windows of a policy. Training and acting are two maps on purpose: what acts must never see the future.

    Example:
        ``Windows({"observation.state": Span((0,)), "action": Span(tuple(range(16)))}, {"observation.state": Span((0,))}, chunk=16)``
    """

    training: Mapping[str, Span]  # what the loss reads: observations and targets
    acting: Mapping[str, Span] = field(default_factory=dict)  # what act reads: observations, no step after now
    chunk: int = 1  # actions predicted
    execute: int = 1  # of them carried out
    drop_last: int = 0  # no window begins at the last n steps of an episode (LeRobot's drop_n_last_frames)
    stateful: bool = False  # the loss takes the memory of the batch before: rows walk through episodes
    stride: int = 1  # steps between the windows of an episode

    def __post_init__(self) -> None:
        for key, span in self.acting.items():
            if not span.deltas or max(span.deltas) > 0:
                raise ValueError(
                    f"acting reads {key} at the steps {list(span.deltas)}: it may read steps up to now (0)"
                )
        if not 1 <= self.execute <= self.chunk:
            raise ValueError(f"{self.execute} of {self.chunk} predicted actions cannot be carried out")

    @property
    def validation(self) -> Mapping[str, Span]:
        """What the loss of validation reads: of what acting reads, what it would see then; of the rest, as training."""
        return dict(self.training) | {key: span for key, span in self.acting.items() if key in self.training}

    @classmethod
    def of(
        cls,
        deltas: Mapping[str, Sequence[int] | Span],
        edges: Mapping[str, Edge | tuple[Edge, Edge]] | None = None,
        **other: Any,
    ) -> Windows:
        """Windows for training alone.

        Example:
            ``Windows.of({"observation.state": (-1, 0), "action": (0, 1)}, edges={"action": "zero"}, stride=2)``
        """
        plain = {key: each for key, each in deltas.items() if not isinstance(each, Span)}
        spans = spans_of(plain, edges)
        return cls({key: each if isinstance(each, Span) else spans[key] for key, each in deltas.items()}, **other)


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
    lengths: Sequence[int] | np.ndarray, spans: Iterable[Span], stride: int = 1, drop_last: int = 0
) -> WindowTable:
    """The windows of episodes of these lengths. The edge ``none`` removes windows that reach over it; others never do.

    Args:
        lengths: steps of every episode.
        spans: of all features.
        stride: steps between the windows of an episode; its last window may reach beyond its end.
        drop_last: no window begins at the last n steps, as with LeRobot's Diffusion Policy.
    """
    spans = list(spans)
    lengths_E = np.asarray(lengths, np.int64)
    first_t = max([0, *(-min(span.deltas) for span in spans if span.before == "none")])
    lost_at_end = max([0, *(max(span.deltas) for span in spans if span.after == "none")])
    counts = np.maximum(lengths_E - first_t - max(lost_at_end, drop_last), 0)
    counts = -(-counts // stride)
    rows = np.cumsum(lengths_E) - lengths_E
    starts = (
        np.cumsum(counts) - counts
    )  # an episode without windows has the start of the next one, which locate returns
    t0 = np.full(len(lengths_E), first_t)
    return WindowTable(rows, lengths_E, t0, starts, counts, int(counts.sum()), stride)


def steps_of(t_B: np.ndarray, length_B: np.ndarray, deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps clipped to their episodes ``[B, W]``, and which of them are padding ``[B, W]`` (True: beyond the episode)."""
    unclipped = t_B[:, None] + deltas
    steps = np.minimum(np.maximum(unclipped, 0), length_B[:, None] - 1)
    return steps, steps != unclipped


def spans_of(
    deltas: Mapping[str, Sequence[int]], edges: Mapping[str, Edge | tuple[Edge, Edge]] | None = None
) -> dict[str, Span]:
    """One span per feature; an edge is one rule or a pair (before, after)."""
    spans = {}
    for name, feature_deltas in deltas.items():
        edge = (edges or {}).get(name, "repeat")
        before, after = (edge, edge) if isinstance(edge, str) else edge
        spans[name] = Span(tuple(int(delta) for delta in feature_deltas), before, after)
    return spans
