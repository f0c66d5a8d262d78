"""robomimic HDF5 in: one file of demonstrations -> SourceInfo and Episodes.

Lengths come from the attribute ``num_samples``, order is numeric on the demo name, masks become splits. ``next_obs`` is
not read: it is ``obs`` one step later. float64 becomes float32, and the schema says so. ``exactly()`` keeps all of it.
"""

from __future__ import annotations

import base64
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.episode import Episode, LazyImages, Schema
from tendon.data.extras import npy_bytes
from tendon.data.features import DECLARED
from tendon.data.sources import robomimic_rest as rest
from tendon.data.sources.hashes import Meanwhile
from tendon.data.sources.hdf5_file import Hdf5File
from tendon.data.sources.robomimic_layout import (
    RobomimicLayout,
    common_layout,
    done_or_cast,
    episode_infos,
    json_attribute,
)
from tendon.data.sources.source import EpisodeInfo, SourceInfo, digest_with_features
from tendon.errors import DataError
from tendon.storage.trees import download, file_sha256
from tendon.storage.uri import local_path, open_store, scheme_of

log = logging.getLogger(__name__)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOTES = ("ep_meta", "camera_info", "success")  # attributes of a demonstration that are kept
LOOK_COST = 10  # times the bytes; demonstrations of 20 steps are looked at with 5 MB of them a second
MAX_BESIDE = 256 << 10  # characters of what an exact copy keeps beside the demonstrations: it stands in the manifest
DEFAULT_FPS = 20.0  # robosuite's control frequency when the file does not say


def sniff(uri: str) -> bool:
    """Whether ``uri`` looks like an HDF5 file, by name or by its first bytes."""
    if uri.lower().endswith((".hdf5", ".h5")):
        return True
    if scheme_of(uri) == "s3":
        return False
    path = local_path(uri)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def open_uri(uri: str) -> RobomimicSource:
    """The reader of a local or S3 file; an S3 file is copied to a temporary one, which lives as long as the reader."""
    if scheme_of(uri) != "s3":
        return RobomimicSource(uri, local_path(uri))
    folder = tempfile.TemporaryDirectory(prefix="tendon-source-")
    parent, _, name = uri.rpartition("/")
    target = Path(folder.name) / name
    log.info("convert: downloading %s", uri)
    download(open_store(parent), name, target)
    return RobomimicSource(uri, target, folder)


class RobomimicSource:
    """A Source over one HDF5 file."""

    parser = "HDF5"
    libraries = ("h5py",)

    def __init__(self, uri: str, path: Path, keep_alive: object = None, exact: bool = False) -> None:
        self.uri = uri
        self.path = path
        self.exact = exact
        self._keep_alive = keep_alive
        self._file = Hdf5File(path, uri)
        self._info: SourceInfo | None = None
        self._layout: RobomimicLayout | None = None
        self._lengths: dict[str, int] = {}
        self._notes: tuple[str, ...] = ()  # those of NOTES that the file has

    def __getstate__(self) -> dict[str, Any]:
        kept = ("uri", "path", "exact", "_info", "_layout", "_lengths", "_notes")
        return {name: getattr(self, name) for name in kept} | {"blocks": self._file.blocks, "_keep_alive": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._file = Hdf5File(state["path"], state["uri"], state.pop("blocks"))
        self.__dict__.update(state)

    def exactly(self) -> RobomimicSource:
        """The same file with nothing cast, encoded or left out."""
        return RobomimicSource(self.uri, self.path, self._keep_alive, exact=True)

    def num_bytes_on_disk(self) -> int:
        """How much is hashed and looked at, in bytes: opening the arrays of short demonstrations takes longer than their bytes."""
        return LOOK_COST * self.path.stat().st_size if self.path.is_file() else 0

    def check_unchanged(self) -> None:
        """Nothing, if the file is still the one whose digest was taken.

        Raises:
            DataError: somebody wrote to it or replaced it.
        """
        self._file.check_unchanged()

    def describe(self) -> SourceInfo:
        """Everything but the values; the digest is the sha256 of the file."""
        if self._info is None:
            self._info = self._describe()
        return self._info

    def read(self, episode_id: str, images: bool = True) -> Episode:
        """One episode; without ``images`` only its low-dimensional features.

        Raises:
            DataError: the file, the demo or one of its arrays is missing or unreadable.
        """
        if self._layout is None:
            self._look()
        assert self._layout is not None
        layout, base = self._layout, f"data/{episode_id}"
        length = self._lengths.get(episode_id) or self._file.length(base)
        read = {each.feature.key: self._file.read(f"{base}/{each.path}", length) for each in layout.arrays}
        cameras = layout.cameras if images else ()
        frames = LazyImages({c.camera.name: partial(self._file.read, f"{base}/{c.path}", length) for c in cameras})
        features = {each.feature.key: done_or_cast(read[each.feature.key], each.feature) for each in layout.arrays}
        attributes = self._file.some_attributes(base, self._notes)
        meta = json_attribute(attributes.get("ep_meta"))
        task = str(meta.get("lang") or layout.env_args.get("env_name") or "")
        provenance = {"group": base} | ({"ep_meta": meta} if meta else {})
        if camera_info := json_attribute(attributes.get("camera_info")):
            provenance["camera_info"] = camera_info
        success = _success(read.get("next.reward"))
        if success is None and "success" in attributes:  # of Isaac Lab
            success = bool(attributes["success"])
        extras = self._extras(base, length, frames, read) if images else {}
        masks = {
            each.mask.name: self._file.read(f"{base}/{each.path}", length) for each in (layout.masks if images else ())
        }
        return Episode(episode_id, length, features, frames, task, success, provenance, extras, masks)

    def _extras(
        self, base: str, length: int, frames: Mapping[str, Any], read: Mapping[str, np.ndarray]
    ) -> dict[str, bytes]:
        """Arrays too wide for a row; of an exact copy also everything else that the demonstration has."""
        assert self._layout is not None
        layout = self._layout
        extras = {
            name: npy_bytes(self._file.read(f"{base}/{path}", length))
            for name, path in layout.wide.items()
            if self._file.has(f"{base}/{path}")
        }
        if self.exact:
            taken = {each.path: read[each.feature.key] for each in layout.arrays}
            taken |= {each.path: frames[each.camera.name] for each in layout.cameras}
            elsewhere = {*layout.wide.values(), *(each.path for each in layout.masks)}
            others = [p for p in self._file.paths_below(base) if p not in taken and p not in elsewhere]
            arrays = {path: self._file.read_any(f"{base}/{path}") for path in others}
            obs = {path.removeprefix("obs/"): each for path, each in taken.items() if path.startswith("obs/")}
            types = self._types(base, arrays) | self._file.links_below(base)
            extras[rest.FILE] = rest.pack(arrays, obs, self._file.attributes_below(base), types)
        return extras

    def _types(self, base: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Type and shape of the arrays of a demonstration that numpy would give back otherwise."""
        assert self._layout is not None
        written = {path: (each.dtype, each.shape) for path, each in arrays.items()}
        length = self._lengths.get(base.rpartition("/")[2]) or self._file.length(base)
        for array in self._layout.arrays:
            written[array.path] = (np.dtype(array.feature.source_dtype), (length, *array.feature.shape))
        for at in self._layout.cameras:
            written[at.path] = (np.dtype(at.camera.dtype), (length, *at.camera.shape))
        types = {path: self._file.type_of(f"{base}/{path}", *each) for path, each in written.items()}
        return {path: each for path, each in types.items() if each is not None}

    def _describe(self) -> SourceInfo:
        sha256 = Meanwhile(partial(file_sha256, self.path)) if self.path.is_file() else None
        episodes = self._look()
        if not any(episode.length for episode in episodes):
            raise DataError(
                "the dataset is empty",
                where=f"{self.uri}, group data",
                why=f"it has {len(episodes)} demonstrations and no step",
                fix="record demonstrations into it, or name another file",
            )
        assert self._layout is not None
        assert sha256 is not None, "a file that was read is there"
        layout = self._layout
        kwargs = layout.env_args.get("env_kwargs")
        fps = float((kwargs if isinstance(kwargs, dict) else {}).get("control_freq") or DEFAULT_FPS)
        masks = tuple(each.mask for each in layout.masks)
        schema = Schema(layout.features, tuple(each.camera for each in layout.cameras), fps, masks, layout.texts)
        metadata, left_out = self._metadata(layout), layout.left_out
        if "file" in metadata.get("robomimic", {}):
            left_out = {}
        for key, reason in left_out.items():
            log.info("convert: %s of %s is left out: %s", key, self.uri, reason)
        return SourceInfo(
            "robomimic", self.uri, digest_with_features(sha256.result(), schema), self.path.stat().st_size, schema, episodes,
            metadata, left_out,
        )  # fmt: skip

    def _metadata(self, layout: RobomimicLayout) -> dict[str, Any]:
        """What the file says of itself; of an exact copy also masks and attributes as they are."""
        masks = self._file.masks()
        metadata: dict[str, Any] = {"env_args": layout.env_args, "masks": sorted(masks)}
        paths = {each.feature.key: each.path for each in layout.arrays}
        paths |= {each.camera.name: each.path for each in layout.cameras}
        paths |= {each.mask.name: each.path for each in layout.masks}
        metadata["paths"] = paths
        if layout.wide:
            metadata["extras"] = dict(layout.wide)
        if self.exact:
            kept: dict[str, Any] = {"attributes": self._file.exact_attributes("data"), "masks": masks}
            kept["episodes"] = len(self._lengths)
            metadata["robomimic"] = kept | self._beside_demonstrations()
        return metadata

    def _beside_demonstrations(self) -> dict[str, str]:
        """What else the file holds, packed, unless that is large: attributes, other groups, and masks with their types."""
        demos = [f"data/{name}" for name in self._lengths]
        arrays = {path: self._file.read_any(path) for path in self._file.paths_below("/", demos)}
        types = {path: self._file.type_of(path, each.dtype, each.shape) for path, each in arrays.items()}
        links = self._file.links_below("/", demos)
        attributes = self._file.attributes_below("/", [*demos, "data"])
        plain_masks = all(path.startswith("mask/") and not types[path] for path in arrays)
        if plain_masks and not links and not attributes:
            return {}
        noted = {path: each for path, each in types.items() if each is not None} | links
        packed = base64.b64encode(rest.pack(arrays, {}, attributes, noted)).decode()
        return {"file": packed} if len(packed) <= MAX_BESIDE else {}

    def _look(self) -> tuple[EpisodeInfo, ...]:
        """Set the layout and the lengths."""
        demos, attributes = self._file.demos(), self._file.attributes("data")
        layout = common_layout(
            demos, json_attribute(attributes.get("env_args")), self.exact, json_attribute(attributes.get(DECLARED))
        )
        if groups := self._file.groups():
            left_out = dict(layout.left_out) | dict.fromkeys(groups, "not a demonstration")
            layout = replace(layout, left_out=left_out)
        self._layout, self._lengths = layout, {demo.name: demo.num_samples for demo in demos}
        self._notes = tuple(name for name in NOTES if any(name in demo.attributes for demo in demos))
        return episode_infos(demos, layout, self._file.masks(), self.uri)


def _success(rewards: np.ndarray | None) -> bool | None:
    """Whether a sparse reward was ever earned; None where rewards are absent or shaped."""
    if rewards is None:
        return None
    earned = rewards == 1.0
    return bool(earned.any()) if (earned | (rewards == 0.0)).all() else None
