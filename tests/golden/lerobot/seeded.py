"""Weights and inputs that two interpreters make alike: by name and seed, with numpy alone. Imported by make_*.py and tests."""

from __future__ import annotations

import zlib

import numpy as np

UNTOUCHED = (".attn.bias", "pos_grid", "initted", "select_target_actions_indices", "discretized", "freeze_codebook")


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Of a tensor by LeRobot's name: about as large as a fresh one."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape)
    if name.endswith(("running_var", "cluster_size")):
        values = np.abs(values) + 0.5
    elif len(shape) == 1:
        values = values * 0.1 + (1.0 if name.endswith("weight") else 0.0)
    elif not name.endswith(("embed", "embed_avg", "action_token")):
        values = values / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


def normal(name: str, *shape: int) -> np.ndarray:
    """Numbers of a normal distribution."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)


def uniform(name: str, *shape: int) -> np.ndarray:
    """Numbers in [0, 1)."""
    return np.random.default_rng(zlib.crc32(name.encode())).random(shape, np.float32)


def picture(name: str, *shape: int) -> np.ndarray:
    """Bytes."""
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, shape, np.uint8)


def gemma_weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same with Gemma's norms, whose weight is what is added to 1, so that no layer makes numbers large."""
    values = weights(name, shape)
    is_gemma_norm = "norm" in name and name.endswith(".weight") and len(shape) == 1 and "vision" not in name
    return values - np.float32(1) if is_gemma_norm else values
