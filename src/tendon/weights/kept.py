"""Large weights, once per store under their hash, and once on this machine where the store is remote.

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
from tendon.storage.trees import get_tree, has_tree, put_tree
from tendon.storage.uri import split_trial
from tendon.weights.address import bring
from tendon.weights.spec import INDEX, WeightSpec, content_sha256, tensor_files

logger = logging.getLogger(__name__)
FOLDER = "weights"
CACHE = "TENDON_WEIGHTS_CACHE"


def weights_uri(uri: str) -> str:
    """Where the store that holds a trial, checkpoint or bundle keeps its weights; beside it when it lies in no store."""
    root = split_trial(uri)[0] or uri.rstrip("/").rpartition("/")[0] or "."
    return join(uri if root.endswith(":/") else root, FOLDER)


def fetch_weights(spec: WeightSpec, kept_uri: str, also: str = "") -> Path:
    """A folder on this machine with the weights' safetensors files; kept under ``kept_uri`` from now on.

    Args:
        spec: which weights.
        kept_uri: the store's place for weights.
        also: another store's, which is asked before the address that published them.

    Raises:
        DataError: what lies at the address has another hash.
    """
    store = open_store(kept_uri)
    if not has_tree(store, spec.sha256):
        with tempfile.TemporaryDirectory(prefix="tendon-weights-") as scratch:
            folder = Path(scratch, "tree")
            folder.mkdir()
            if also and has_tree(open_store(also), spec.sha256):
                get_tree(open_store(also), spec.sha256, folder)
            else:
                _bring(spec, Path(scratch), folder)
            logger.info("weights: keeping %s as %s/%s", spec.uri, kept_uri, spec.sha256)
            put_tree(store, spec.sha256, folder)
    if isinstance(store, LocalStore):
        return store.root / spec.sha256
    return _cached(kept_uri, spec)


def _bring(spec: WeightSpec, scratch: Path, folder: Path) -> None:
    """What is published, checked, as safetensors in a folder."""
    published = _from_hub(spec) if spec.uri.startswith("hf://") else bring(spec.uri, scratch)
    _demand_hash(spec, published)
    if spec.format == "torch":
        _convert(published, folder / "model.safetensors")
        return
    root = published.parent if published.is_file() else published
    files = tensor_files(published)
    for file in files:
        target = folder / ("model.safetensors" if published.is_file() else file.relative_to(root).as_posix())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    if published.is_dir() and (published / INDEX).is_file():
        shutil.copyfile(published / INDEX, folder / INDEX)


def _convert(published: Path, target: Path) -> None:
    """A torch file with one mapping of names to tensors; nothing in it is run."""
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        content = torch.load(published, map_location="cpu", weights_only=True, mmap=True)
        tensors = {name: tensor.contiguous() for name, tensor in content.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise DataError(
            "the weights are no plain torch file",
            where=str(published),
            why=str(error).splitlines()[0],
            fix="save a mapping of names to tensors: torch.save(model.state_dict(), FILE)",
        ) from None
    save_file(tensors, target)


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
