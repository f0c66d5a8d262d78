"""The golden numbers of MineStudio, and a policy of ours with the same seeded weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tendon.policies.rocket1.config import Rocket1Config
from tendon.policies.rocket1.features import AIM, BUTTONS, CAMERA, INTERACTION, TARGET, features_of_world
from tendon.policies.rocket1.model import Rocket1
from tests.golden.minestudio import seeded

GOLDEN = np.load(Path(__file__).parents[2] / "golden/minestudio/rocket1.npz")
META = json.loads(bytes(GOLDEN["meta"]))
SIZE, ROWS, WINDOWS = tuple(META["size"]), META["rows"], 3
VARIANTS: dict[str, dict[str, int]] = {
    "plain": {},
    "long": {"timesteps": 6, "mem_len": 16, "num_layers": 3, "num_heads": 4},
    "short": {"timesteps": 8, "mem_len": 3},
}


def fill(policy: Rocket1) -> Rocket1:
    """Seeded weights by MineStudio's names, which the network has."""
    with torch.no_grad():
        for name, tensor in policy.net.state_dict().items():
            tensor.copy_(torch.from_numpy(seeded.weights(name, tuple(tensor.shape))))
    return policy.eval()


def make(size: tuple[int, int] = SIZE, **changes: Any) -> Rocket1:
    """A policy of the golden's sizes."""
    arguments = {**META["arguments"], "image_size": size, **changes}
    return fill(Rocket1(Rocket1Config("rocket1", **arguments), features_of_world(size), None))


def batch_of(arrays: dict[str, np.ndarray], first: np.ndarray | None = None, **more: Any) -> dict[str, torch.Tensor]:
    """A window as our loader gives it."""
    arrays = {
        CAMERA: arrays["image"],
        TARGET: arrays["obj_mask"],
        INTERACTION: arrays["obj_id"][..., None],
        BUTTONS: arrays["buttons"].astype(np.float32),
        AIM: arrays["camera"],
        f"{BUTTONS}_is_pad": arrays["mask"] == 0,
        **({} if first is None else {"first": first}),
        **more,
    }
    return {key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in arrays.items()}


def windows_of(variant: str, steps: int, tail: int = 2) -> list[dict[str, np.ndarray]]:
    """Those that the golden was made with."""
    return [
        seeded.window(f"{variant} {i}", ROWS, steps, SIZE, tail=tail if i + 1 == WINDOWS else 0) for i in range(WINDOWS)
    ]


def first_of(steps: int) -> np.ndarray:
    """Where episodes begin."""
    first = np.zeros((WINDOWS, ROWS, steps), bool)
    first[1, 0, 0] = first[1, 1, 3] = first[2, 1, 2] = first[2, 1, 5] = True
    return first
