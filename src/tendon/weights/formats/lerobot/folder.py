"""LeRobot's ``pretrained_model`` folders in and out: with processors (0.4 and newer), or with statistics inside (up to 0.3).

In: a folder; also the oldest configurations, which have ``input_shapes`` and no type. Out: 0.4.4's layout, or 0.3's. One
entry of the table in weights/foreign.py. What LeRobot has and we have not is kept, so that writing again loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tendon.config.compose import compose
from tendon.config.override_text import quote
from tendon.config.policies import policy_configs
from tendon.config.schema import PolicyConfig
from tendon.errors import DataError, Problem
from tendon.policies.base import Policy
from tendon.policies.registry import make_policy
from tendon.policies.spec import PolicySpec
from tendon.policies.vla.config import VlaConfig
from tendon.weights.foreign import ForeignPolicy, WeightFormat
from tendon.weights.formats.lerobot import vla
from tendon.weights.formats.lerobot.layout import Layout, features_of, processor_texts, their_features
from tendon.weights.formats.lerobot.statistics import (
    INPUTS,
    OUTPUTS,
    TARGETS,
    THEIR_MODES,
    Statistics,
    filled,
    from_buffers,
    from_flat,
    image_scaling,
    statistics_of,
    to_buffers,
    to_flat,
)
from tendon.weights.formats.lerobot.table import COMMON, COMMON_SINCE_0_4, KINDS, LeRobotKind

CONFIG, WEIGHTS, TRAINED_WITH = "config.json", "model.safetensors", "train_config.json"
INSIDE = (INPUTS, TARGETS, OUTPUTS)
NORMALIZATIONS = {
    "STATE": "state_normalization",
    "ENV": "environment_normalization",
    "VISUAL": "image_normalization",
    "ACTION": "action_normalization",
}


class LeRobotFolder(WeightFormat):
    """The entry of the table."""

    name = "lerobot"
    versions = ("0.4", "0.3")

    def sniff(self, path: Path) -> bool:
        """A folder with LeRobot's config.json, or one that holds it as pretrained_model."""
        folder = _folder(path)
        if not ((folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()) or (folder / "policy.json").is_file():
            return False
        try:
            config = json.loads((folder / CONFIG).read_text())
        except ValueError:
            return False
        return isinstance(config, dict) and ("input_features" in config or "input_shapes" in config)

    def read(self, path: Path) -> ForeignPolicy:
        """The policy of a folder. Nothing is run."""
        folder = _folder(path)
        where = str(folder)
        try:
            config = json.loads((folder / CONFIG).read_text())
            if vla.is_vla(config):
                return vla.read(folder, config)
            tensors = load_file(folder / WEIGHTS)
            texts = {file.name: file.read_text() for file in sorted(folder.glob("*.json")) if file.name != CONFIG}
            states = {file.name: load_file(file) for file in folder.glob("policy_p*processor_step_*.safetensors")}
        except FileNotFoundError as error:
            raise DataError(
                "this is not a policy of LeRobot",
                where=where,
                why=f"it has no {Path(str(error.filename)).name}",
                fix="name a pretrained_model folder",
            ) from None
        except (ValueError, SafetensorError) as error:
            why = str(error).splitlines()[0]
            raise DataError("the folder cannot be read", where=where, why=why, fix="copy it again") from None
        processed = processor_texts(texts)
        statistics = from_flat({k: v for name in processed.states if name in states for k, v in states[name].items()})
        made = import_policy(config, tensors, statistics, where, has_processors=bool(processed.states))
        notes = made.notes
        if (path / "training_state").is_dir():
            why = "the optimiser's state, the data's order and the schedule are LeRobot's own: training begins anew"
            notes += (f"training_state of {path} is left out: {why}",)
        kept = {"config": json.dumps(config), "texts": texts, "states": states, "version": made.kept["version"]}
        return replace(made, kept=kept, notes=notes)

    def write(self, policy: Policy, info: PolicySpec, path: Path, version: str, kept: Mapping[str, Any]) -> None:
        """A pretrained_model folder; without a version that of the folder it came from, or 0.4."""
        if isinstance(info.config, VlaConfig):
            vla.write(policy, info, path)
            return
        kind = _kind_of(info.name, str(path))
        _check_expressible(policy, info, kind, str(path))
        version = version or kept.get("version", self.versions[0])
        before = json.loads(kept["config"]) if kept.get("config") else {}
        config = export_config(policy, info, kind, version, before, str(path))
        tensors = {kind.theirs(name): value for name, value in policy.state_dict().items() if kind.theirs(name)}
        statistics = _statistics_beside(policy, info, kept)
        actions = policy.writes
        path.mkdir(parents=True, exist_ok=True)
        if version == "0.3":
            tensors |= dict(to_buffers(statistics_of(policy), actions))
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path / WEIGHTS)
        (path / CONFIG).write_text(json.dumps(config, indent=4))
        for name, text in kept.get("texts", {}).items():
            if name == TRAINED_WITH:
                (path / name).write_text(text)
        if version != "0.3":
            layout = Layout.of(config, kept.get("texts", {}))
            for name, text in layout.texts.items():
                (path / name).write_text(text)
            for name in layout.states:
                save_file({key: value.contiguous() for key, value in to_flat(statistics).items()}, path / name)


FORMAT = LeRobotFolder()


def import_policy(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    statistics: Statistics,
    where: str,
    *,
    has_processors: bool = True,
) -> ForeignPolicy:
    """As ``read``, from the content of a folder.

    Raises:
        DataError: tensors or statistics are missing, left over or of another shape, or we have no such policy.
        ConfigError: its configuration has values that ours does not take.
    """
    named = config.get("type") or next((k.name for k in KINDS.values() if all(m in config for m in k.marks)), "")
    kind = _kind_of(named, where)
    features, types, modes = features_of(config, where)
    inside = {name: value for name, value in tensors.items() if name.startswith(INSIDE)}
    weights = {name: value for name, value in tensors.items() if name not in inside}
    if inside:
        statistics = from_buffers(inside, features, where)
    elif not has_processors:
        raise DataError(
            "the policy has no statistics",
            where=where,
            why="there are neither processors beside the weights nor statistics among them",
            fix="copy policy_preprocessor.json and the files that it names too",
        )
    section = _section(config, kind, where)
    for type_name, key in NORMALIZATIONS.items():
        named_so = tuple(name for name, one in types.items() if one == type_name)
        if not named_so:
            continue
        mode = modes[type_name]
        if mode != "identity":
            _demand_statistics(statistics, named_so, mode, where)
        section[key] = image_scaling(statistics, named_so, mode) if type_name == "VISUAL" else mode
    policy_config = _composed(kind.name, section)
    with torch.random.fork_rng(devices=[]):
        policy = make_policy(policy_config, features)
    _load(policy, kind, weights, where)
    filled(policy, statistics)
    known = {*COMMON, *kind.idle, *kind.fixed, *section, *(kind.renamed.get(key, key) for key in section), *STRUCTURE}
    unknown = sorted(set(config) - known)
    notes = (f"keys of config.json that change nothing here: {', '.join(unknown)}",) if unknown else ()
    info = PolicySpec(policy_config, features, policy.windows)
    return ForeignPolicy(policy.eval(), info, {"version": "0.3" if inside else "0.4"}, notes)


STRUCTURE = (
    *("type", "input_features", "output_features", "normalization_mapping"),
    *("input_shapes", "output_shapes", "input_normalization_modes", "output_normalization_modes"),
)


def export_config(
    policy: Policy, info: PolicySpec, kind: LeRobotKind, version: str, before: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """LeRobot's config.json; ``before``: that of the folder the policy came from."""
    inputs, outputs, types = their_features(info, policy)
    mapping = dict(before.get("normalization_mapping", kind.defaults))
    for type_name in set(types.values()):
        mode = getattr(info.config, NORMALIZATIONS[type_name])
        mapping[type_name] = THEIR_MODES["mean_std" if mode in ("imagenet", "signed") else mode]
    own = {kind.renamed.get(key, key): value for key, value in _plain(info.config).items()}
    if own.get("drop_n_last_frames", 0) is None:
        own["drop_n_last_frames"] = info.windows.drop_last
    made: dict[str, Any] = {"type": kind.name, **kind.fixed}
    made |= {"input_features": inputs, "output_features": outputs, **COMMON}
    made |= {**own, "normalization_mapping": mapping, **kind.idle}
    if before and "input_features" in before:  # its order, and its keys that change no action
        made = {**before, **{key: value for key, value in made.items() if key not in (*COMMON, *kind.idle)}}
    if version == "0.3":
        for key in (*kind.since_0_4, *COMMON_SINCE_0_4):
            value = made.pop(key, None)
            if value not in (None, 1.0, False, COMMON.get(key), kind.idle.get(key)):
                why = f"the policy has {key}={value}, LeRobot 0.3 has no such key"
                raise DataError("LeRobot 0.3 has no such policy", where=where, why=why, fix="--format lerobot-0.4")
    return made


def _kind_of(name: str, where: str) -> LeRobotKind:
    if name not in KINDS:
        raise DataError(
            f"{name or 'this policy'} cannot be exchanged with LeRobot",
            where=where,
            why=f"the policies that both have are {', '.join(KINDS)}",
            fix="choose one of them",
        )
    return KINDS[name]


def _folder(path: Path) -> Path:
    inner = path / "pretrained_model"
    return inner if inner.is_dir() else path


def _section(config: Mapping[str, Any], kind: LeRobotKind, where: str) -> dict[str, Any]:
    """The keys of our configuration that the file decides."""
    problems = [
        Problem(f"{key} is {config[key]}", where, f"tendon has {kind.name} with {value} only", "train it here")
        for key, value in kind.fixed.items()
        if key in config and config[key] != value
    ]
    if problems:
        raise DataError.of(problems)
    ours = policy_configs()[kind.name](kind.name)
    section = {}
    for key in _plain(ours):
        theirs = kind.renamed.get(key, key)
        if theirs in config:
            is_size = isinstance(getattr(ours, key), tuple)
            section[key] = [] if is_size and config[theirs] is None else config[theirs]
    return section


def _plain(config: PolicyConfig) -> dict[str, Any]:
    """Our keys as LeRobot writes them: an empty size is null; without what only we have."""
    alone = ("name", "init_from", "statistics", "mean_over_valid", *NORMALIZATIONS.values())
    values = {each.name: getattr(config, each.name) for each in fields(config) if each.name not in alone}
    return {key: (list(value) or None) if isinstance(value, tuple) else value for key, value in values.items()}


def _composed(name: str, section: Mapping[str, Any]) -> PolicyConfig:
    overrides = [f"++policy.{key}={quote(value)}" for key, value in section.items()]
    return compose([f"policy={name}", "data.uri=imported", *overrides]).policy


def _demand_statistics(statistics: Statistics, keys: tuple[str, ...], mode: str, where: str) -> None:
    names = {"mean_std": ("mean", "std"), "min_max": ("min", "max"), "q99": ("q01", "q99")}[mode]
    missing = [f"{key}.{name}" for key in keys for name in names if name not in statistics.get(key, {})]
    if missing:
        why, fix = f"{mode} needs {', '.join(missing)}", "use a whole checkpoint"
        raise DataError("statistics are missing", where=where, why=why, fix=fix)


def _load(policy: Policy, kind: LeRobotKind, weights: Mapping[str, Tensor], where: str) -> None:
    """Fill the policy; every tensor of the file must be used."""
    state, problems, used = policy.state_dict(), list[Problem](), set[str]()
    fix = "use config.json and model.safetensors of one checkpoint"
    for name, value in state.items():
        other = kind.theirs(name)
        if not other:
            continue
        used.add(other)
        if other not in weights:
            problems.append(Problem(f"{other} is missing", where, "the file lacks a tensor", fix))
        elif weights[other].shape != value.shape:
            why = f"it is {list(weights[other].shape)}, its config makes it {list(value.shape)}"
            problems.append(Problem(f"{other} has another shape", where, why, fix))
        else:
            state[name] = weights[other].clone()
    left = sorted(set(weights) - used)
    problems += [Problem(f"{name} is not known", where, "the policy has no such tensor", fix) for name in left]
    if problems:
        raise DataError.of(problems)
    policy.load_state_dict(state)


def _check_expressible(policy: Policy, info: PolicySpec, kind: LeRobotKind, where: str) -> None:
    """LeRobot's policies read one state of a fixed name."""
    _, _, types = their_features(info, policy)
    present = set(types.values())
    states = [key for key, one in types.items() if one == "STATE"]
    if states not in ([], ["observation.state"]):
        raise DataError(
            f"LeRobot's {kind.name} reads one observation.state",
            where=where,
            why=f"this policy reads {', '.join(states)}",
            fix="record them as one feature observation.state",
        )
    lacks = [one for one in kind.needs if one not in present]
    if lacks or (kind.needs_one_of and not present & set(kind.needs_one_of)):
        raise DataError(
            f"LeRobot's {kind.name} reads more",
            where=where,
            why=f"it needs {', '.join(kind.needs) or 'nothing else'}, and one of {', '.join(kind.needs_one_of)}",
            fix="train it with a camera or with observation.environment_state",
        )


def _statistics_beside(policy: Policy, info: PolicySpec, kept: Mapping[str, Any]) -> Statistics:
    """The policy's, and those of the folder it came from where they say the same or more."""
    own = statistics_of(policy)
    texts, states = kept.get("texts", {}), kept.get("states", {})
    found: Statistics = {}
    for name in processor_texts(texts).states:
        found |= from_flat(states.get(name, {}))
    if found:
        other = _scaled_with(policy, found)
        for key in own:
            if key in found and _same_rows(policy, other, key):
                own[key] = found[key]
            elif key in found:
                own[key] = {**{k: v for k, v in found[key].items() if k not in own[key]}, **own[key]}
        return {**found, **own}
    return own


def _scaled_with(policy: Policy, statistics: Statistics) -> dict[str, Tensor]:
    """The numbers that these statistics would give the policy's normalisation."""
    processing = policy.processing
    assert processing is not None
    before = {name: value.clone() for name, value in processing.state_dict().items()}
    try:
        filled(policy, statistics)
        return {name: value.clone() for name, value in processing.state_dict().items()}
    finally:
        processing.load_state_dict(before)


def _same_rows(policy: Policy, other: Mapping[str, Tensor], key: str) -> bool:
    processing = policy.processing
    assert processing is not None
    names = [name for name in other if name.partition("-")[2] == key.replace(".", "-")]
    state = processing.state_dict()
    return all(torch.equal(state[name], other[name]) for name in names)
