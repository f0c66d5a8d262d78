"""Small datasets of the page's names under a root, with the features of the real ones, in LeRobot's own format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tendon.data.episode import Camera, Episode, Schema
from tendon.data.features import column
from tendon.data.sources.episodes import EpisodesSource
from tendon.data.writers import write_dataset

PUSHT, INSERTION, TRANSFER = (
    "lerobot/pusht",
    "lerobot/aloha_sim_insertion_human",
    "lerobot/aloha_sim_transfer_cube_human",
)
LENGTH = 12


def write_sets(root: Path) -> None:
    """The three of the page: PushT with its camera, Aloha's two tasks with a smaller one than the real."""
    write_set(root / PUSHT, "observation.image", (96, 96), 2, 10)
    for number, name in enumerate((INSERTION, TRANSFER)):
        write_set(root / name, "observation.images.top", (32, 40), 14, 50, seed=number)


def write_set(folder: Path, camera: str, size: tuple[int, int], width: int, fps: int, seed: int = 0) -> None:
    """Two episodes of smooth numbers and pictures."""
    rng = np.random.default_rng(seed)
    columns = [column(key, "float32", (width,)) for key in ("observation.state", "action")] + [
        column("next.reward", "float32")
    ]
    name = "image" if camera.endswith("image") else "top"
    schema = Schema(tuple(columns), (Camera(camera, name, *size, 3, "mjpeg"),), float(fps))
    episodes = []
    for number in range(2):
        states = np.cumsum(rng.normal(size=(LENGTH, width)), 0).astype(np.float32) + 250 * (width == 2)
        numbers = {"observation.state": states, "action": states + 1, "next.reward": np.zeros(LENGTH, np.float32)}
        pictures = {camera: rng.integers(0, 256, (LENGTH, *size, 3)).astype(np.uint8)}
        episodes.append(Episode(f"demo_{number}", LENGTH, numbers, pictures, "push"))
    write_dataset(EpisodesSource(str(folder), schema, episodes, f"{folder.name} {seed}"), str(folder), "lerobot-v3.0")


def write_numbers(folder: Path, widths: dict[str, int], fps: int) -> None:
    """Two episodes of numbers alone, with rewards."""
    rng = np.random.default_rng(0)
    columns = [column(key, "float32", (width,)) for key, width in widths.items()] + [column("next.reward", "float32")]
    episodes = []
    for number in range(2):
        numbers = {key: rng.uniform(-1, 1, (LENGTH, width)).astype(np.float32) for key, width in widths.items()}
        numbers["next.reward"] = rng.uniform(0, 1, LENGTH).astype(np.float32)
        episodes.append(Episode(f"demo_{number}", LENGTH, numbers, {}, "reach"))
    source = EpisodesSource(str(folder), Schema(tuple(columns), (), float(fps)), episodes, folder.name)
    write_dataset(source, str(folder), "lerobot-v3.0")
