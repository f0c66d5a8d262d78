"""What an HDF5 file may not do: show bytes of other files, or claim more than it holds. Looked at before a value is read.

HDF5 can store an array in any file of the machine (external storage), point at objects of other files (external links)
and compose arrays of other files' (virtual datasets): a dataset made of such a file would hold this machine's secrets.
Called once per file by hdf5_file.py, which also takes the arrays that were seen on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tendon.data.sources.hdf5_chunks import StoredArray
from tendon.errors import Problem

MAX_DEPTH = 32  # of groups
MAX_PROBLEMS = 20
MAX_OBJECTS = 20_000_000
SMALL_BYTES = 64 << 20  # an array of this size is not worth a question
MOST_INFLATED = 1100  # gzip makes at most 1032 bytes of one

Refused = tuple[str, str, str]  # path, what it is, why it is refused


@dataclass
class Contents:
    """The problems of a file, and its arrays by path; ``complete``: no other path leads to an array."""

    problems: list[Problem] = field(default_factory=list)
    arrays: dict[str, StoredArray] = field(default_factory=dict)
    complete: bool = True


def contents_of(file: Any, uri: str) -> Contents:
    """Everything in an open ``h5py.File``: what is refused, with its path, and the arrays."""
    import h5py

    root = h5py.h5g.open(file.id, b"/")
    walk = _Walk()
    refused = list(islice(walk.group(root, "", (_address(root),)), MAX_PROBLEMS))
    if not refused:  # what a soft link shows may lie behind an external one: that must not be opened
        refused = list(islice(walk.soft_links(), MAX_PROBLEMS))
    fix = "do not convert a file that you do not trust; of one that you do, write the values as plain arrays"
    walk.contents.problems = [
        Problem(f"the HDF5 file has {what}", f"{uri}, {path or '/'}", why, fix) for path, what, why in refused
    ]
    return walk.contents


class _Walk:
    """Over every object that a hard link leads to; soft links are kept for later, with the groups that they stand in."""

    def __init__(self) -> None:
        self.contents = Contents()
        self._soft: list[tuple[Any, bytes, str, tuple[int, ...]]] = []
        self._num = 0

    def group(self, group: Any, prefix: str, parents: tuple[int, ...]) -> Iterator[Refused]:
        """All that is wrong below a group."""
        import h5py

        if len(parents) > MAX_DEPTH:
            yield prefix, "groups that are nested too deep", f"they are more than {MAX_DEPTH} deep"
            return
        links = group.links
        for name in list(group):
            path, kind = f"{prefix}/{_text(name)}".lstrip("/"), links.get_info(name).type
            self._num += 1
            if self._num > MAX_OBJECTS:
                yield path, "too many objects", f"more than {MAX_OBJECTS:,}"
            elif kind == h5py.h5l.TYPE_EXTERNAL:
                target = ": ".join(map(_text, group.links.get_val(name)))
                yield path, "an external link", f"it shows {target}, which is in another file"
            elif kind == h5py.h5l.TYPE_SOFT:
                self.contents.complete = False
                self._soft.append((group, name, path, parents))
            elif kind != h5py.h5l.TYPE_HARD:
                yield path, "a link of an unknown kind", f"its type is {kind}: a plug-in would be asked what it shows"
            else:
                self.contents.complete &= name.isascii()  # other names may be written in two ways
                yield from self._object(group, name, path, parents)

    def soft_links(self) -> Iterator[Refused]:
        """What is wrong with them; they lead to objects that were looked at already, or nowhere."""
        for group, name, path, parents in self._soft:
            try:
                yield from self._object(group, name, path, parents)
            except (KeyError, OSError, RuntimeError):  # noqa: PERF203 - one bad link must not hide the next
                target = _text(group.links.get_val(name))
                yield path, "a link that leads nowhere", f"it names {target}, which is not in the file"

    def _object(self, group: Any, name: bytes, path: str, parents: tuple[int, ...]) -> Iterator[Refused]:
        import h5py

        child = h5py.h5o.open(group, name)
        if isinstance(child, h5py.h5d.DatasetID):
            yield from self._array(child, path)
        elif isinstance(child, h5py.h5g.GroupID):
            address = _address(child)
            if address in parents:
                yield path, "a link loop", "the group is inside of itself"
            elif group.links.get_info(name).type == h5py.h5l.TYPE_HARD:
                yield from self.group(child, path, (*parents, address))

    def _array(self, array: Any, path: str) -> Iterator[Refused]:
        import h5py

        plist = array.get_create_plist()
        if num := plist.get_external_count():
            files = sorted({_text(plist.get_external(i)[0]) for i in range(num)})
            yield path, "external storage", f"its values are those of another file: {', '.join(files[:3])}"
            return
        if plist.get_layout() == h5py.h5d.VIRTUAL:
            num = plist.get_virtual_count()
            files = sorted({plist.get_virtual_filename(i) for i in range(min(num, 100))})
            yield path, "a virtual dataset", f"its values are those of other arrays, in {', '.join(files[:3])}"
            return
        stored = self.contents.arrays[path] = StoredArray.of(array, plist)
        size = stored.num_bytes
        if size > SMALL_BYTES:
            held = array.get_storage_size()
            most = held * (MOST_INFLATED ** min(plist.get_nfilters(), 2) if plist.get_nfilters() else 1)
            if size > most:
                why = f"its shape {stored.shape} takes {size:,} bytes, the file has {held:,} for it"
                yield path, "an array that claims more than it holds", why


def _address(group: Any) -> int:
    import h5py

    return int(h5py.h5g.get_objinfo(group).objno[0])


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
