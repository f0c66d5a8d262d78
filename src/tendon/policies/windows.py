"""Keys and windows of a policy, without torch: what it reads and predicts, in steps relative to now (0).

A policy's ``config.py`` makes ``tendon.loader.windows.Windows`` here; training and acting are two maps in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tendon.loader.windows import Span, Windows

__all__ = ["ACTION", "GOAL", "IMAGES", "NOW", "OBSERVATION", "Span", "Windows", "bare", "in_order", "windows_of"]

ACTION = "action"
GOAL = "goal."  # before a feature's name: its value in the last step of the episode, [B, 1, ...]
OBSERVATION, IMAGES = "observation.", "observation.images."
NOW = Span((0,))


def windows_of(
    reads: Sequence[str],
    writes: Sequence[str],
    deltas: Sequence[int],
    targets: Sequence[int],
    acting: Sequence[int] = (),
    **other: Any,
) -> Windows:
    """Windows in which all observations have the same steps; a goal has one, and the data says which.

    Args:
        reads: keys of the observations and goals.
        writes: keys of the actions.
        deltas: steps of the observations in training.
        targets: steps of the actions.
        acting: steps of the observations when acting; as in training where none are given.
        other: chunk, execute, drop_last, stateful, stride.

    Example:
        ``windows_of(self.reads(features), self.writes(features), (-1, 0), range(16), chunk=16, execute=8)``
    """
    seen, shown = Span(tuple(deltas)), Span(tuple(acting or deltas))
    training = {key: NOW if key.startswith(GOAL) else seen for key in reads}
    targets_of = {key: Span(tuple(targets)) for key in writes}
    return Windows(training | targets_of, {key: NOW if key.startswith(GOAL) else shown for key in reads}, **other)


def seen_now(reads: Sequence[str], writes: Sequence[str], chunk: int, execute: int) -> Windows:
    """What is seen now, and ``chunk`` actions from now on, of which ``execute`` are carried out."""
    return windows_of(reads, writes, (0,), range(chunk), chunk=chunk, execute=execute)


def bare(key: str) -> str:
    """The name the simulator has for a feature."""
    return key.removeprefix(GOAL).removeprefix(IMAGES).removeprefix(OBSERVATION)


def in_order(keys: Sequence[str]) -> tuple[str, ...]:
    """Observations by bare name, then goals by bare name."""
    return tuple(sorted(keys, key=lambda key: (key.startswith(GOAL), bare(key))))
