"""One target of many: MineStudio's walk over a window, with chance from the window alone; tracks from its data."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from tendon.policies.base import AUGMENT_NOISE
from tendon.policies.rocket1.features import (
    INTERACTION,
    TARGET,
    TARGETS_PREFIX,
    TRACK_IDS,
    TRACK_INTERACTIONS,
    features_of_world,
)
from tendon.policies.rocket1.model import chosen_tracks
from tests.golden.minestudio import seeded
from tests.policies.rocket1.golden import batch_of, make


def walk(frames: list[dict[int, int]], uniform: list[float]) -> list[int]:
    """The rule in plain words: frames of id to track."""
    current: Any = None
    tracks = []
    for frame, number in zip(reversed(frames), reversed(uniform), strict=True):
        if frame and current not in frame:
            current = [key for key, _ in sorted(frame.items(), key=lambda item: item[1])][int(number * len(frame))]
        tracks.append(frame[current] if frame else -1)
    return tracks[::-1]


def test_the_walk_is_minestudios() -> None:
    rng = random.Random(3)
    for _ in range(200):
        frames: list[dict[int, int]] = []
        live: dict[int, int] = {}
        count = 0
        for _ in range(12):
            live = {key: track for key, track in live.items() if rng.random() < 0.7}
            for track in range(3):
                if track not in live.values() and rng.random() < 0.3:
                    live[count], count = track, count + 1
            frames.append(dict(live) if rng.random() < 0.8 else {})
        uniform = [rng.random() for _ in frames]
        ids = np.full((1, 12, 3), -1)
        for t, frame in enumerate(frames):
            for key, track in frame.items():
                ids[0, t, track] = key
        ours = chosen_tracks(torch.from_numpy(ids), torch.tensor([uniform]))
        assert ours[0].tolist() == walk(frames, uniform)


def test_the_policy_is_shown_the_chosen_target() -> None:
    policy = make(
        (32, 32), backbone="tiny", hiddim=16, num_heads=2, num_layers=1, timesteps=4, mem_len=4, num_targets=2
    )
    assert policy.num_draws == 4
    training = policy.windows.training
    assert {f"{TARGETS_PREFIX}0", f"{TARGETS_PREFIX}1", TRACK_IDS, TRACK_INTERACTIONS} <= set(training)
    assert TARGET not in training
    assert {TARGET, INTERACTION} <= set(policy.windows.acting)
    batch = batch_of(seeded.window("two", 2, 4, (32, 32)))
    masks = torch.zeros(2, 2, 4, 32, 32, dtype=torch.uint8)
    masks[0, :, :, :16], masks[1, :, :, 16:] = 1, 1
    batch |= {
        f"{TARGETS_PREFIX}0": masks[0],
        f"{TARGETS_PREFIX}1": masks[1],
        TRACK_IDS: torch.tensor([[[0, 1]] * 4, [[0, -1], [0, 1], [-1, -1], [2, 3]]]),
        TRACK_INTERACTIONS: torch.tensor([[[0, 2]] * 4, [[5, -1], [5, 6], [-1, -1], [3, 4]]]),
    }
    draws = torch.tensor([[0.0, 0.0, 0.0, 0.9], [0.9, 0.9, 0.0, 0.1]])
    mask, interaction = policy._prompt(batch | {AUGMENT_NOISE: draws}, torch.ones(2, 4, dtype=torch.bool))
    assert interaction.tolist() == [[2, 2, 2, 2], [5, 6, -1, 3]]
    assert torch.equal(mask[0], masks[1][0])
    assert not mask[1, 2].any()
    assert torch.equal(mask[1, 1], masks[1][1, 1])
    assert policy.loss(batch | {AUGMENT_NOISE: draws}).loss != policy.loss(batch).loss
    assert set(features_of_world()) >= set(policy.windows.acting)
