"""HDF5 values as JSON and back with their type and shape to the last bit: what an exact copy keeps beside plain arrays.

numpy and h5py give most values back as they were; ``described`` notes the type and the space of those that they do not:
text of a fixed width, bytes in another order, enumerations, empty spaces. Used by hdf5_file.py and the robomimic writer.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

LINK, TYPE = "link", "type"


def described(stored: Any, value: Any) -> Any:
    """An attribute as JSON: as ``plain`` has it where h5py writes the same type and shape for that, else with both.

    Args:
        stored: its low-level object.
        value: what h5py reads of it.

    Raises:
        ValueError: its type points at other objects.
    """
    kind, shape = stored.get_type(), shape_of(stored)
    if shape is not None and value is not None:
        usual = None if np.asarray(value).dtype.kind in "cV" else plain(value)
        if usual is not None and _finite(value) and written_as(of_plain(usual)) == (kind.encode(), shape):
            return usual
    return {**type_and_shape(stored), **({} if shape is None else _content(kind, value))}


def type_and_shape(stored: Any) -> dict[str, Any]:
    """The type and the space of an array or attribute; the shape of an empty space is None.

    Raises:
        ValueError: its type points at other objects, which only the file has.
    """
    kind = stored.get_type()
    if not _is_plain(kind):
        raise ValueError("its values point at other values of the file")
    shape = shape_of(stored)
    return {TYPE: base64.b64encode(kind.encode()).decode(), "shape": None if shape is None else list(shape)}


def shape_of(stored: Any) -> tuple[int, ...] | None:
    """The shape of an array or attribute; None of an empty space."""
    import h5py

    empty = stored.get_space().get_simple_extent_type() == h5py.h5s.NULL
    return None if empty else tuple(stored.shape)


def written_as(value: Any) -> tuple[bytes, tuple[int, ...]]:
    """The type and the shape that h5py gives a value."""
    import h5py

    is_text = isinstance(value, str | list)
    values = np.array(value, h5py.string_dtype()) if is_text else np.asarray(value)
    return h5py.h5t.py_create(values.dtype, logical=True).encode(), values.shape


def write_attribute(of: Any, name: str, value: Any) -> None:
    """Write what ``described`` described."""
    import h5py

    if not (isinstance(value, dict) and TYPE in value):
        of.attrs[name] = of_plain(value)
        return
    kind = h5py.h5t.decode(base64.b64decode(value[TYPE]))
    attribute = h5py.h5a.create(of.id, name.encode("utf-8", "surrogateescape"), kind, _space(value["shape"]))
    if value["shape"] is not None:
        values = np.array(value["text"], kind.dtype) if "text" in value else _from_bytes(value["bytes"], kind.dtype)
        attribute.write(values.reshape(value["shape"]))


def write_array(group: Any, path: str, entry: dict[str, Any], values: np.ndarray) -> None:
    """Write an array with the type and the space of ``type_and_shape``; text is given as bytes."""
    import h5py

    kind = h5py.h5t.decode(base64.b64decode(entry[TYPE]))
    parent, _, name = path.rpartition("/")
    at = group.require_group(parent) if parent else group
    array = h5py.h5d.create(at.id, name.encode("utf-8", "surrogateescape"), kind, _space(entry["shape"]))
    if entry["shape"] is None:
        return
    if kind.dtype.hasobject:
        flat = [each.decode("utf-8", "surrogateescape") for each in np.ravel(values).tolist()]
        values = np.array(flat, kind.dtype)
    elif values.dtype.kind in "fiu" and kind.dtype.kind in "fiu":
        values = values.astype(kind.dtype)
    else:
        values = np.frombuffer(values.tobytes(), kind.dtype)
    array.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(values.reshape(entry["shape"])))


def walk(group: Any, prefix: str = "", without: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """Every object below a group by its path from there, and of a soft link the text of its target.

    ``without``: paths that are not looked into.
    """
    import h5py

    for name in group:
        path, link = prefix + name, group.get(name, getlink=True)
        if path in without:
            continue
        if isinstance(link, h5py.SoftLink):
            yield path, link.path
            continue
        yield path, group[name]
        if isinstance(group[name], h5py.Group):
            yield from walk(group[name], f"{path}/", without)


def plain(value: Any) -> Any:
    """An attribute as JSON: text as it is, numbers with their dtype."""
    if isinstance(value, (str, bytes)):
        return value if isinstance(value, str) else value.decode("utf-8", "replace")
    values = np.asarray(value)
    if values.dtype.kind in "OSU":
        return {
            "text": [
                each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in values.ravel()
            ]
        }
    return {"dtype": values.dtype.str, "values": values.tolist()}


def of_plain(value: Any) -> Any:
    """The attribute that ``plain`` described."""
    if isinstance(value, str):
        return value
    return value["text"] if "text" in value else np.array(value["values"], value["dtype"])[()]


def _finite(value: Any) -> bool:
    values = np.asarray(value)
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _is_plain(kind: Any) -> bool:
    import h5py

    if isinstance(kind, h5py.h5t.TypeCompoundID):
        return all(_is_plain(kind.get_member_type(i)) for i in range(kind.get_nmembers()))
    if kind.get_class() == h5py.h5t.ARRAY:
        return _is_plain(kind.get_super())
    return kind.get_class() not in (h5py.h5t.VLEN, h5py.h5t.REFERENCE)


def _content(kind: Any, value: Any) -> dict[str, Any]:
    if kind.dtype.hasobject:
        flat = np.ravel(np.asarray(value, object)).tolist()
        return {
            "text": [each.decode("utf-8", "surrogateescape") if isinstance(each, bytes) else str(each) for each in flat]
        }
    values = np.asarray(value).astype(kind.dtype) if kind.dtype.kind == "S" else np.asarray(value, kind.dtype)
    return {"bytes": base64.b64encode(values.tobytes()).decode()}


def _from_bytes(content: str, dtype: Any) -> np.ndarray:
    return np.frombuffer(base64.b64decode(content), dtype)


def _space(shape: list[int] | None) -> Any:
    import h5py

    if shape is None:
        return h5py.h5s.create(h5py.h5s.NULL)
    return h5py.h5s.create_simple(tuple(shape)) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
