"""Where a dataset of LeRobot's name is: below a root, in the store as it was converted, or in the hub's caches of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tendon.data.manifest import KEY
from tendon.errors import ConfigError
from tendon.storage import ObjectInfo, join, open_store

OF_SOURCES = ("meta/info.json", "meta_data/info.json")


@dataclass(frozen=True)
class FoundDataset:
    """A dataset, and in whose words it was found."""

    repo_id: str
    uri: str
    is_converted: bool
    place: str  # root, store, cache


def find_dataset(repo_id: str, root: str, store_uri: str) -> FoundDataset:
    """The dataset that a name means.

    Args:
        repo_id: ``owner/name``; or a folder, or an address.
        root: a folder or prefix that holds ``owner/name`` or ``name``, or is the dataset; empty: ``DATA_DIR``, LeRobot's variable.
        store_uri: where converted datasets are kept.

    Raises:
        ConfigError: it is nowhere, with all places that were looked at.
    """
    looked = []
    for place, uri in _places(repo_id, root or os.environ.get("DATA_DIR", ""), store_uri):
        kind = _kind(uri)
        if kind:
            return FoundDataset(repo_id, uri, kind == "converted", place)
        looked.append(f"{place}: {uri}")
    name = repo_id.rstrip("/").rpartition("/")[2]
    raise ConfigError(
        f"there is no dataset {repo_id}",
        where="dataset_repo_id",
        why="nothing is fetched from the hub here; looked at\n  " + "\n  ".join(looked),
        fix=f"put it at {join(root or 'data', repo_id)} and give --root {root or 'data'}; scripted demonstrations: "
        f"tendon demo-data env={_env_of(name)} --format lerobot -o {join(root or 'data', repo_id)}",
    )


def _places(repo_id: str, root: str, store_uri: str) -> Iterator[tuple[str, str]]:
    name = repo_id.rstrip("/").rpartition("/")[2]
    if root:
        yield "root", join(root, repo_id)
        yield "root", join(root, name)
        yield "root", root
    else:
        yield "folder", repo_id
        yield "root", join("data", repo_id)
    if "://" not in repo_id:
        yield from (("store", uri) for uri in _converted(store_uri, name))
        home = os.environ.get("HF_LEROBOT_HOME") or join(_hugging_face(), "lerobot")
        yield "cache", join(home, repo_id)
        hub = os.environ.get("HF_HUB_CACHE") or join(_hugging_face(), "hub")
        snapshots = Path(hub) / f"datasets--{repo_id.replace('/', '--')}" / "snapshots"
        yield from (("cache", str(path)) for path in sorted(snapshots.glob("*"), key=_age))
        if not snapshots.is_dir():
            yield "cache", str(snapshots)


def _converted(store_uri: str, name: str) -> Iterator[str]:
    """Datasets of that name in a store, the newest first where the store says so."""
    store, prefix = open_store(store_uri), f"datasets/{name}/"
    found: list[ObjectInfo] = [info for info in store.list(prefix) if info.key.endswith(f"/{KEY}")]
    keys = [info.key.removesuffix(f"/{KEY}") for info in found]
    yield from (join(store_uri, key) for key in keys) if keys else iter([join(store_uri, prefix.rstrip("/"))])


def _hugging_face() -> str:
    return os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")


def _age(path: Path) -> float:
    return -path.stat().st_mtime


def _kind(uri: str) -> str:
    if "://" not in uri and not Path(uri).is_dir():
        return "source" if Path(uri).is_file() else ""
    store = open_store(uri)
    if store.head(KEY) is not None:
        return "converted"
    return "source" if any(store.head(key) is not None for key in OF_SOURCES) else ""


def _env_of(name: str) -> str:
    if "pusht" in name:
        return "pusht_keypoints" if "keypoint" in name else "pusht"
    if "aloha" in name:
        return "aloha_insertion" if "insertion" in name else "aloha"
    return "xarm_corrected" if "xarm" in name else "pusht"
