"""Large weights, once per store under their hash, and once on this machine where the store is remote. No torch.

``<store>/weights/<sha256>/`` is a committed tree. Whoever finds it there asks nobody else, so a run does not depend on
who published them. Called by build.py.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

from tendon.errors import DataError, MissingDependency
from tendon.storage import join, open_store
from tendon.storage.local import LocalStore
from tendon.storage.trees import download, get_tree, has_tree, put_tree
from tendon.weights.spec import WeightSpec, content_sha256

logger = logging.getLogger(__name__)
FOLDER = "weights"
TRIALS = "/trials/"
CACHE = "TENDON_WEIGHTS_CACHE"


def weights_uri(uri: str) -> str:
    """Where the store that holds a trial, checkpoint or bundle keeps its weights; beside it when it lies in no store."""
    root, in_store, _ = uri.rpartition(TRIALS)
    return join(root if in_store else uri.rstrip("/").rpartition("/")[0] or ".", FOLDER)


def fetch_weights(spec: WeightSpec, kept_uri: str) -> Path:
    """A folder on this machine with the weights' safetensors files; kept under ``kept_uri`` from now on.

    Raises:
        DataError: what lies at the address has another hash.
    """
    store = open_store(kept_uri)
    if not has_tree(store, spec.sha256):
        with tempfile.TemporaryDirectory(prefix="tendon-weights-") as scratch:
            published = _published(spec, Path(scratch))
            _demand_hash(spec, published)
            folder = Path(scratch, "tree")
            folder.mkdir()
            if published.is_file():
                shutil.copyfile(published, folder / "model.safetensors")
            else:
                shutil.copytree(published, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
            logger.info("weights: keeping %s as %s/%s", spec.uri, kept_uri, spec.sha256)
            put_tree(store, spec.sha256, folder)
    if isinstance(store, LocalStore):
        return store.root / spec.sha256
    return _cached(kept_uri, spec)


def _cached(kept_uri: str, spec: WeightSpec) -> Path:
    """A copy on this machine of what a remote store holds; a rename makes it whole for all processes."""
    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "tendon" / FOLDER)
    folder = cache / spec.sha256
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=cache, prefix=f".{spec.sha256[:16]}-"))
        get_tree(open_store(kept_uri), spec.sha256, scratch)
        try:
            scratch.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(scratch)
    return folder


def _published(spec: WeightSpec, scratch: Path) -> Path:
    """The file or folder at the address, on this machine."""
    if spec.uri.startswith("hf://"):
        return _from_hub(spec)
    parent, _, name = spec.uri.rstrip("/").rpartition("/")
    store = open_store(parent or ".")
    if isinstance(store, LocalStore):
        path = store.root / name
        if not path.exists():
            raise DataError("there are no such weights", where=spec.uri, why="no such file", fix="check the address")
        return path
    if store.head(name) is not None:
        download(store, name, scratch / name)
        return scratch / name
    target = scratch / "published"
    target.mkdir()
    for entry in store.at(name).list():
        if entry.key.endswith((".safetensors", ".json")):
            (target / entry.key).parent.mkdir(parents=True, exist_ok=True)
            download(store.at(name), entry.key, target / entry.key)
    return target


def _from_hub(spec: WeightSpec) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingDependency(
            "weights of the Hugging Face hub cannot be fetched",
            where=spec.uri,
            why="huggingface_hub is not installed",
            fix="pip install huggingface_hub, or put the files into the store and name those",
        ) from None
    name = spec.uri.removeprefix("hf://")
    return Path(snapshot_download(name, revision=spec.revision, allow_patterns=["*.safetensors", "*.json"]))


def _demand_hash(spec: WeightSpec, path: Path) -> None:
    actual = content_sha256(path)
    if actual != spec.sha256:
        raise DataError(
            "the weights are not those that the policy names",
            where=spec.uri,
            why=f"their sha256 is {actual}, the policy names {spec.sha256}",
            fix="name the right revision, or the new sha256 if the change is meant",
        )
