"""Does the simulator do what its seed says: one episode is played again with its own actions, and all beginnings are compared.

Two policies are compared on common seeds, and a clip is drawn from recorded actions: both are wrong where the seed decides
nothing. Called by rollout.py, in the guest that played the episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tendon.evaluate.guest import Guest, GuestCrash


@dataclass(frozen=True)
class SeedCheck:
    """What came of playing the episode of ``seed`` again; ``note`` says in words what is wrong, empty: nothing."""

    seed: int
    note: str


def fingerprint(observation: Mapping[str, NDArray[Any]]) -> str:
    """Equal where all that is observed is equal."""
    digest = hashlib.sha256()
    for name in sorted(observation):
        values = np.ascontiguousarray(observation[name])
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def play_again(
    guest: Guest, seed: int, start: str, actions: NDArray[np.float64], rewards: Sequence[float]
) -> SeedCheck:
    """The same seed and the same actions in the same guest.

    Args:
        guest: that played the episode.
        seed: of the episode.
        start: ``fingerprint`` of its first observation.
        actions: ``[T, D]`` that were executed.
        rewards: that they gave.
    """
    try:
        if fingerprint(guest.reset(seed)) != start:
            return SeedCheck(
                seed,
                f"seed {seed} began with another observation when it was played again: the simulator ignores its seed",
            )
        again: list[float] = []
        while len(again) < len(actions):
            played = guest.steps(list(actions[len(again) :]))
            again += [stepped.reward for stepped in played]
            if played[-1].success or played[-1].done:
                break
        if again != list(rewards):
            pairs = zip_longest(again, rewards)
            step = next(number for number, (now, before) in enumerate(pairs) if now != before)
            return SeedCheck(
                seed, f"seed {seed} went another way from step {step} when its actions were executed again"
            )
    except GuestCrash as crash:
        return SeedCheck(seed, f"seed {seed} crashed when it was played again: {crash.why}")
    return SeedCheck(seed, "")


def begins_alike(starts: Mapping[int, str]) -> str:
    """In words, that all seeds begin alike; empty where they do not, or where there is only one."""
    if len(starts) > 1 and len(set(starts.values())) == 1:
        return f"all {len(starts)} seeds begin with the same observation: the simulator ignores its seed, or its task never varies"
    return ""
