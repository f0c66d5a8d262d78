"""Attempts of a scripted expert that a recording has made so far, one file each, so that a recording that was stopped goes on.

An attempt follows from the environment, its seed and the noise, so what is found here is what would be made again. In: the
address that is being made. Called by experts.py for each seed and by demo_files.py, which takes the folder away at the end.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tendon.config.digest import digest
from tendon.config.numerics import rollout_numerics
from tendon.config.schema import EnvConfig
from tendon.errors import StorageError
from tendon.evaluate.adapters import sim_numerics
from tendon.evaluate.attempt import Attempt
from tendon.evaluate.guest import SimState
from tendon.storage.uri import local_path, scheme_of

log = logging.getLogger(__name__)
OBSERVATION = "observation/"
ARRAYS = ("actions", "rewards", "states")


@dataclass(frozen=True)
class Recording:
    """A folder of attempts by seed; it need not exist."""

    folder: Path

    @classmethod
    def of(cls, output: str, env: EnvConfig, *, noise: float, images: bool, states: bool) -> Recording:
        """Beside a file or folder of this machine that is being made; for a store in the cache folder."""
        asked = {"env": env.identity, "noise": noise, "images": images, "states": states}
        name = digest("recording", asked, rollout_numerics(), sim_numerics(env, expert=True))
        if scheme_of(output) == "s3":
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            return cls(cache / "tendon" / "recordings" / f"{name}-{digest(output)}")
        path = local_path(output)
        return cls(path.parent / f".{path.name}.recording-{name}")

    def find(self, seed: int) -> Attempt | None:
        """The attempt with this seed; None when it was not made, or its file was cut."""
        try:
            with np.load(self._file(seed), allow_pickle=False) as file:
                arrays: dict[str, Any] = {name: file[name] for name in file.files}
            told = json.loads(arrays["told"].tobytes())
            observations = {
                name.removeprefix(OBSERVATION): values
                for name, values in arrays.items()
                if name.startswith(OBSERVATION)
            }
            first = SimState(arrays["first"], told["model_file"], told["env_args"])
            return Attempt(
                seed,
                told["outcome"],
                told["why"],
                observations,
                arrays["actions"],
                arrays["rewards"],
                arrays["states"],
                first,
                told["instruction"],
            )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def keep(self, attempt: Attempt) -> None:
        """Write an attempt; a crash is left to be tried again.

        Raises:
            StorageError: the disk cannot take it.
        """
        if attempt.outcome == "crashed":
            return
        told = {
            "outcome": attempt.outcome,
            "why": attempt.why,
            "instruction": attempt.instruction,
            "model_file": attempt.first.model_file,
            "env_args": attempt.first.env_args,
        }
        arrays = {name: getattr(attempt, name) for name in ARRAYS} | {"first": attempt.first.states}
        arrays |= {f"{OBSERVATION}{name}": _plain(values) for name, values in attempt.observations.items()}
        arrays["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
        temporary = ""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".", dir=self.folder)
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)
            os.replace(temporary, self._file(attempt.seed))
        except OSError as error:
            Path(temporary).unlink(missing_ok=True) if temporary else None
            raise StorageError(
                "cannot write demonstrations",
                where=str(self.folder),
                why=f"{type(error).__name__}: {error}",
                fix="free the disk, or give another path",
            ) from error

    def say_what_is_there(self) -> None:
        """One line, if this recording goes on."""
        count = len(list(self.folder.glob("*.npz"))) if self.folder.is_dir() else 0
        if count:
            log.info("demo-data: goes on: %d attempts are in %s", count, self.folder)

    def forget(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, seed: int) -> Path:
        return self.folder / f"{seed}.npz"


def _plain(values: Any) -> Any:
    """Texts as an array that needs no pickle."""
    return np.array([str(value) for value in values]) if values.dtype == object else values
