"""What host and guest say to each other: length-prefixed frames over a pipe, pixels through a shared file.

A frame is two little-endian uint32 (bytes of header, bytes of body), a JSON header, and the raw bytes of the arrays
one after another. The header is ``{"fields": {...}, "arrays": [[name, dtype, shape], ...], "images": [[name, shape],
...]}``; images lie in the shared file in that order. Used by sim/guest.py and evaluate/guest.py.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import struct
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 2
PART = "action."  # before the name of a part, where an action has several
PREFIX = struct.Struct("<II")
MAX_BYTES = 1 << 30  # a longer header or body means that something else wrote into the pipe

Array = NDArray[Any]


class ProtocolError(Exception):
    """The other side is gone, or what it wrote is not a frame."""


class ProtocolTimeout(ProtocolError):  # noqa: N818
    """The other side did not answer in time."""


class Refused(Exception):  # noqa: N818 - reads better where it is raised
    """The user asked the simulator for something it does not have (a task, a camera, an expert): no crash, no retry."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why = why
        self.fix = fix


@dataclass(frozen=True)
class Message:
    """One request or one reply: JSON fields, low-dimensional arrays, and uint8 images ``[H, W, 3]``."""

    fields: dict[str, Any]
    arrays: dict[str, Array] = field(default_factory=dict)
    images: dict[str, Array] = field(default_factory=dict)


class SharedPixels:
    """The file that both sides map; it grows on the writing side and is mapped anew on the reading side."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map: mmap.mmap | None = None

    def write(self, images: list[Array]) -> None:
        """Put the images one after another at the start of the file."""
        total = sum(image.nbytes for image in images)
        if total:
            view = self._mapped(total, grow=True)
            start = 0
            for image in images:
                view[start : start + image.nbytes] = np.ascontiguousarray(image).tobytes()
                start += image.nbytes

    def read(self, shapes: list[tuple[int, ...]]) -> list[Array]:
        """Copies of the images of these shapes, in file order."""
        images: list[Array] = []
        start = 0
        for shape in shapes:
            count = int(np.prod(shape))
            view = self._mapped(start + count, grow=False)
            images.append(np.frombuffer(view, np.uint8, count, start).reshape(shape).copy())
            start += count
        return images

    def _mapped(self, size: int, *, grow: bool) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            if grow and os.fstat(self.fd).st_size < size:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(self.fd, 0, size)  # a full /dev/shm is an error here, not a SIGBUS later
                else:
                    os.ftruncate(self.fd, size)
            actual = os.fstat(self.fd).st_size
            if actual < size:
                raise ProtocolError(f"shared file holds {actual} bytes, {size} expected")
            self._map = mmap.mmap(self.fd, actual)
        return self._map


def send(fd: int, message: Message, pixels: SharedPixels | None = None) -> None:
    """Write one frame; its images go to ``pixels``."""
    arrays = {name: np.ascontiguousarray(array) for name, array in message.arrays.items()}
    header = {
        "fields": message.fields,
        "arrays": [[name, array.dtype.str, list(np.shape(message.arrays[name]))] for name, array in arrays.items()],
        "images": [[name, list(image.shape)] for name, image in message.images.items()],
    }
    if message.images:
        assert pixels is not None
        pixels.write(list(message.images.values()))
    head = json.dumps(header, separators=(",", ":")).encode()
    body = b"".join(array.tobytes() for array in arrays.values())
    data = memoryview(PREFIX.pack(len(head), len(body)) + head + body)
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        raise ProtocolError(f"cannot write: {error.strerror}") from error


def receive(fd: int, pixels: SharedPixels | None = None, timeout_s: float | None = None) -> Message:
    """Read one frame, waiting at most ``timeout_s`` for the whole of it (None: for ever)."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    head_bytes, body_bytes = PREFIX.unpack(_read(fd, PREFIX.size, deadline))
    if max(head_bytes, body_bytes) > MAX_BYTES:
        raise ProtocolError("the pipe holds something that is not a frame")
    header = json.loads(_read(fd, head_bytes, deadline))
    body = _read(fd, body_bytes, deadline)
    arrays: dict[str, Array] = {}
    start = 0
    for name, dtype, shape in header["arrays"]:
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(body, np.dtype(dtype), count, start).reshape(shape)
        start += arrays[name].nbytes
    images: dict[str, Array] = {}
    if header["images"]:
        assert pixels is not None
        shapes = [tuple(shape) for _, shape in header["images"]]
        images = dict(zip([name for name, _ in header["images"]], pixels.read(shapes)))  # noqa: B905 - guests of python 3.9
    return Message(header["fields"], arrays, images)


def _read(fd: int, count: int, deadline: float | None) -> bytearray:
    """Exactly ``count`` bytes, in a buffer of their own so that arrays made of it can be written to."""
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        if deadline is not None:
            _wait(fd, deadline)
        got = os.readv(fd, [view])
        if not got:
            raise ProtocolError("the other side closed the pipe")
        view = view[got:]
    return buffer


def _wait(fd: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise ProtocolTimeout("no answer in time")
