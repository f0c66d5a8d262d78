"""An HDF5 file of demonstrations, opened at the first look; every failure names file, demo and key.

robomimic.py reads through it. Shapes and attributes are read without touching values.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.sources import hdf5_values
from tendon.data.sources.hdf5_chunks import StoredArray, read_chunks
from tendon.data.sources.hdf5_safety import Contents, contents_of
from tendon.errors import DataError

MOST_READ = 1 << 30  # bytes by one call of the system


@dataclass(frozen=True)
class Demo:
    """What is known of one demonstration: array shapes (with the time axis) and dtypes by path, names of attributes."""

    name: str
    num_samples: int
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, np.dtype[Any]]
    attributes: tuple[str, ...] = ()


@dataclass
class Blocks:
    """Where arrays lie in the file in one piece: offset, shape, dtype by path. ``version``: inode, size, time of it."""

    version: tuple[int, ...] = ()
    places: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]] = field(default_factory=dict)


class Hdf5File:
    """Reads from one open file; not for several threads. ``blocks`` may come from another process's Hdf5File."""

    def __init__(self, path: Path, uri: str, blocks: Blocks | None = None) -> None:
        self.path, self.uri = path, uri
        self.blocks = blocks or Blocks()
        self._seen: dict[str, dict[str, StoredArray]] | None = None  # arrays by demonstration, if all were seen already

    def demos(self) -> list[Demo]:
        """Every demonstration, in numeric order of its name."""
        import h5py

        data = self._handle["data"]
        groups = [(name, data[name]) for name in sorted(data, key=_numeric)]
        demos = [self._demo(name, group) for name, group in groups if isinstance(group, h5py.Group)]
        self._seen = None
        return demos

    def masks(self) -> dict[str, list[str]]:
        """Names of demonstrations per mask."""
        masks = self._handle.get("mask", {})
        return {
            name: [each.decode() if isinstance(each, bytes) else str(each) for each in np.ravel(masks[name][()])]
            for name in masks
        }

    def attributes(self, group: str) -> dict[str, Any]:
        """The attributes of a group."""
        return dict(self._handle[group].attrs)

    def some_attributes(self, group: str, names: Sequence[str]) -> dict[str, Any]:
        """Those of ``names`` that a group has; the others, such as a whole scene as text, are not read."""
        import h5py

        if not names:
            return {}
        at = h5py.h5g.open(self._handle.id, group.encode())
        there = [name for name in names if h5py.h5a.exists(at, name.encode())]
        return {name: self._handle[group].attrs[name] for name in there}

    def length(self, base: str) -> int:
        """How many steps the demonstration ``base`` has."""
        if base not in self._handle:
            raise self._broken("a demonstration does not exist", base, "the file has no such group")
        num = self._handle[base].attrs.get("num_samples")
        return self._demo(base.rpartition("/")[2], self._handle[base]).num_samples if num is None else int(num)

    def read(self, path: str, length: int) -> np.ndarray:
        """The first ``length`` steps of an array; what lies in the file in one piece cannot be written to."""
        import h5py

        block = self.blocks.places.get(path)
        if block is not None:
            return self._stored(path, *block)[:length]
        try:
            array = h5py.h5d.open(self._handle.id, path.encode())  # the low-level calls cost a third of array[...]
            values = read_chunks(self._descriptor, array) if self._descriptor >= 0 else None
            if values is None:
                values = np.empty(array.shape, array.dtype)
                array.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
        except (OSError, RuntimeError, KeyError, ValueError, zlib.error) as error:
            raise self._broken("an array cannot be read", path, f"{error}".splitlines()[0]) from error
        return values[:length]

    def _stored(self, path: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Values that lie in the file as they are in memory."""
        values = np.empty(math.prod(shape), dtype)
        content, done = memoryview(values.view(np.uint8).data), 0
        while done < len(content):  # a map of the file would end this process when somebody cuts the file
            num = os.preadv(self._descriptor, [content[done : done + MOST_READ]], offset + done)
            if not num:
                raise self._broken(
                    "an array cannot be read", path, "the file ends before its last value: it is cut off"
                )
            done += num
        values.flags.writeable = False
        return values.reshape(shape)

    def attributes_below(self, base: str, without: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """The attributes of a group and of all that is in it, as hdf5_values describes them; an empty group is kept."""
        import h5py

        group = self._handle[base]
        attributes = {"": self.exact_attributes(base)} if group.attrs else {}
        for path, each in hdf5_values.walk(group, without=without):
            is_empty = isinstance(each, h5py.Group) and not len(each)
            if not isinstance(each, str) and (each.attrs or is_empty):
                attributes[path] = self.exact_attributes(f"{base}/{path}")
        return attributes

    def exact_attributes(self, path: str) -> dict[str, Any]:
        """The attributes of an object, as hdf5_values describes them."""
        attributes = self._handle[path].attrs
        return {name: self._described(attributes, name, path) for name in attributes}

    def paths_below(self, base: str, without: Sequence[str] = ()) -> list[str]:
        """Every array of a group by its path from there; soft links are none."""
        import h5py

        below = hdf5_values.walk(self._handle[base], without=without)
        return [path for path, each in below if isinstance(each, h5py.Dataset)]

    def links_below(self, base: str, without: Sequence[str] = ()) -> dict[str, Any]:
        """The targets of soft links of a group, by path from there."""
        below = hdf5_values.walk(self._handle[base], without=without)
        return {path: {hdf5_values.LINK: each} for path, each in below if isinstance(each, str)}

    def type_of(self, path: str, dtype: np.dtype[Any] | None, shape: tuple[int, ...] = ()) -> dict[str, Any] | None:
        """Type and shape of an array; None where h5py makes the same for values of ``dtype`` and ``shape``."""
        import h5py

        stored = self._handle[path].id
        space = hdf5_values.shape_of(stored)
        is_usual = dtype is not None and dtype.kind != "V" and space == shape
        if is_usual and h5py.h5t.py_create(dtype, logical=True).encode() == stored.get_type().encode():
            return None
        try:
            return hdf5_values.type_and_shape(stored)
        except ValueError as error:
            raise self._not_exact(path, f"{error}") from error

    def _described(self, attributes: Any, name: str, path: str) -> Any:
        stored = attributes.get_id(name)
        try:
            value = attributes[name] if hdf5_values.shape_of(stored) is not None else None
            return hdf5_values.described(stored, value)
        except (ValueError, TypeError, OSError) as error:
            raise self._not_exact(f"{path}, attribute {name}", f"{error}") from error

    def _not_exact(self, path: str, why: str) -> DataError:
        return self._broken("an exact copy cannot keep this", path, why, "convert without --exact, or remove it")

    def has(self, path: str) -> bool:
        """Whether an array or group is there."""
        return path in self._handle

    def groups(self) -> list[str]:
        """What stands beside data and mask."""
        return sorted(set(self._handle) - {"data", "mask"})

    def read_any(self, path: str) -> np.ndarray:
        """An array of any type; text as bytes of one width, of an empty space nothing."""
        if hdf5_values.shape_of(self._handle[path].id) is None:
            return np.zeros(0)
        values = np.asarray(self._handle[path][()])
        if values.dtype.hasobject:
            flat = [
                each if isinstance(each, bytes) else str(each).encode("utf-8", "surrogateescape")
                for each in values.ravel()
            ]
            return np.array(flat, dtype="S").reshape(values.shape)
        return values.view(values.dtype.str) if values.dtype.metadata else values

    def _demo(self, name: str, group: Any) -> Demo:
        seen = self._seen
        arrays = {key: StoredArray.of(each) for key, each in _arrays(group.id)} if seen is None else seen.get(name, {})
        attributes = group.attrs
        names = tuple(attributes)
        num = attributes["num_samples"] if "num_samples" in names else None
        if num is None:
            num = (arrays["actions"].shape or (0,))[0] if "actions" in arrays else 0
        if self._descriptor >= 0:
            for key, array in arrays.items():
                if array.offset is not None:
                    self.blocks.places[f"data/{name}/{key}"] = (array.offset, array.shape, array.dtype)
        shapes = {key: array.shape for key, array in arrays.items()}
        return Demo(name, int(num), shapes, {key: array.dtype for key, array in arrays.items()}, names)

    @cached_property
    def _descriptor(self) -> int:
        """The file opened a second time for raw reads; -1 where offsets do not count from its first byte."""
        if self._handle.userblock_size:
            return -1
        self._raw = open(self.path, "rb")  # noqa: SIM115 - lives as long as the HDF5 file
        self.check_unchanged(self._raw.fileno())
        return self._raw.fileno()

    def check_unchanged(self, descriptor: int | None = None) -> None:
        """Nothing, if the file is still the one whose digest was taken.

        Raises:
            DataError: somebody wrote to it or replaced it.
        """
        version = _version(self.path if descriptor is None else descriptor)
        if self.blocks.version not in ((), version):
            raise self._broken(
                "the file of demonstrations was changed while it was converted",
                "",
                "its size or time is not what it was when its digest was taken",
                "run the same command again, when nobody writes to the file",
            )

    @cached_property
    def _handle(self) -> Any:
        import h5py

        if not self.path.is_file():
            there = self.path.exists()
            what = (
                "the file of demonstrations is no plain file" if there else "the file of demonstrations does not exist"
            )
            why = "it is a folder, a pipe or a device" if there else "there is no such file"
            raise self._broken(what, "", why, "check the path")
        self.check_unchanged()
        try:
            file = h5py.File(self.path, "r", locking=False)
        except OSError as error:
            with open(self.path, "rb") as raw:
                has_signature = raw.read(8) == b"\x89HDF\r\n\x1a\n"
            size = self.path.stat().st_size
            if has_signature:
                what, why = "the HDF5 file is cut off or damaged", f"{size} bytes: {error}".splitlines()[0]
                fix = "copy or record it again: a download or a writer was interrupted"
            else:
                what, why = "the file is not HDF5", f"its {size} bytes do not start with the HDF5 signature"
                fix = "name a robomimic .hdf5 file (a Git LFS pointer or a web page has the wrong content)"
            raise self._broken(what, "", why, fix) from error
        if not self.blocks.version:  # nobody has looked at this file yet
            self._refuse_hostile(file)
            self.blocks.version = _version(self.path)
        if "data" not in file:
            names = ", ".join(sorted(file)) or "nothing"
            raise self._broken("the HDF5 file has no group named data", "", f"it holds {names}: not a robomimic file")
        return file

    def _refuse_hostile(self, file: Any) -> None:
        try:
            contents = contents_of(file, self.uri)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            why = f"its objects cannot be opened: {error}".splitlines()[0]
            fix = "copy or record it again: a download or a writer was interrupted"
            raise self._broken("the HDF5 file is cut off or damaged", "", why, fix) from error
        if contents.problems:
            raise DataError.of(contents.problems)
        self._seen = _by_demo(contents) if contents.complete else None

    def _broken(self, what: str, path: str, why: str, fix: str = "") -> DataError:
        demo = path.removeprefix("data/").partition("/")[0]
        skip = f"data.skip_episodes=[{demo}], or record it again" if demo else "name a file that robomimic can read"
        return DataError(what, where=f"{self.uri}, {path}" if path else self.uri, why=why, fix=fix or skip)


def _version(file: Path | int) -> tuple[int, ...]:
    status = os.stat(file)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _by_demo(contents: Contents) -> dict[str, dict[str, StoredArray]]:
    """What ``_arrays`` gives for each demonstration."""
    demos: dict[str, dict[str, StoredArray]] = {}
    for path, array in contents.arrays.items():
        folder, _, below = path.partition("/")
        demo, _, key = below.partition("/")
        if folder == "data" and key and not key.startswith("next_obs/"):
            demos.setdefault(demo, {})[key] = array
    return demos


def _arrays(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Arrays of a demonstration and of the groups in it, all as low-level objects, which are made in half the time.

    next_obs is not looked at.
    """
    import h5py

    for name in group:
        key, each = name.decode("utf-8", "surrogateescape"), h5py.h5o.open(group, name)
        if isinstance(each, h5py.h5d.DatasetID):
            yield prefix + key, each
        elif isinstance(each, h5py.h5g.GroupID) and (prefix or key != "next_obs"):
            yield from _arrays(each, f"{prefix}{key}/")


def _numeric(name: str) -> tuple[int, str]:
    digits = re.search(r"(\d+)$", name)
    return (int(digits.group(1)) if digits else 1 << 62, name)
