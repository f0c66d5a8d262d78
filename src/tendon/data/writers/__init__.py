"""Demonstrations out in a foreign format: ``write_dataset(dataset, uri, format)``.

A format is one module with ``write(dataset: Demonstrations, target: Path, progress)``, of this folder and named in FORMATS, or
of another installed package (entry points ``tendon.writers``): it makes
``target``, a file or a folder that does not exist, on a local disk. What makes it whole in one move stands here.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

from tendon.data.demonstrations import Demonstrations, SourceDemonstrations
from tendon.data.sources.source import Source
from tendon.errors import ConfigError, StorageError, nearest
from tendon.plugins import OWN, Claim, claims
from tendon.storage import open_store
from tendon.storage.uri import local_path, scheme_of

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]  # done, total, unit

FORMATS = {
    "lerobot-v2.1": "tendon.data.writers.lerobot_v21",
    "lerobot-v3.0": "tendon.data.writers.lerobot_v30",
    "minestudio-v1.1": "tendon.data.writers.minestudio",
    "modality": "tendon.data.writers.modality",
    "robomimic": "tendon.data.writers.robomimic",
}
LAST = ("meta/info.json",)  # what a reader looks for first is uploaded last


def write_dataset(
    dataset: Demonstrations | Source, uri: str, format: str, progress: Progress | None = None, *, force: bool = False
) -> None:
    """Write a dataset, or the Episodes of a source, to ``uri`` (local or S3): the whole of it appears, or nothing.

    On S3 a killed upload leaves objects without the one that makes a reader see a dataset; a rerun replaces them.
    With ``force`` what is at ``uri`` is replaced, once the new one is whole.

    Raises:
        ConfigError: no format has that name, two packages bring one name, or something is at ``uri`` already.
        StorageError: the disk or the store cannot be written.
    """
    known = claims("writers", [Claim(name, module, OWN) for name, module in FORMATS.items()])
    if format not in known:
        near = nearest(format, known, 0.4)
        raise ConfigError(
            f"there is no format named {format} to write",
            where=uri,
            why=f"the formats are {', '.join(known)}",
            fix=f"write {near}" if near else "choose one of them",
        )
    write = known[format].load().write
    if hasattr(dataset, "describe"):
        dataset = SourceDemonstrations(cast("Source", dataset))
    report = progress or (lambda done, total, unit: None)
    try:
        if scheme_of(uri) == "s3":
            with tempfile.TemporaryDirectory(prefix="tendon-export-") as folder:
                target = Path(folder) / (uri.rstrip("/").rpartition("/")[2] or "dataset")
                _refuse_existing(uri, _is_there(uri) and not force)
                write(dataset, target, report)
                _upload(target, uri, force=force)
        else:
            _write_local(dataset, local_path(uri), uri, write, report, force=force)
    except OSError as error:
        raise StorageError(
            "the dataset could not be written",
            where=uri,
            why=f"{error.strerror or error} (errno {error.errno})",
            fix="free some space or choose another place, then run the same command again",
        ) from error
    log.info("export-data: %s holds %d episodes as %s", uri, len(dataset.rows), format)


def _write_local(
    dataset: Demonstrations,
    target: Path,
    uri: str,
    write: Callable[[Demonstrations, Path, Progress], None],
    report: Progress,
    *,
    force: bool,
) -> None:
    _refuse_existing(uri, target.exists() and not force)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        write(dataset, folder / target.name, report)
        for path in folder.rglob("*"):
            if path.is_file():
                _sync(path)
        if force and target.exists():
            os.rename(target, folder / "replaced")
        _refuse_existing(uri, target.exists())
        os.rename(folder / target.name, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_there(uri: str) -> bool:
    """Whether a whole dataset is at an S3 address: the object itself, or what a folder's reader looks for."""
    parent, _, name = uri.rstrip("/").rpartition("/")
    return open_store(parent).head(name) is not None or any(open_store(uri).head(key) for key in LAST)


def _upload(target: Path, uri: str, *, force: bool) -> None:
    if target.is_file():
        parent, _, name = uri.rstrip("/").rpartition("/")
        open_store(parent).write(name, target.read_bytes())
        return
    store = open_store(uri)
    keys = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    old = [info.key for info in store.list() if info.key not in keys]
    _refuse_existing(uri, bool(old) and not force)
    for key in (*(key for key in LAST if force), *old):  # nobody sees a mixture of both
        store.delete(key)
    for key in sorted(keys, key=lambda key: key in LAST):
        store.write(key, (target / key).read_bytes())


def _refuse_existing(uri: str, there: bool) -> None:
    if there:
        raise ConfigError(
            "something is there already",
            where=uri,
            why="a dataset is written to a new place only",
            fix="choose another name, or --force to replace it",
        )


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
