"""HDF5 files that show other files, turn in loops or claim what is not there; ``HOSTILE`` says what each is refused for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

SECRET = b"aws_secret_access_key=AKIA-never-copy-me" + b"." * 24
T = 9  # steps of demo_0


def external_storage(file: h5py.File, secret: Path) -> None:
    del file["data/demo_0/obs/object"]
    file["data/demo_0/obs"].create_dataset("object", (T, 10), "u1", external=[(str(secret), 0, T * 10)])


def external_link(file: h5py.File, secret: Path) -> None:
    other = secret.with_suffix(".hdf5")
    with h5py.File(other, "w") as hidden:
        hidden["object"] = np.zeros((T, 10))
    del file["data/demo_0/obs/object"]
    file["data/demo_0/obs/object"] = h5py.ExternalLink(str(other), "/object")


def external_group(file: h5py.File, secret: Path) -> None:
    other = secret.with_suffix(".hdf5")
    with h5py.File(other, "w") as hidden:
        hidden["obs/object"] = np.zeros((T, 10))
    file["data/demo_0/more"] = h5py.ExternalLink(str(other), "/")


def soft_link_through_an_external_one(file: h5py.File, secret: Path) -> None:
    external_group(file, secret)
    file["data/demo_0/obs/extra"] = h5py.SoftLink("/data/demo_0/more/obs/object")


def virtual_dataset(file: h5py.File, secret: Path) -> None:
    other = secret.with_suffix(".hdf5")
    with h5py.File(other, "w") as hidden:
        hidden["object"] = np.zeros((T, 10))
    layout = h5py.VirtualLayout((T, 10), "f8")
    layout[:] = h5py.VirtualSource(str(other), "object", (T, 10))
    del file["data/demo_0/obs/object"]
    file["data/demo_0/obs"].create_virtual_dataset("object", layout)


def outside_of_the_demonstrations(file: h5py.File, secret: Path) -> None:
    file.create_dataset("notes", (64,), "u1", external=[(str(secret), 0, 64)])


def link_to_itself(file: h5py.File, secret: Path) -> None:
    file["data/demo_0/obs/again"] = file["data"]


def soft_loop(file: h5py.File, secret: Path) -> None:
    file["data/demo_0/obs/again"] = h5py.SoftLink("/data")


def dangling(file: h5py.File, secret: Path) -> None:
    file["data/demo_0/obs/again"] = h5py.SoftLink("/nothing")


def deep(file: h5py.File, secret: Path) -> None:
    file["data/demo_0/obs" + "/a" * 200] = [1.0]


def empty_giant(file: h5py.File, secret: Path) -> None:
    del file["data/demo_0/actions"]
    file["data/demo_0"].create_dataset("actions", (10**7, 10**6), "f8", chunks=(10, 10), compression="gzip")


def contiguous_giant(file: h5py.File, secret: Path) -> None:
    del file["data/demo_0/actions"]
    file["data/demo_0"].create_dataset("actions", (10**6, 10**6), "f8")  # nothing was ever written


HOSTILE: dict[Callable[[h5py.File, Path], None], str] = {
    external_storage: "external storage",
    external_link: "an external link",
    external_group: "an external link",
    soft_link_through_an_external_one: "an external link",
    virtual_dataset: "a virtual dataset",
    outside_of_the_demonstrations: "external storage",
    link_to_itself: "a link loop",
    soft_loop: "a link loop",
    dangling: "a link that leads nowhere",
    deep: "nested too deep",
    empty_giant: "claims more than it holds",
    contiguous_giant: "claims more than it holds",
}
