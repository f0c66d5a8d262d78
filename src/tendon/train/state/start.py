"""How a trial begins when it is not from scratch.

With other weights (``policy.init_from``), or from a step of another run (``training.resume_from``). Called by the saver
when the trial has no checkpoint of its own yet.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tendon.config.compose import to_dict
from tendon.errors import ConfigError
from tendon.policies.base import Policy, under
from tendon.policies.parts.normalize import Normalizer
from tendon.storage import open_store
from tendon.storage.trees import has_tree
from tendon.train.distributed.parallel import as_local
from tendon.train.loop.engine import Engine
from tendon.train.state import checkpoint
from tendon.train.state.snapshot import MODEL, STATE, WEIGHTS, read_other
from tendon.weights.address import bring, split_format
from tendon.weights.foreign import format_of, recognised, weight_format
from tendon.weights.kept import fetch_weights, weights_uri
from tendon.weights.load import read_tensors
from tendon.weights.lora import BASE_LAYER
from tendon.weights.spec import SavedWeights

logger = logging.getLogger(__name__)
MOST_NAMED = 20


@dataclass(frozen=True)
class Match:
    """What other weights are to a policy: names of its tensors and of theirs."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]  # the policy's own, which keep the values they were born with
    misfits: tuple[str, ...]  # of another shape, each with both
    unused: tuple[str, ...]  # theirs, for which the policy has no place

    def lines(self) -> Iterator[str]:
        """As told to the user."""
        yield f"{len(self.loaded)} tensor(s) loaded: {_grouped(self.loaded)}"
        for names, what in ((self.new, "new"), (self.unused, "not used")):
            if names:
                yield f"{len(names)} {what}: {_listed(names)}"
        if self.misfits:
            yield f"{len(self.misfits)} do not fit: {_listed(self.misfits)}"


def start_from_weights(engine: Engine, address: str) -> Match:
    """Copy into the policy what fits of other weights; what is loaded, new and does not fit is logged.

    Statistics of the normalisers stay those of this run's dataset, base weights those of the policy.

    Args:
        engine: before its first update.
        address: a checkpoint, trial, bundle, safetensors or foreign file; ``#NAME`` names its format.

    Raises:
        ConfigError: nothing fits.
    """
    with tempfile.TemporaryDirectory(prefix="tendon-init-") as scratch:
        match = copy_matching(engine.policy, _source(address, Path(scratch)), address)
    engine.average_anew()
    for line in match.lines():
        logger.info("train: %s: %s", address, line)
    return match


@torch.no_grad()
def copy_matching(policy: Policy, tensors: Iterator[tuple[str, Tensor]], where: str) -> Match:
    """As ``start_from_weights``, from tensors by name."""
    own = {name.replace(BASE_LAYER, ""): tensor for name, tensor in policy.trainable_state_dict().items()}
    of_dataset = tuple(name for name, module in policy.named_modules() if isinstance(module, Normalizer))
    targets = {name: tensor for name, tensor in own.items() if not under(name, of_dataset)}
    loaded, misfits, unused = [], [], []
    for name, tensor in tensors:
        plain = name.replace(BASE_LAYER, "")
        if plain in targets and targets[plain].shape == tensor.shape:
            targets[plain].copy_(as_local(tensor, targets[plain]))
            loaded.append(plain)
        elif plain in targets:
            misfits.append(f"{plain} is {list(tensor.shape)} there and {list(targets[plain].shape)} here")
        elif plain not in own and not under(plain, policy.base_prefixes):
            unused.append(plain)
    known = {*loaded, *(misfit.partition(" ")[0] for misfit in misfits)}
    match = Match(tuple(loaded), tuple(name for name in targets if name not in known), tuple(misfits), tuple(unused))
    if not loaded:
        raise ConfigError(
            "nothing of these weights fits the policy",
            where=f"policy.init_from={where}",
            why="; ".join(list(match.lines())[1:]) or "they hold no tensor",
            fix="name weights of this network, or leave policy.init_from out",
        )
    return match


def _source(address: str, scratch: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of what an address holds."""
    uri, format_name = split_format(address)
    ours = "" if format_name else checkpoint.policy_at(uri)
    if ours and has_tree(open_store(ours), ""):
        yield from _trained(ours, scratch)
        return
    path = bring(uri, scratch)
    is_plain = path.suffix == ".safetensors" or any(path.rglob("*.safetensors"))
    if not format_name and is_plain and recognised(path) is None:
        yield from read_tensors(path)
        return
    found = weight_format(format_name)[0] if format_name else format_of(path)
    yield from found.read(path).policy.state_dict().items()


def _trained(uri: str, scratch: Path) -> Iterator[tuple[str, Tensor]]:
    """A checkpoint or bundle of tendon's: its base weights first, then what was learnt."""
    store = open_store(uri)
    inner = f"{MODEL}/" if store.head(f"{MODEL}/policy.json") else ""
    checkpoint.fetch(store, scratch, under=inner)
    saved = SavedWeights.read(scratch / inner)
    for prefix, spec in (saved.base if saved else {}).items():
        for name, tensor in read_tensors(fetch_weights(spec, weights_uri(uri))):
            yield f"{prefix}.{name}", tensor
    yield from read_tensors(scratch / inner / WEIGHTS)


# ------------------------------------------------------------------------------------------------------- another run's step


def go_on_from(folder: Path, engine: Engine, uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put a checkpoint of another run into the engine; the loader's state and the step's facts.

    Raises:
        ConfigError: the networks differ, or there is nothing left to train.
    """
    facts = json.loads((folder / STATE / "training_step.json").read_text())
    before, now = flat(facts["config"]), flat(to_dict(engine.config))
    changed = {key for key in before.keys() & now.keys() if before[key] != now[key]}
    num_steps = engine.config.training.num_steps
    where = f"training.resume_from={uri}"
    if facts["step"] >= num_steps:
        raise ConfigError(
            f"the run is at step {facts['step']} already",
            where=where,
            why=f"training.offline_steps and online_steps are {num_steps} together: nothing is left to train",
            fix=f"training.offline_steps={2 * facts['step']}, or name an earlier step",
        )
    saved = SavedWeights.read(folder / MODEL)
    if {prefix: spec.sha256 for prefix, spec in (saved.base if saved else {}).items()} != {
        prefix: spec.sha256 for prefix, spec in engine.base.items()
    }:
        why, fix = "what was learnt there belongs to other base weights", f"policy.init_from={uri}"
        raise ConfigError("the runs stand on different base weights", where=where, why=why, fix=fix)
    same_batches = not changed & {"training.batch_size", "seed", "data.uri", "data.split"}
    try:
        loader, facts = read_other(folder, engine, same_batches=same_batches, same_seed="seed" not in changed)
    except RuntimeError as error:
        raise ConfigError(
            "the network is another one",
            where=where,
            why=" ".join(str(error).split())[:500],
            fix=f"policy.init_from={uri} takes what fits and begins anew",
        ) from None
    logger.info("train: going on from step %d of %s", facts["step"], uri)
    for key in sorted(changed):
        logger.info("train: %s was %r, is %r", key, before[key], now[key])
    return loader, facts


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration as dotted keys."""
    keys: dict[str, Any] = {}
    for key, value in tree.items():
        keys |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return keys


def _listed(names: tuple[str, ...]) -> str:
    rest = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + rest


def _grouped(names: tuple[str, ...]) -> str:
    """By the first part of the name."""
    parts: dict[str, int] = {}
    for name in names:
        parts[name.partition(".")[0]] = parts.get(name.partition(".")[0], 0) + 1
    return ", ".join(f"{part} ({count})" for part, count in parts.items())
