"""Weights and batches that two interpreters make alike: by name, with numpy alone. Imported by make.py, a peer's script and tests."""

from __future__ import annotations

import zlib

import numpy as np

BUTTONS = (
    "attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "use", "drop", "inventory",
    *(f"hotbar.{n}" for n in range(1, 10)),
)  # fmt: skip


def rng(name: str) -> np.random.Generator:
    """A generator for a name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Of a parameter or buffer by MineStudio's name: about as large as a fresh one."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    values = rng(name).standard_normal(shape, np.float32)
    if name.endswith("running_var"):
        return np.abs(values) + np.float32(0.5)
    if "value_head.normalizer" in name:
        return np.zeros(shape, np.float32)
    if len(shape) <= 1:
        return values * np.float32(0.1) + np.float32(1.0 if name.endswith("weight") else 0.0)
    if name.endswith(("b_nd", "interaction.weight", "cls_token", "pos_embed")):
        return values * np.float32(0.5)
    return values * np.float32(1.2 / np.sqrt(np.prod(shape[1:])))


def window(name: str, rows: int, steps: int, size: tuple[int, int], tail: int = 0) -> dict[str, np.ndarray]:
    """Pictures, masks, interactions and actions; the last ``tail`` steps of the last row are padding."""
    one = rng(name)
    mask = one.random((rows, steps, *size)) < 0.2
    buttons = one.random((rows, steps, len(BUTTONS))) < 0.15
    camera = one.normal(0, 3, (rows, steps, 2)) * (one.random((rows, steps, 1)) < 0.6)
    arrays = {
        "image": one.integers(0, 256, (rows, steps, *size, 3), np.uint8),
        "obj_mask": mask.astype(np.uint8),
        "obj_id": one.integers(-1, 7, (rows, steps)),
        "buttons": buttons.astype(np.uint8),
        "camera": camera.astype(np.float32),
        "mask": np.ones((rows, steps), np.uint8),
    }
    if tail:
        arrays["mask"][-1, -tail:] = 0
        arrays["obj_id"][-1, -tail:] = -1
        for key in ("obj_mask", "buttons", "camera"):
            arrays[key][-1, -tail:] = 0
    return arrays
