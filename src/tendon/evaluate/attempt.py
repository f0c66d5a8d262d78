"""One episode of a scripted expert. Made by experts.py, kept by recording.py, written by demos.py and demo_episodes.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tendon.evaluate.guest import SimState

Array = NDArray[Any]


@dataclass(frozen=True)
class Attempt:
    """One episode of the expert; observations have one entry more than actions."""

    seed: int
    outcome: str  # success, failure, crashed
    why: str
    observations: dict[str, Array]
    actions: Array
    rewards: Array
    states: Array  # empty where nobody asked for them
    first: SimState
    instruction: str = ""
