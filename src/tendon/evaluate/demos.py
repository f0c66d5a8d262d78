"""A simulator's scripted expert in, a robomimic HDF5 of its successful episodes out.

The layout is the one that robomimic's own tools read: data/demo_<i> with actions, states, rewards, dones, obs,
next_obs, and mask/train, mask/valid. Same seed, same bytes, whatever the number of guests. Called by `tendon demo-data`.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tendon.config.feature_map import FeatureMap
from tendon.config.schema import EnvConfig
from tendon.errors import StorageError
from tendon.evaluate.attempt import Attempt
from tendon.evaluate.experts import ExpertSettings, Lost, successes, validation_episodes
from tendon.evaluate.recording import Recording


@dataclass(frozen=True)
class DemosReport:
    """What was recorded."""

    path: Path
    episodes: int
    frames: int
    failed_seeds: tuple[int, ...]  # the expert did not succeed: left out
    crashed_seeds: tuple[int, ...]  # the simulator crashed: left out


def record_demos(
    env: EnvConfig,
    episodes: int,
    seed: int,
    path: str | Path,
    *,
    noise: float = 0.05,
    images: bool = False,
    num_guests: int = 2,
    step_timeout_s: float = 20.0,
    recording: Recording | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DemosReport:
    """Record ``episodes`` successful episodes of the scripted expert, seeds ``seed``, ``seed + 1``, ... in order.

    Args:
        env: the task; its ``observation`` names what is stored.
        episodes: how many are kept.
        seed: the first seed, in the block of demonstrations.
        path: the HDF5 file, which appears when it is finished.
        noise: standard deviation of what is added to the expert's actions (they are stored as executed); it shows a
            learner how to come back from where it should not be.
        images: store the simulator's cameras as well.
        num_guests: how many record at once; does not change the file.
        step_timeout_s: a guest that takes longer for a step is killed, its episode left out.
        recording: attempts are kept there, and found.
        progress: called with (episodes kept, episodes in all).
    """
    path, lost = Path(path), Lost()
    settings = ExpertSettings(env, episodes, seed, noise, images, num_guests, step_timeout_s, recording)
    with _new_file(path) as file, successes(settings, lost, states=True, progress=progress) as attempts:
        data = file.create_group("data")
        frames = 0
        for number, attempt in enumerate(attempts):
            _write_episode(data.create_group(f"demo_{number}"), attempt, FeatureMap.of(env))
            if not number:
                data.attrs["env_args"] = attempt.first.env_args
            frames += len(attempt.actions)
        data.attrs["total"] = frames
        _write_masks(file, episodes, seed)
    return DemosReport(path, episodes, frames, tuple(lost.failed), tuple(lost.crashed))


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Any]:
    """An HDF5 file that appears under its name only when everything was written."""
    import h5py

    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        with h5py.File(temporary, "w") as file:
            yield file
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        why = f"{type(error).__name__}: {error}"
        raise StorageError(
            "cannot write demonstrations", where=str(path), why=why, fix="free the disk, or give another path"
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _write_episode(group: Any, episode: Attempt, features: FeatureMap) -> None:
    """One demo_<i>; float64 for numbers, uint8 for images, as robomimic writes them."""
    num_samples = len(episode.actions)
    dones = np.zeros(num_samples, np.int64)
    dones[-1] = 1  # an episode ends with its first success; a reward before it says that it is on its way
    group.attrs["num_samples"] = num_samples
    group.attrs["seed"] = episode.seed
    if episode.first.model_file:
        group.attrs["model_file"] = episode.first.model_file
    if episode.instruction:
        group.attrs["ep_meta"] = json.dumps({"lang": episode.instruction})
    group["actions"] = episode.actions.astype(np.float64)
    for part, values in features.parts_of(episode.actions).items():
        group[f"action_dict/{part}"] = values.astype(np.float64)
    group["states"] = episode.states
    group["rewards"] = episode.rewards.astype(np.float64)
    group["dones"] = dones
    for key, values in episode.observations.items():
        typed = values if values.dtype == np.uint8 else values.astype(np.float64)
        group[f"obs/{key}"] = typed[:-1]
        group[f"next_obs/{key}"] = typed[1:]


def _write_masks(file: Any, kept: int, seed: int) -> None:
    """One episode of ten is for validation; which ones is drawn from the seed."""
    valid = validation_episodes(kept, seed)
    for name, chosen in (("train", set(range(kept)) - valid), ("valid", valid)):
        file[f"mask/{name}"] = np.array([f"demo_{index}" for index in sorted(chosen)], dtype="S")
