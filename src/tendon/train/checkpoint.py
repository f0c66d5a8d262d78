"""Checkpoints as trees in a store: committed by a marker, found newest first, checked byte for byte, pruned. No torch.

``<trial>/checkpoints/NNNNNN/{pretrained_model,training_state}/`` and ``checkpoints/last``, a small file that names the
newest step for people; the code lists instead, so a stale ``last`` does no harm. Called by the loop, status and export.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tendon.errors import DataError, StorageError
from tendon.storage import join, open_store
from tendon.storage.store import Store
from tendon.storage.trees import has_tree, put_tree

logger = logging.getLogger(__name__)
FOLDER = "checkpoints"
MARKER = ".complete.json"
WEIGHTS = "pretrained_model/model.safetensors"


def step_name(step: int, num_steps: int) -> str:
    """``000600``: six digits, or as many as the last step of the run has."""
    return f"{step:0{max(6, len(str(num_steps)))}d}"


def checkpoint_uri(trial_uri: str, name: str) -> str:
    """Where the checkpoint named ``name`` lives."""
    return join(trial_uri, FOLDER, name)


def commit(store: Store, name: str, write: Callable[[Path], None], keep: int) -> None:
    """Commit what ``write`` puts into a folder as the checkpoint ``name``; then all but the ``keep`` newest go.

    Args:
        store: the trial's store.
        name: from ``step_name``.
        write: fills the folder it is given.
        keep: how many stay.

    Raises:
        StorageError: the local disk or the store cannot take it; the checkpoints that were there still are.
    """
    with tempfile.TemporaryDirectory(prefix="tendon-checkpoint-") as folder:
        try:
            write(Path(folder))
        except OSError as error:
            raise StorageError(
                "the checkpoint could not be written to the local disk",
                where=folder,
                why=f"{type(error).__name__}: {error}",
                fix="free some space, or point TMPDIR at a larger disk, and run again: it resumes",
            ) from error
        put_tree(store, f"{FOLDER}/{name}", Path(folder))
    store.write(f"{FOLDER}/last", f"{name}\n".encode())
    names = complete(store)
    for old in names[max(1, keep) :]:
        remove(store, old)


def complete(store: Store) -> list[str]:
    """Names of the committed checkpoints, the newest first; one whose files lack their sizes is not among them."""
    pattern = re.compile(rf"{FOLDER}/(\d+)/{re.escape(MARKER)}")
    found = [match[1] for info in store.list(f"{FOLDER}/") if (match := pattern.fullmatch(info.key))]
    return [name for name in sorted(found, key=int, reverse=True) if has_tree(store, f"{FOLDER}/{name}")]


def remove(store: Store, name: str) -> None:
    """Take a checkpoint away, its marker first, so that no half of it is ever taken for a whole."""
    prefix = f"{FOLDER}/{name}/"
    store.delete(prefix + MARKER)
    for info in list(store.list(prefix)):
        store.delete(info.key)


def read_newest(store: Store, folder: Path) -> str | None:
    """Fetch the newest checkpoint that is whole into ``folder`` and say its name; None when there is none."""
    for name in complete(store):
        try:
            fetch(store, f"{FOLDER}/{name}", folder)
        except DataError as error:
            logger.warning("train: checkpoint %s is damaged and passed over: %s", name, error.problems[0].why)
            continue
        return name
    return None


def fetch(store: Store, prefix: str, folder: Path, under: str = "") -> None:
    """Bring a tree, or its part ``under`` a folder, here; every byte is checked against the marker.

    Raises:
        DataError: there is no such tree, or a file of it is not what was committed.
    """
    for name, data in _checked(store, prefix, under):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def digests(store: Store, prefix: str) -> dict[str, str]:
    """sha256 of every file of a committed tree, by name, as its marker says; a DataError when there is no such tree."""
    marker = json.loads(store.read(f"{prefix}/{MARKER}" if prefix else MARKER))
    return {name: entry["sha256"] for name, entry in marker["files"].items()}


def weights_sha256(uri: str) -> str:
    """sha256 of the weights of a committed checkpoint."""
    return digests(open_store(uri), "")[WEIGHTS]


def _checked(store: Store, prefix: str, under: str) -> Iterator[tuple[str, bytes]]:
    for name, sha256 in digests(store, prefix).items():
        if not name.startswith(under):
            continue
        data = store.read(f"{prefix}/{name}")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataError(
                "a file is not what was committed",
                where=f"{store.uri}/{prefix}/{name}",
                why=f"{len(data)} bytes whose sha256 is not the marker's",
                fix="remove that checkpoint; an older one, or training again, takes its place",
            )
        yield name, data
