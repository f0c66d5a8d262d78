"""Files of other systems to bundles and back, each with its parity record. Called by ``tendon weights import`` and ``export``.

Which systems there are is the table of weights/foreign.py.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tendon.config.override_text import quote
from tendon.export.card import make_card
from tendon.export.parity import ParityRecord, compare, demand, fixed_inputs
from tendon.policies.base import Policy
from tendon.policies.spec import PolicySpec
from tendon.policies.windows import GOAL, bare
from tendon.storage import open_store
from tendon.storage.outputs import refuse_existing
from tendon.storage.trees import file_sha256, has_tree, put_tree
from tendon.train.state.checkpoint import digests
from tendon.weights.foreign import WeightFormat, format_of, load_plain, weight_format
from tendon.weights.lora import merge_tolerance


def import_weights(
    path: str, bundle_uri: str, overrides: Sequence[str] = (), format_name: str = "", *, force: bool = True
) -> tuple[str, tuple[str, ...]]:
    """Make a bundle of another system's file; its digest, and what to know about it.

    Args:
        path: the file.
        bundle_uri: where the bundle goes.
        overrides: where the policy is evaluated (``env=lift``).
        format_name: a name of the table; empty: the one that recognises the file.
        force: replace another bundle that is there.

    Example: ``import_weights("model.pth", "outputs/b", ["env=lift"])``.
    """
    from safetensors.torch import save_file

    from tendon.config.compose import compose, to_dict, to_yaml
    from tendon.export.bundle import DECISIVE, bundle_digest, demand_place, read_policy
    from tendon.export.fresh import act_in_fresh_process

    demand_place(bundle_uri)
    weights = weight_format(format_name)[0] if format_name else format_of(Path(path))
    foreign = weights.read(Path(path))
    info, section = foreign.info, to_dict(foreign.info.config)
    reads = [key for key, feature in info.features.items() if feature.kind != "action"]
    chosen = [f"policy={section.pop('name')}", *(f"++policy.{key}={quote(value)}" for key, value in section.items())]
    mapped = compose([*overrides, "data.uri=imported"]).env.features
    config = compose([*overrides, *chosen, *_reads(reads, mapped), "data.uri=imported"])
    with tempfile.TemporaryDirectory(prefix="tendon-import-") as scratch:
        folder = Path(scratch)
        save_file({k: v.contiguous() for k, v in foreign.policy.state_dict().items()}, folder / "model.safetensors")
        (folder / "policy.json").write_text(json.dumps(info.to_json(), indent=1) + "\n")
        (folder / "config.yaml").write_text(to_yaml(config))
        (folder / "stats.json").write_text("{}\n")
        if foreign.kept:
            torch.save(dict(foreign.kept), folder / _kept_name(weights))
        made, _ = read_policy(folder, bundle_uri)
        inputs = fixed_inputs(made, info.features)
        actions = act_in_fresh_process(folder, inputs, bundle_uri)
        what = f"bundle in a fresh process beside the {weights.name} file"
        record = demand(compare(what, foreign.policy, actions, inputs), bundle_uri)
        parity = {"checkpoint_uri": path, **record.to_json()}
        (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
        (folder / "card.md").write_text(make_card(made, info, path, record))
        store = open_store(bundle_uri)
        new = {path.name: file_sha256(path) for path in folder.iterdir()}
        known = digests(store) if has_tree(store, "") else {}
        is_other = any(known.get(name, new.get(name)) != new.get(name) for name in DECISIVE)
        refuse_existing(*([bundle_uri] if is_other else []), force=force)
        put_tree(store, "", folder)
    return bundle_digest(bundle_uri), foreign.notes


def export_weights(source_uri: str, path: str, format_name: str) -> ParityRecord:
    """Write the file of a checkpoint or bundle, and ``<path>.parity.json`` beside it.

    Example: ``export_weights("outputs/b", "model.pth", "robomimic-0.5")``.
    """
    from tendon.export.bundle import load_policy

    weights, version = weight_format(format_name)
    policy, info = load_policy(source_uri)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    record = write_proven(weights, policy, info, target, version, _kept(source_uri, weights))
    text = json.dumps({"source_uri": source_uri, "format": format_name, **record.to_json()}, indent=1)
    target.with_name(f"{target.name}.parity.json").write_text(text + "\n")
    return record


def write_proven(
    weights: WeightFormat,
    policy: Policy,
    info: PolicySpec,
    path: Path,
    version: str = "",
    kept: Mapping[str, Any] | None = None,
) -> ParityRecord:
    """Write a policy in a format and read it again.

    Raises:
        DataError: the other system has no such policy, or the file does not act alike.
    """
    weights.write(policy, info, path, version, kept or {})
    name = "-".join(filter(None, [weights.name, version]))
    inputs, what = fixed_inputs(policy, info.features), f"{name} file beside its policy"
    return demand(compare(what, policy, weights.read(path).policy, inputs, merge_tolerance(policy)), str(path))


def _reads(keys: Sequence[str], mapped: Mapping[str, Any]) -> list[str]:
    """What the environment must show; ``mapped``: observations whose features have other names."""
    named = {one if isinstance(one, str) else one.get("key"): name for name, one in mapped.items()}
    goals = [bare(key) for key in keys if key.startswith(GOAL)]
    seen = [named.get(key, bare(key)) for key in keys if not key.startswith(GOAL)]
    return [f"env.observation={quote(seen)}", *([f"env.goal={quote(goals)}"] if goals else [])]


def _kept_name(weights: WeightFormat) -> str:
    return f"{weights.name}.pt"


def _kept(uri: str, weights: WeightFormat) -> Mapping[str, Any]:
    """What an imported bundle kept of its file."""
    store = open_store(uri)
    if store.head(_kept_name(weights)) is None:
        return {}
    content: Mapping[str, Any] = load_plain(io.BytesIO(store.read(_kept_name(weights))))
    return content
