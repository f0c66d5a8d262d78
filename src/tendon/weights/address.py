"""Addresses of weights: is anything there, and bring it here. No torch; called by the planner, kept.py and start.py."""

from __future__ import annotations

from pathlib import Path

from tendon.errors import ConfigError, DataError
from tendon.plugins import PACKAGE, package_path
from tendon.storage import open_store
from tendon.storage.local import LocalStore
from tendon.storage.store import Store
from tendon.storage.trees import download
from tendon.weights.foreign import format_claims


def split_format(address: str) -> tuple[str, str]:
    """``URI#FORMAT`` as its two parts; the format may be empty."""
    uri, _, format_name = address.partition("#")
    return uri, format_name


def check_address(address: str, key: str) -> None:
    """What can be said of ``URI#FORMAT`` before anything is read.

    Raises:
        ConfigError: nothing is there, or the format has no such name.
    """
    uri, format_name = split_format(address)
    if format_name and not {format_name, format_name.partition("-")[0]} & set(format_claims()):
        why = f"the formats are {', '.join(format_claims())}"
        raise ConfigError(f"there is no weight format {format_name}", where=key, why=why, fix=f"{key}={uri}")
    store, name = _place(uri)
    if isinstance(store, LocalStore):
        is_there = (store.root / name).exists()
    else:
        is_there = store.head(name) is not None or next(iter(store.at(name).list()), None) is not None
    if not is_there:
        raise ConfigError("there are no such weights", where=f"{key}={address}", why="nothing is there", fix="check it")


def bring(uri: str, scratch: Path) -> Path:
    """The file or folder at an address, on this machine; copied into ``scratch`` if it lies elsewhere.

    Raises:
        DataError: nothing is there.
    """
    store, name = _place(uri)
    if isinstance(store, LocalStore):
        path = store.root / name
        if not path.exists():
            raise DataError("there are no such weights", where=uri, why="no such file", fix="check the address")
        return path
    if store.head(name) is not None:
        download(store, name, scratch / name)
        return scratch / name
    folder = scratch / "published"
    for entry in store.at(name).list():
        (folder / entry.key).parent.mkdir(parents=True, exist_ok=True)
        download(store.at(name), entry.key, folder / entry.key)
    if not folder.is_dir():
        raise DataError("there are no such weights", where=uri, why="nothing is there", fix="check the address")
    return folder


def _place(uri: str) -> tuple[Store, str]:
    """The store above an address, and the name below it."""
    uri = str(package_path(uri)) if uri.startswith(PACKAGE) else uri
    parent, slash, name = uri.rstrip("/").rpartition("/")
    return open_store(parent or ("/" if slash else ".")), name
