"""Checkpoints as trees in a store: committed by a marker, found newest first, checked byte for byte, pruned. No torch.

``<trial>/checkpoints/NNNNNN/{pretrained_model,training_state}/`` and ``checkpoints/last``, the newest step for people: a link
to its folder, or a small file with its name where there are no links (S3). The code lists instead, so a stale ``last`` does
no harm; every address with ``last`` is understood. Called by the loop, status and export.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tendon.errors import ConfigError, DataError, StorageError, TendonError
from tendon.storage import join, open_store
from tendon.storage.local import LocalStore
from tendon.storage.store import Store
from tendon.storage.trees import MARKER, download, has_tree, put_tree

logger = logging.getLogger(__name__)
FOLDER = "checkpoints"
WEIGHTS = "pretrained_model/model.safetensors"


def step_name(step: int, num_steps: int) -> str:
    """``000600``: six digits, or as many as the last step of the run has."""
    return f"{step:0{max(6, len(str(num_steps)))}d}"


def checkpoint_uri(trial_uri: str, name: str) -> str:
    """Where the checkpoint named ``name`` lives."""
    return join(trial_uri, FOLDER, name)


def commit(store: Store, name: str, write: Callable[[Path], None], kept: Callable[[list[str]], set[str]]) -> None:
    """Commit what ``write`` puts into a folder as the checkpoint ``name``; older ones go unless they are to be kept.

    Args:
        store: the trial's store.
        name: from ``step_name``.
        write: fills the folder it is given.
        kept: which of the committed checkpoints stay.

    Raises:
        StorageError: the local disk or the store cannot take it; the checkpoints that were there still are.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="tendon-checkpoint-") as folder:
            write(Path(folder))
            put_tree(store, f"{FOLDER}/{name}", Path(folder))
    except OSError as error:
        raise StorageError(
            "the checkpoint could not be written to the local disk",
            where=tempfile.gettempdir(),
            why=f"{type(error).__name__}: {error}",
            fix="free some space, or point TMPDIR at a larger disk, and run again: it resumes",
        ) from error
    _point_last(store, name)
    staying = kept(complete(store))
    for old in sorted(_begun(store) - staying, key=int):
        if int(old) < int(name):
            remove(store, old)


def _point_last(store: Store, name: str) -> None:
    """``last`` opens the newest step where the file system has links."""
    if isinstance(store, LocalStore):
        with suppress(TendonError):  # a file system without links
            store.link(f"{FOLDER}/last", name)
            return
        if (store.root / FOLDER / "last").is_dir():
            logger.warning("train: %s/last is a folder of its own, a copy of a checkpoint: it stays as it is", FOLDER)
            return
    store.write(f"{FOLDER}/last", f"{name}\n".encode())


def config_folder(uri: str, scratch: Path) -> Path:
    """A folder of this machine with the files of a configuration: of a local or remote folder, ``.../last/...`` among them.

    Args:
        uri: a folder; of a checkpoint its ``pretrained_model``, or the checkpoint itself.
        scratch: where a remote one is brought.

    Raises:
        ConfigError: there is none.
    """
    if "://" not in uri and Path(uri).is_dir():
        inner = Path(uri) / "pretrained_model"
        return inner if inner.is_dir() and not any(Path(uri).glob("*.yaml")) else Path(uri)
    if "://" not in uri and f"/{FOLDER}/" not in uri:
        why = "it is a file" if Path(uri).is_file() else "it does not exist"
        raise ConfigError(f"{uri} is not a folder", where="--config-dir", why=why, fix="check the path")
    plain = named_step(uri) if f"/{FOLDER}/" in uri else uri
    store = open_store(join(plain, "pretrained_model") if f"/{FOLDER}/" in uri else plain)
    files = [info.key for info in store.list("") if info.key.endswith(".yaml")]
    if not files:
        raise ConfigError(
            "there is no configuration",
            where=f"--config-dir {uri}",
            why="no .yaml file lies there",
            fix="check the address",
        )
    for name in files:
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_bytes(store.read(name))
    return scratch


def complete(store: Store) -> list[str]:
    """Names of the committed checkpoints, the newest first; one whose files lack their sizes is not among them."""
    names = sorted(_begun(store), key=int, reverse=True)
    return [name for name in names if has_tree(store, f"{FOLDER}/{name}")]


def named_step(uri: str) -> str:
    """The committed checkpoint that an address means: its own, or the newest of a trial (``TRIAL``, ``TRIAL/checkpoints/last``).

    Raises:
        ConfigError: there is none.
    """
    plain = uri.rstrip("/").removesuffix("/pretrained_model")
    if not plain.endswith("/last") and has_tree(open_store(plain), ""):
        return plain
    if "://" not in plain and _is_lerobots(Path(plain)):
        raise ConfigError(
            "training cannot go on from a checkpoint of LeRobot",
            where=uri,
            why="its optimiser's state, the order of its data and its schedule are LeRobot's own",
            fix=f"policy.init_from={uri} begins anew with its weights",
        )
    trial = plain.removesuffix("/last").removesuffix(f"/{FOLDER}")
    names = complete(open_store(trial))
    if names:
        return checkpoint_uri(trial, names[0])
    parent = plain.rpartition(f"/{FOLDER}/")[0]
    others = complete(open_store(parent)) if parent else []
    raise ConfigError(
        "there is no such checkpoint",
        where=uri,
        why=f"the trial has {', '.join(others)}" if others else "no whole checkpoint lies there",
        fix=checkpoint_uri(parent, others[0]) if others else "name a trial's folder, or TRIAL/checkpoints/STEP",
    )


def _is_lerobots(folder: Path) -> bool:
    """A checkpoint, or a pretrained_model, that LeRobot wrote; ``last`` and the folder of all checkpoints too."""
    inner = [folder, folder / "pretrained_model", folder / "last" / "pretrained_model"]
    inner += [folder / FOLDER / "last" / "pretrained_model"]
    return any((one / "config.json").is_file() and not (one / "policy.json").is_file() for one in inner)


def policy_at(uri: str) -> str:
    """The bundle or committed checkpoint that an address means: its own, its ``pretrained_model``, ``checkpoints/last``, a trial.

    Any other address comes back as it is: whoever reads it says what is wrong.
    """
    try:
        return named_step(uri)
    except ConfigError:
        return uri


def policy_file(uri: str, name: str) -> bytes:
    """A file that describes the policy of a bundle or of a checkpoint."""
    store, inner = open_store(uri), f"{WEIGHTS.partition('/')[0]}/{name}"
    return store.read(inner if store.head(inner) is not None else name)


def _begun(store: Store) -> set[str]:
    """Names under which any file lies; a process that was killed while saving leaves one without a marker."""
    return {match[1] for info in store.list(f"{FOLDER}/") if (match := re.match(rf"{FOLDER}/(\d+)/", info.key))}


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
            fetch(store.at(f"{FOLDER}/{name}"), folder)
        except DataError as error:
            logger.warning("train: checkpoint %s is damaged and passed over: %s", name, error.problems[0].why)
            continue
        return name
    return None


def fetch(tree: Store, folder: Path, under: str = "") -> None:
    """Bring the files of a tree whose names begin with ``under`` here; every byte is checked against the marker.

    Raises:
        DataError: there is no such tree, or a file of it is not what was committed.
    """
    if not has_tree(tree, ""):
        raise DataError(
            "a checkpoint or bundle is missing or incomplete",
            where=tree.uri,
            why=f"it has no {MARKER}, or its files do not have the sizes written there",
            fix="check the address, or run the step that makes it again",
        )
    for name, sha256 in digests(tree).items():
        if name.startswith(under):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if download(tree, name, target) != sha256:
                raise DataError(
                    "a stored file is damaged",
                    where=f"{tree.uri}/{name}",
                    why=f"its bytes do not have the sha256 in {MARKER}",
                    fix="delete that folder; an older checkpoint, or the step that makes it, takes its place",
                )


def digests(tree: Store) -> dict[str, str]:
    """sha256 of every file of a committed tree, by name, as its marker says."""
    marker = json.loads(tree.read(MARKER))
    return {name: str(entry.get("sha256")) for name, entry in marker["files"].items()}


def weights_sha256(uri: str) -> str:
    """sha256 of the weights of a committed checkpoint."""
    return digests(open_store(uri))[WEIGHTS]
