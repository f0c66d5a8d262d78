"""A tree: a folder of files committed as one thing by a marker object that is written last.

A tree whose marker is missing, or whose files do not have the marker's sizes, does not exist. Used for checkpoints,
bundles and evaluations; ``download`` fetches one large object to a file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tendon.errors import DataError, StorageError
from tendon.storage.store import Store, checked_key

MARKER = ".complete.json"
PART_BYTES = 16 << 20


def put_tree(store: Store, prefix: str, folder: Path) -> None:
    """Commit every file below ``folder`` under ``prefix``; what another tree left there is replaced.

    Putting the same files again changes nothing.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if name != MARKER]
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)} for name in names}
    root = store.at(prefix)
    marker = json.dumps({"files": files}, sort_keys=True, indent=1).encode()
    if _files(root) == files:
        return
    root.delete(MARKER)
    for name in names:
        root.put_file(name, folder / name)
    root.write(MARKER, marker)
    for info in list(root.list()):
        if info.key not in files and info.key != MARKER:
            root.delete(info.key)


def has_tree(store: Store, prefix: str) -> bool:
    """Whether a whole tree is committed under ``prefix``."""
    return _files(store.at(prefix)) is not None


def get_tree(store: Store, prefix: str, folder: Path) -> None:
    """Copy the tree under ``prefix`` into ``folder``, every file verified.

    Raises:
        DataError: there is no whole tree, or a file's bytes are not what was committed.
    """
    root = store.at(prefix)
    files = _files(root)
    if files is None:
        raise DataError(
            "a folder in the store is missing or incomplete",
            where=root.uri,
            why=f"it has no {MARKER}, or its files do not have the sizes written there",
            fix="run the step that makes it again",
        )
    for name, wanted in files.items():
        target = folder / checked_key(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if download(root, name, target) != wanted["sha256"]:
            raise DataError(
                "a stored file is damaged",
                where=f"{root.uri}/{name}",
                why=f"its bytes do not have the sha256 in {MARKER}",
                fix="delete the folder in the store and run the step that makes it again",
            )


def download(store: Store, key: str, path: Path) -> str:
    """Copy one object to ``path`` part by part; its sha256.

    Raises:
        DataError: the object does not exist.
        StorageError: ``path`` cannot be written.
    """
    info = store.head(key)
    size = len(store.read(key)) if info is None else info.size  # read raises the store's own four lines
    digest = hashlib.sha256()
    try:
        with open(path, "wb") as file:
            for start in range(0, size, PART_BYTES):
                part = store.read_range(key, start, min(PART_BYTES, size - start))
                digest.update(part)
                file.write(part)
    except OSError as error:
        raise StorageError(
            "a download could not be written",
            where=str(path),
            why=f"{error.strerror} (errno {error.errno})",
            fix="free some space, or point TMPDIR at another disk, then run the same command again",
        ) from error
    return digest.hexdigest()


def _files(root: Store) -> dict[str, dict[str, object]] | None:
    """The marker's table when the tree is whole, else None."""
    if root.head(MARKER) is None:
        return None
    try:
        files: dict[str, dict[str, object]] = json.loads(root.read(MARKER))["files"]
        wanted = {name: file["bytes"] for name, file in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    sizes = {info.key: info.size for info in root.list()}
    return files if all(sizes.get(name) == size for name, size in wanted.items()) else None


def file_sha256(path: Path) -> str:
    """The sha256 of a local file, read in parts."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(PART_BYTES):
            digest.update(part)
    return digest.hexdigest()
