"""Files of other systems to bundles and back, each with its parity record. Called by ``tendon import`` and ``tendon export``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tendon.config.override_text import quote
from tendon.export.card import make_card
from tendon.export.formats.robomimic import Foreign, export_pth, import_pth
from tendon.export.formats.robomimic_config import Version
from tendon.export.parity import ParityRecord, compare, demand, fixed_inputs
from tendon.policies.windows import ACTION, GOAL, bare
from tendon.storage import open_store
from tendon.storage.trees import put_tree

FOREIGN = "robomimic.pt"  # what a file holds that has no place in a bundle


def import_robomimic(path: str, bundle_uri: str, overrides: Sequence[str] = ()) -> tuple[str, tuple[str, ...]]:
    """Make a bundle of a robomimic checkpoint; its digest, and what to know about it.

    Args:
        path: the .pth.
        bundle_uri: where the bundle goes.
        overrides: where the policy is evaluated (``env=lift``).
    """
    import torch
    from safetensors.torch import save_file

    from tendon.config.compose import compose, to_dict, to_yaml
    from tendon.export.bundle import bundle_digest, read_policy
    from tendon.export.fresh import act_in_fresh_process

    imported = import_pth(path)
    seen = [key for key in imported.info.features if key != ACTION]
    goals = [bare(key) for key in seen if key.startswith(GOAL)]
    keys = [bare(key) for key in seen if not key.startswith(GOAL)]
    section = to_dict(imported.info.config)
    chosen = [f"policy={section.pop('name')}", *(f"++policy.{key}={quote(value)}" for key, value in section.items())]
    config = compose([*overrides, *chosen, *_reads(keys, goals), "data.uri=imported"])
    with tempfile.TemporaryDirectory(prefix="tendon-import-") as scratch:
        folder = Path(scratch)
        save_file({k: v.contiguous() for k, v in imported.policy.state_dict().items()}, folder / "model.safetensors")
        (folder / "policy.json").write_text(json.dumps(imported.info.to_json(), indent=1) + "\n")
        (folder / "config.yaml").write_text(to_yaml(config))
        (folder / "stats.json").write_text("{}\n")
        torch.save(_foreign_content(imported.foreign), folder / FOREIGN)
        made, _ = read_policy(folder, bundle_uri)
        inputs = fixed_inputs(made, imported.info.features)
        actions = act_in_fresh_process(folder, inputs, bundle_uri)
        what = "bundle in a fresh process beside the robomimic checkpoint"
        record = demand(compare(what, imported.policy, actions, inputs), bundle_uri)
        parity = {"checkpoint_uri": path, **record.to_json()}
        (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
        (folder / "card.md").write_text(make_card(made, imported.info, path, record))
        put_tree(open_store(bundle_uri), "", folder)
    return bundle_digest(bundle_uri), imported.notes


def export_robomimic(source_uri: str, path: str, version: Version) -> ParityRecord:
    """Write the .pth of a checkpoint or bundle, and ``<path>.parity.json`` beside it."""
    from tendon.export.bundle import load_policy

    policy, info = load_policy(source_uri)
    foreign, target = _kept(source_uri), Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    same = foreign if foreign is not None and foreign.version == version else None
    env = foreign.env_metadata if foreign is not None else None
    record = export_pth(policy, info, target, version, foreign=same, env_metadata=env)
    text = json.dumps({"source_uri": source_uri, "version": version, **record.to_json()}, indent=1)
    target.with_name(f"{target.name}.parity.json").write_text(text + "\n")
    return record


def _reads(keys: list[str], goals: list[str]) -> list[str]:
    """What the environment must show."""
    return [f"env.observation={quote(keys)}", *([f"env.goal={quote(goals)}"] if goals else [])]


def _foreign_content(foreign: Foreign) -> dict[str, Any]:
    return {
        "version": foreign.version,
        "config": json.dumps(foreign.config),
        "env_metadata": foreign.env_metadata,
        "shape_metadata": foreign.shape_metadata,
        "rest": foreign.rest,
    }


def _kept(uri: str) -> Foreign | None:
    """What an imported bundle kept of its file."""
    import io

    from tendon.export.formats.robomimic import load_plain

    store = open_store(uri)
    if store.head(FOREIGN) is None:
        return None
    content = load_plain(io.BytesIO(store.read(FOREIGN)))
    return Foreign(**content | {"config": json.loads(content["config"])})
