"""Features for tests, written short: ``{"observation.a": 3, "observation.images.b": (40, 48, 3), "action": 2}``."""

from __future__ import annotations

from collections.abc import Mapping

from tendon.data.features import Feature, kind_in_vocabulary
from tendon.policies.windows import GOAL, IMAGES

SCANS = "observation.scans."


def features_of(sizes: Mapping[str, int | tuple[int, ...]]) -> dict[str, Feature]:
    """D of a vector, (H, W, C) of a camera, (C, L) of a range scan."""
    return {key: _feature(key, size) for key, size in sizes.items()}


def _feature(key: str, size: int | tuple[int, ...]) -> Feature:
    stored = key.removeprefix(GOAL)
    if isinstance(size, int):
        return Feature(key, kind_in_vocabulary(stored), (size,), "float32")
    if stored.startswith(SCANS):
        return Feature(key, "depth", size, "float32")
    assert stored.startswith(IMAGES)
    return Feature(key, "image", size, "uint8")
