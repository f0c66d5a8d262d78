"""Demonstrations with every kind of feature: two cameras of different sizes, masks, texts, several actions, a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tendon.data.episode import Camera, Episode, Mask, Schema
from tendon.data.features import column
from tendon.data.sources.episodes import EpisodesSource
from tendon.data.sources.minestudio import BUTTONS, INTERACTION, INTERACTIONS, MASK_SIZE, TARGET

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
STATE, AIM, REWARD, TASK = "observation.state", "action.camera", "next.reward", "task"
NAMES = ("attack", "forward", "jump")
TEXTS = ("find a tree", "chop it", "")
LENGTHS = (7, 9, 8)


def schema(codec: str = "mjpeg", steps_have_texts: bool = True, mask_codec: str = "bits") -> Schema:
    """The features of ``episodes``."""
    columns = [
        column(STATE, "float32", (3,), names=("x", "y", "z")),
        column(INTERACTION, "int8", kind="category", names=INTERACTIONS),
        column(BUTTONS, "uint8", (3,), names=NAMES),
        column(AIM, "float32", (2,), names=("pitch", "yaw")),
        column(REWARD, "float32"),
    ]
    if steps_have_texts:
        columns.append(column(TASK, "int64", kind="text"))
    cameras = (Camera(FRONT, "front", 480, 640, 3, codec), Camera(WRIST, "wrist", 96, 128, 3, codec))
    masks = (Mask(TARGET, "target", *MASK_SIZE, mask_codec),)  # type: ignore[arg-type]
    return Schema(tuple(columns), cameras, 20.0, masks, TEXTS if steps_have_texts else ())


def episodes(lengths: Sequence[int] = LENGTHS, steps_have_texts: bool = True) -> list[Episode]:
    """Episode i, whose values say episode and step."""
    return [episode(i, length, steps_have_texts) for i, length in enumerate(lengths)]


def episode(i: int, length: int, steps_have_texts: bool = True) -> Episode:
    rng = np.random.default_rng(i)
    t = np.arange(length)
    masks = np.zeros((length, *MASK_SIZE), np.uint8)
    kinds = np.where(t % 8 < 5, i % 3 + 2, -1).astype(np.int8)
    for step in t[kinds >= 0]:
        masks[step, 10 + step : 40 + i, 20 : 60 + 3 * step] = 1
    features = {
        STATE: np.stack([np.full(length, i), t, rng.normal(size=length)], 1).astype(np.float32),
        INTERACTION: kinds,
        BUTTONS: rng.integers(0, 2, (length, 3)).astype(np.uint8),
        AIM: rng.normal(size=(length, 2)).astype(np.float32),
        REWARD: (t == length - 1).astype(np.float32),
    }
    if steps_have_texts:
        features[TASK] = (t >= 4).astype(np.int64)
    images = {FRONT: picture(i, length, 480, 640), WRIST: picture(i + 7, length, 96, 128)}
    return Episode(f"demo_{i}", length, features, images, "find a tree", True, masks={TARGET: masks})


def picture(seed: int, num: int, height: int, width: int) -> np.ndarray:
    """Smooth moving pictures, ``uint8 [num, H, W, 3]``."""
    y, x = np.mgrid[0:height, 0:width] / 16
    t = np.arange(num)[:, None, None] / 4
    waves = [np.sin(x + t + seed), np.cos(y - t), np.sin(x + y + seed)]
    return np.stack([120 + 90 * np.broadcast_to(wave, (num, height, width)) for wave in waves], -1).astype(np.uint8)


def source(lengths: Sequence[int] = LENGTHS, steps_have_texts: bool = True, codec: str = "mjpeg") -> EpisodesSource:
    """All of it as a source; the last episode is for validation."""
    made = episodes(lengths, steps_have_texts)
    digest = f"everything {lengths} {steps_have_texts} {codec}"
    return EpisodesSource(
        "demo://everything", schema(codec, steps_have_texts), made, digest, {"valid": [made[-1].episode_id]}
    )


def without_frames(source: EpisodesSource) -> EpisodesSource:
    """The same without cameras and masks, which make tests slow."""
    small = [replace(source.read(each.episode_id), images={}, masks={}) for each in source.describe().episodes]
    plain = replace(source.schema, cameras=(), masks=())
    return EpisodesSource(source.uri, plain, small, f"{source.digest} without frames")
