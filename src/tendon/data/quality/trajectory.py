"""One episode as the arrays that faults are looked for in: states, actions, and small pictures of what cameras saw.

T steps; S numbers of the state; A numbers of the action; P pixels of a thumbnail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tendon.data.episode import Schema
from tendon.data.features import is_action_part

THUMB = 16  # pixels a side
FROZEN_BYTES = 16  # of a frame's digest


@dataclass(frozen=True)
class Trajectory:
    """``state [T, S]`` and ``action [T, A]`` with the name of every number; ``thumbs [T, P]`` by camera, grey, 0 to 255."""

    episode_id: str
    task: str
    state: np.ndarray
    action: np.ndarray
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    thumbs: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Its steps."""
        return len(self.action)


def trajectory_of(
    episode_id: str,
    task: str,
    features: Mapping[str, np.ndarray],
    schema: Schema,
    frames: Mapping[str, np.ndarray] | None = None,
) -> Trajectory:
    """From an episode's columns, and its decoded frames where they are wanted."""
    states, actions = [], []
    for each in schema.columns:
        if each.kind == "text" or each.key.startswith("next.") or each.key == "timestamp":
            continue
        if each.key == "action" or is_action_part(each.key):
            actions.append(each.key)
        elif np.dtype(each.dtype).kind == "f" or np.dtype(each.dtype).kind == "i":
            states.append(each.key)
    length = len(next(iter(features.values())))
    return Trajectory(
        episode_id,
        task,
        _joined(features, states, length),
        _joined(features, actions, length),
        _names(features, states),
        _names(features, actions),
        {camera: thumbnails(each) for camera, each in (frames or {}).items()},
    )


def _joined(features: Mapping[str, np.ndarray], keys: Sequence[str], length: int) -> np.ndarray:
    columns = [np.asarray(features[key], np.float64).reshape(length, -1) for key in keys]
    return np.concatenate(columns, 1) if columns else np.empty((length, 0))


def _names(features: Mapping[str, np.ndarray], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{key}[{d}]" for key in keys for d in range(int(np.prod(features[key].shape[1:], dtype=int))))


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """``uint8 [T, H, W, C]`` as grey means of THUMB x THUMB blocks, ``float32 [T, THUMB * THUMB]``."""
    T, H, W, _ = frames.shape
    h, w = max(1, H // THUMB), max(1, W // THUMB)
    rows, columns = min(THUMB, H // h), min(THUMB, W // w)
    blocks = frames[:, : rows * h, : columns * w].reshape(T, rows, h, columns, w, -1)
    return np.asarray(blocks.mean((2, 4, 5), dtype=np.float32).reshape(T, -1))
