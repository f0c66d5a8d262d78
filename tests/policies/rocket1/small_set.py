"""A small MineStudio data set on disk: several folders, all twenty buttons, masks, pictures of 32 x 32."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.video import encode_mp4
from tendon.policies.rocket1.features import BUTTON_NAMES
from tests.data.test_minestudio import SIZE, write_lmdb


def make_set(root: Path, episodes: dict[str, int], seed: int = 0) -> Path:
    """One dataset folder; lengths are multiples of a chunk."""
    rng = np.random.default_rng(seed)
    parts: dict[str, dict[str, list[bytes]]] = {"image": {}, "action": {}, "segmentation": {}}
    for name, length in episodes.items():
        for part in parts.values():
            part[name] = []
        for start in range(0, length, SIZE):
            frames = rng.integers(0, 255, (SIZE, 32, 32, 3), np.uint8)
            parts["image"][name].append(encode_mp4(frames, 20, key_every=SIZE))
            action: dict[str, Any] = {button: (rng.random(SIZE) < 0.2).astype(np.int64) for button in BUTTON_NAMES}
            action["camera"] = rng.normal(0, 3, (SIZE, 2))
            parts["action"][name].append(pickle.dumps(action))
            key = ((0, length - 1), "minecraft.kill_entity:cow")
            value = {"obj_id": 0, "rle_mask": f"{1 + start} 5000", "event": key[1], "frame_range": key[0]}
            parts["segmentation"][name].append(pickle.dumps([{key: value} for _ in range(SIZE)]))
    for modality, chunks in parts.items():
        write_lmdb(root / modality / "part-1", chunks)
    return root
