"""The bundle: what evaluation loads and what a champion is. Made from a checkpoint, committed as one tree.

``model.safetensors config.yaml stats.json policy.json card.md parity.json``, ``processing.json processing.safetensors`` of a
policy that has a processing, and ``weights.json`` where the policy stands on base weights: they are named there and kept
once per store, or merged into a self-contained bundle.
Finding a bundle and its digest needs no torch; making and loading one does.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon.errors import ConfigError, DataError
from tendon.storage import open_store
from tendon.storage.trees import MARKER, file_sha256, has_tree, put_tree
from tendon.train.state.checkpoint import digests, fetch
from tendon.weights.spec import SPEC_FILE

if TYPE_CHECKING:
    from tendon.policies.base import Policy
    from tendon.policies.spec import PolicySpec

logger = logging.getLogger(__name__)
FILES = ("model.safetensors", "config.yaml", "stats.json", "policy.json")
DECISIVE = ("model.safetensors", "policy.json", "weights.json")  # what an action depends on
MADE_FIRST = {*FILES, "card.md", "parity.json", "processing.json", "processing.safetensors", SPEC_FILE}
IN_CHECKPOINT = "pretrained_model/"


@dataclass(frozen=True)
class Bundle:
    """A committed bundle."""

    uri: str
    digest: str
    checkpoint_uri: str
    parity: Mapping[str, Any]


def export_bundle(checkpoint_uri: str, bundle_uri: str, self_contained: bool = False) -> Bundle:
    """Make the bundle of a checkpoint, or find it made.

    Args:
        checkpoint_uri: a committed checkpoint.
        bundle_uri: where the bundle goes.
        self_contained: merge base weights and adapters into it, instead of naming them.

    Raises:
        DataError: there is no such checkpoint, or the bundle does not act as the checkpoint's policy does.
    """
    found = find_bundle(bundle_uri, checkpoint_uri, self_contained)
    if found is not None:
        logger.info("export: already made: %s", bundle_uri)
        return found
    demand_place(bundle_uri)
    from tendon.export.card import make_card
    from tendon.export.fresh import act_in_fresh_process
    from tendon.export.parity import compare, demand, fixed_inputs

    with tempfile.TemporaryDirectory(prefix="tendon-export-") as scratch:
        source = _fetch(checkpoint_uri, Path(scratch, "checkpoint"))
        trained, info = read_policy(source, checkpoint_uri)
        is_merged = self_contained and (source / SPEC_FILE).is_file()
        result = Path(scratch, "bundle")
        result.mkdir()
        copied = FILES[1:] if is_merged else tuple(name for name in (*FILES, SPEC_FILE) if (source / name).is_file())
        for name in copied:
            shutil.copyfile(source / name, result / name)
        sha256 = {name: file_sha256(result / name) for name in copied}
        _demand_same_bytes(checkpoint_uri, sha256, copied, bundle_uri)
        tolerance = _merge(trained, result) if is_merged else 0.0
        if not is_merged:
            _share_base(source, checkpoint_uri, bundle_uri)
        inputs = fixed_inputs(trained, info.features, len(info.texts))
        actions = act_in_fresh_process(result, inputs, bundle_uri)
        what = "bundle in a fresh process beside the policy of its checkpoint"
        record = demand(compare(what, trained, actions, inputs, tolerance), bundle_uri)
        parity = {"checkpoint_uri": checkpoint_uri, **record.to_json(), "sha256": sha256}
        if is_merged:
            parity["merged_from"] = _decisive(checkpoint_uri)
        (result / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
        if trained.processing is not None:
            trained.processing.save(result)
        (result / "card.md").write_text(make_card(trained, info, checkpoint_uri, record))
        put_tree(open_store(bundle_uri), "", result)
    _demand_same_bytes(checkpoint_uri, digests(open_store(bundle_uri)), copied, bundle_uri)
    return Bundle(bundle_uri, bundle_digest(bundle_uri), checkpoint_uri, parity)


def demand_place(bundle_uri: str) -> None:
    """Look whether a bundle may go to an address: the whole folder becomes the bundle, what else is in it is removed.

    Raises:
        ConfigError: something that is no bundle, nor one that was being written, is there.
    """
    keys = {info.key for info in open_store(bundle_uri).list()}
    foreign = {key for key in keys - MADE_FIRST if not key.endswith(".pt")}  # what an import kept of its file ends so
    if foreign and MARKER not in keys and "policy.json" not in keys:
        raise ConfigError(
            "something else is there already",
            where=bundle_uri,
            why=f"a bundle is a folder of its own, and this one holds {', '.join(sorted(foreign)[:3])}",
            fix="name a folder that is empty or does not exist",
        )


def _merge(policy: Policy, folder: Path) -> float:
    """Write all of a policy's weights; how far the actions of the result may be from its own."""
    from safetensors.torch import save_file

    from tendon.weights.lora import merge_tolerance, merged_state
    from tendon.weights.spec import SavedWeights

    state = {name: tensor.contiguous().clone() for name, tensor in merged_state(policy).items()}
    save_file(state, folder / "model.safetensors")
    (folder / SPEC_FILE).write_text(SavedWeights({}, merged=True).to_json())
    return merge_tolerance(policy)


def _share_base(source: Path, checkpoint_uri: str, bundle_uri: str) -> None:
    """Base weights are kept where the bundle's reader looks for them, which is the checkpoint's place in one store."""
    from tendon.weights.kept import fetch_weights, weights_uri
    from tendon.weights.spec import SavedWeights

    saved = SavedWeights.read(source)
    for spec in saved.base.values() if saved else ():
        fetch_weights(spec, weights_uri(bundle_uri), also=weights_uri(checkpoint_uri))


def _demand_same_bytes(checkpoint_uri: str, files: Mapping[str, str], copied: Sequence[str], bundle_uri: str) -> None:
    """The copied files are those that the checkpoint was committed with.

    Raises:
        DataError: a copy is another one.
    """
    committed = {name.removeprefix(IN_CHECKPOINT): value for name, value in digests(open_store(checkpoint_uri)).items()}
    for name in copied:
        if files.get(name) != committed[name]:
            raise DataError(
                f"{name} of the bundle is not the checkpoint's",
                where=f"{bundle_uri}/{name}",
                why=f"its sha256 is {files.get(name)}, the checkpoint's {committed[name]}",
                fix="run the export again; if it stays, check the disk that TMPDIR names",
            )


def find_bundle(bundle_uri: str, checkpoint_uri: str, self_contained: bool = False) -> Bundle | None:
    """The bundle at ``bundle_uri`` if it is whole and was made from this checkpoint in this way; no torch."""
    store = open_store(bundle_uri)
    if not has_tree(store, "") or store.head("parity.json") is None:
        return None
    parity = json.loads(store.read("parity.json"))
    made_from = parity.get("merged_from") or _decisive(bundle_uri)
    made_from_these = _decisive(checkpoint_uri) in ({}, made_from)  # {}: pruned since
    as_asked = ("merged_from" in parity) == (self_contained and SPEC_FILE in made_from)
    if parity["checkpoint_uri"] != checkpoint_uri or not made_from_these or not as_asked:
        return None
    return Bundle(bundle_uri, bundle_digest(bundle_uri), checkpoint_uri, parity)


def bundle_digest(uri: str) -> str:
    """Sixteen hex digits that name what a bundle (or a checkpoint) does: its weights and its description; no torch."""
    from tendon.config.digest import digest

    return digest(_decisive(uri))


def load_policy(uri: str, device: str = "cpu") -> tuple[Policy, PolicySpec]:
    """The policy of a bundle or a checkpoint, in evaluation mode, and what it reads and predicts.

    Raises:
        DataError: nothing whole is there, or its weights do not fit its description.
    """
    with tempfile.TemporaryDirectory(prefix="tendon-policy-") as scratch:
        return read_policy(_fetch(uri, Path(scratch)), uri, device)


def read_policy(folder: Path, where: str, device: str = "cpu") -> tuple[Policy, PolicySpec]:
    """As ``load_policy``, from a folder on this machine."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from tendon.policies.spec import PolicySpec
    from tendon.weights.build import build_merged, build_policy
    from tendon.weights.kept import weights_uri
    from tendon.weights.load import load_learnt
    from tendon.weights.spec import SavedWeights

    info = PolicySpec.from_json(json.loads((folder / "policy.json").read_text()), f"{where}/policy.json")
    saved, file = SavedWeights.read(folder), folder / "model.safetensors"
    with torch.random.fork_rng(devices=[]):
        if saved is not None and saved.merged:
            merged = build_merged(info.config, info.features, file, f"{where}/{file.name}", device)
            merged.set_texts(info.texts)
            return merged.to(device).eval(), info
        base, place = saved.base if saved else {}, weights_uri(where)
        policy = build_policy(info.config, info.features, kept_uri=place, device=device, base=base)
    policy.set_texts(info.texts)
    try:
        load_learnt(policy, load_file(file))
    except (RuntimeError, SafetensorError) as error:
        raise DataError(
            "the weights do not fit the policy",
            where=f"{where}/model.safetensors",
            why=str(error).splitlines()[0],
            fix="use the version of tendon that wrote it, or train and export again",
        ) from error
    return policy.to(device).eval(), info


def _fetch(uri: str, folder: Path) -> Path:
    """The files that make a policy, checked byte for byte, of a bundle or a checkpoint; the folder that holds them."""
    store = open_store(uri)
    inner = IN_CHECKPOINT if store.head(f"{IN_CHECKPOINT}policy.json") else ""
    fetch(store, folder, under=inner)
    return folder / inner


def _decisive(uri: str) -> dict[str, str]:
    """sha256 of the files that an action depends on; empty when nothing whole is there."""
    store = open_store(uri)
    if not has_tree(store, ""):
        return {}
    files = {name.removeprefix(IN_CHECKPOINT): sha256 for name, sha256 in digests(store).items()}
    return {name: files[name] for name in DECISIVE if name in files}
