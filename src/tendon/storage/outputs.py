"""Files that a command makes where the user said: nothing is replaced unasked, and what the disk refuses is four lines.

Called by commands.py and by the writer of demonstrations.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tendon.errors import ConfigError, StorageError
from tendon.storage.uri import local_path, open_store, scheme_of


def refuse_existing(*uris: str, force: bool) -> None:
    """Look before the work begins whether anything is at these addresses.

    Raises:
        ConfigError: something is, and ``force`` does not allow to replace it.
    """
    for uri in () if force else uris:
        if is_there(uri):
            raise ConfigError(
                "something is there already",
                where=uri,
                why="nothing is replaced without being asked",
                fix="choose another name, or --force to replace it",
            )


def is_there(uri: str) -> bool:
    """Whether a file, a folder or an object has this address."""
    if scheme_of(uri) != "s3":
        return local_path(uri).exists()
    parent, _, name = uri.rstrip("/").rpartition("/")
    return open_store(parent).head(name) is not None


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Within: its folder is there and the path is free; what was at it is put back if the writing fails.

    Raises:
        StorageError: the disk refuses.
    """
    target = local_path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.replaced-", dir=target.parent) as folder:
            aside = Path(folder) / target.name
            if target.exists():
                target.rename(aside)
            try:
                yield
            except BaseException:
                if aside.exists():
                    shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
                    aside.rename(target)
                raise
    except OSError as error:
        raise StorageError(
            "a file could not be written",
            where=str(error.filename or path),
            why=f"{os.strerror(error.errno)} (errno {error.errno})" if error.errno else str(error),
            fix="name a place that has room and that this user may write, then run the same command again",
        ) from error
