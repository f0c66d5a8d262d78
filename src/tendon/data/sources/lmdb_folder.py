"""The LMDB folders of a MineStudio dataset: which modality each holds, which episodes, and the bytes of their chunks.

minestudio.py reads through it. Only data.mdb is opened, read-only and without a lock file, so that read-only disks work.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tendon.data.sources import safe_pickle
from tendon.errors import DataError, MissingDependency

# folder names of 1.0 and 1.1 -> what they hold
MODALITIES = {
    "image": "image", "video": "image", "action": "action", "segmentation": "segmentation", "segment": "segmentation",
    "meta_info": "meta_info", "contractor_info": "meta_info",
}  # fmt: skip
EVENT = "event"
DATA = "data.mdb"


@dataclass(frozen=True)
class ChunkLocation:
    """Where an episode of one modality lies: the LMDB folder (relative), its number there, its frames."""

    folder: str
    number: int
    num_frames: int


@dataclass(frozen=True)
class Modality:
    """All LMDB folders of one modality as one."""

    name: str
    chunk_size: int
    episodes: Mapping[str, ChunkLocation]
    twice: tuple[str, ...]  # episodes that are in two folders; the last one counts, as for MineStudio


def find_folders(root: Path) -> tuple[dict[str, list[str]], list[str], dict[str, str]]:
    """LMDB folders by modality, event folders, and what is left out with the reason; paths relative to ``root``."""
    folders: dict[str, list[str]] = {}
    events: list[str] = []
    left_out: dict[str, str] = {}
    for file in sorted([*root.glob(f"*/{DATA}"), *root.glob(f"*/*/{DATA}"), *root.glob(f"*/*/*/{DATA}")]):
        folder = file.parent
        relative = folder.relative_to(root).as_posix()
        if folder.name == EVENT:
            events.append(relative)
        elif folder.parent.name.partition(".")[0] in MODALITIES:
            folders.setdefault(MODALITIES[folder.parent.name.partition(".")[0]], []).append(relative)
        else:
            left_out[folder.parent.relative_to(root).as_posix()] = "no known modality"
    return folders, events, left_out


def read_modality(root: Path, name: str, folders: list[str], uri: str) -> Modality:
    """The tables of one modality.

    Raises:
        DataError: a table is missing or damaged, or chunk sizes differ.
    """
    sizes: dict[int, str] = {}
    episodes: dict[str, ChunkLocation] = {}
    twice: list[str] = []
    for folder in folders:
        size = read_value(root, folder, "__chunk_size__", uri)
        infos = read_value(root, folder, "__chunk_infos__", uri)
        try:
            sizes.setdefault(int(size), folder)
            places = {
                str(each["episode"]): ChunkLocation(folder, int(each["episode_idx"]), int(each["num_frames"]))
                for each in infos
            }
        except (TypeError, KeyError, ValueError) as error:
            why = f"__chunk_infos__ is not a list of episode, episode_idx, num_frames ({type(error).__name__})"
            raise _broken(uri, folder, "a table of episodes cannot be read", why) from error
        twice += [each for each in places if each in episodes]
        episodes |= places
    if len(sizes) != 1:
        why = " and ".join(f"{size} frames in {folder}" for size, folder in sizes.items())
        raise _broken(uri, name, "the chunks of a modality differ in size", why)
    return Modality(name, next(iter(sizes)), episodes, tuple(twice))


def read_value(root: Path, folder: str, key: str, uri: str) -> Any:
    """A pickled value, read without running it."""
    content = read_bytes(root, folder, key, uri)
    try:
        return safe_pickle.loads(content)
    except ValueError as error:
        what = "a pickle was refused" if isinstance(error, safe_pickle.RefusedError) else "a value cannot be read"
        raise _broken(uri, f"{folder}, key {key}", what, str(error)) from error


def read_bytes(root: Path, folder: str, key: str, uri: str) -> bytes:
    """The bytes of a value.

    Raises:
        DataError: it is not there, or the LMDB is damaged.
    """
    try:
        with environment(root / folder).begin() as transaction:
            content = transaction.get(key.encode())
    except DataError:
        raise
    except Exception as error:  # lmdb.Error and what its C library makes of a damaged file
        raise _broken(uri, folder, "an LMDB cannot be read", f"{type(error).__name__}: {error}") from error
    if content is None:
        raise _broken(
            uri, f"{folder}, key {key}", "a value is missing in an LMDB", "its tables name it, no such key is there"
        )
    return bytes(content)


def environment(folder: Path) -> Any:
    """An open LMDB folder; one that was open already is used again, LMDB allows only one per process.

    Raises:
        DataError: its file is a pipe or a device, which LMDB would wait for.
    """
    status = (folder / DATA).stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            "a file of the dataset is no plain file",
            where=str(folder / DATA),
            why="it is a pipe, a socket or a device",
            fix="copy the dataset's files again",
        )
    return _environment(str(folder), status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _environment(folder: str, inode: int, changed_ns: int) -> Any:
    settings = {"readonly": True, "lock": False, "max_readers": 128, "create": False}
    try:
        return lmdb().open(folder, **settings)
    except lmdb().Error:  # open already, before its file was changed
        close_all()
        return lmdb().open(folder, **settings)


def version(file: Path) -> tuple[int, ...]:
    """What changes when somebody writes to a file: inode, size, time."""
    status = file.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def close_all() -> None:
    """Let go of every LMDB folder, so that others can open them in this process."""
    _environment.cache_clear()


def lmdb() -> Any:
    """The module.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        return import_module("lmdb")
    except ImportError as error:
        raise MissingDependency(
            "MineStudio's data needs the package lmdb",
            where="reading or writing an LMDB folder",
            why="it is not installed",
            fix="pip install 'tendon-robotics[minestudio]'",
        ) from error


def keys(root: Path, folder: str) -> Iterator[str]:
    """Every key of an LMDB folder in order."""
    with environment(root / folder).begin() as transaction:
        for key in transaction.cursor().iternext(values=False):
            yield bytes(key).decode("utf-8", "replace")


def _broken(uri: str, where: str, what: str, why: str) -> DataError:
    return DataError(what, where=f"{uri}, {where}", why=why, fix="copy the dataset again, or leave this part of it out")
