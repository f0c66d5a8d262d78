"""robomimic's ``.pth`` in (v0.2 to v0.5) and out (v0.3, v0.5), without running anything a file says.

In: a path. Out: a policy of ours with what it reads, and the parts of the file that have no place in it (``Foreign``),
so that writing it again loses nothing. One entry of the table in weights/foreign.py.
"""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tendon.config.foreign.robomimic import translate
from tendon.data.features import Feature
from tendon.errors import DataError, Problem
from tendon.policies.base import GOAL, Policy
from tendon.policies.behaviour_cloning.config import CloningConfig
from tendon.policies.behaviour_cloning.model import BehaviourCloning
from tendon.policies.parts.vision import SpatialSoftmax, VisualCore
from tendon.policies.registry import make_policy
from tendon.policies.spec import PolicySpec
from tendon.policies.windows import ACTION, IMAGES, OBSERVATION, bare
from tendon.weights.foreign import ForeignPolicy, WeightFormat, load_plain
from tendon.weights.formats.robomimic.config import Version, fitted, make_config
from tendon.weights.formats.robomimic.names import core_prefix, theirs

NEEDED = ("model", "config", "algo_name", "shape_metadata")
SCANS = f"{OBSERVATION}scans."


@dataclass(frozen=True)
class Foreign:
    """What a file holds beside weights and normalisers: written back as it came."""

    version: str  # "0.5", or "0.3" for the flat layout of v0.2 to v0.4
    config: dict[str, Any]
    env_metadata: Any
    shape_metadata: dict[str, Any]
    rest: dict[str, Any] = field(
        default_factory=dict
    )  # optimizer states, variable_state, statistics in double precision


@dataclass(frozen=True)
class Imported:
    """A policy of theirs as one of ours."""

    policy: Policy
    info: PolicySpec
    foreign: Foreign
    notes: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------------------- in


def read_file(path: str | Path) -> dict[str, Any]:
    """The content of a ``.pth``: tensors and plain values only.

    Raises:
        DataError: it is missing, broken, asks for code to be run, or is no robomimic checkpoint.
    """
    import pickle

    where = str(path)
    try:
        content = load_plain(path)
    except FileNotFoundError:
        raise DataError("there is no such file", where=where, why="no such file", fix="check the path") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = str(error).splitlines()[0]
        refused = "weights_only" in str(error) or "Unsupported" in str(error)
        raise DataError(
            "the file asks for code to be run" if refused else "the file cannot be read",
            where=where,
            why=first,
            fix="use a checkpoint that robomimic wrote" if refused else "copy it again: it is cut short or damaged",
        ) from None
    missing = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    if missing:
        why = f"it has no {', '.join(missing)}"
        raise DataError("this is not a robomimic checkpoint", where=where, why=why, fix="name a .pth of robomimic")
    found: dict[str, Any] = content
    return found


def import_pth(path: str | Path) -> Imported:
    """The policy of a robomimic checkpoint.

    Raises:
        DataError: see ``read_file``; or tensors are missing, left over, or differ where robomimic stores one twice.
        ConfigError: the policy uses what tendon does not have.
    """
    return import_content(read_file(path), str(path))


def import_content(content: Mapping[str, Any], where: str) -> Imported:
    """As ``import_pth``, from the content of a file."""
    config = json.loads(content["config"]) if isinstance(content["config"], str) else content["config"]
    nested = "nets" in content["model"]
    weights: Mapping[str, Tensor] = content["model"]["nets"] if nested else content["model"]
    translation = translate(config | {"algo_name": content["algo_name"]}, where, for_weights=True)
    shape_metadata = content["shape_metadata"]
    features = _features(config, shape_metadata, where)
    section = dict(translation.policy)
    name, stats = section.pop("name"), _stats(content)
    section["observation_normalization"] = "mean_std" if content.get("obs_normalization_stats") else "identity"
    section["action_normalization"] = "mean_std" if ACTION in stats else "identity"
    if ACTION in stats:
        section["bounded"] = "always"
    if name == "bc_vae" and any(feature.kind in ("image", "depth") for feature in features.values()):
        why = "robomimic gives each of its nets an image encoder of its own, ours share one"
        raise DataError("a VAE with cameras cannot be imported", where=where, why=why, fix="train it here")
    policy_config = _config(name, section)
    with torch.random.fork_rng(devices=[]):
        policy = make_policy(policy_config, features)
    _load(policy, weights, stats, where)
    kept = {"model": {key: value for key, value in content["model"].items() if key != "nets"}} if nested else {}
    rest = {key: value for key, value in content.items() if key not in (*NEEDED, "env_metadata")} | kept
    foreign = Foreign("0.5" if nested else "0.3", config, content.get("env_metadata"), dict(shape_metadata), rest)
    return Imported(policy.eval(), PolicySpec(policy_config, features, policy.windows), foreign, translation.notes)


def _config(name: str, section: dict[str, Any]) -> CloningConfig:
    """The keys that the file decides; the others as in our own files."""
    from tendon.config.compose import compose
    from tendon.config.override_text import quote

    overrides = [f"policy={name}", "data.uri=imported"]
    overrides += [f"++policy.{key}={quote(list(v) if isinstance(v, tuple) else v)}" for key, v in section.items()]
    config = compose(overrides).policy
    assert isinstance(config, CloningConfig)
    return config


def _features(config: Mapping[str, Any], shape_metadata: Mapping[str, Any], where: str) -> dict[str, Feature]:
    """Our features, observations and goals."""
    shapes, features = shape_metadata["all_shapes"], dict[str, Feature]()
    for group, prefix in (("obs", ""), ("goal", GOAL)):
        modalities = config["observation"]["modalities"].get(group, {})
        _check_order(shapes, {key for keys in modalities.values() for key in keys or ()}, where)
        for kind, keys in modalities.items():
            for key in keys or ():
                if key not in shapes:
                    why = "shape_metadata does not name it"
                    raise DataError(
                        f"the shape of {key} is not known", where=where, why=why, fix="use another checkpoint"
                    )
                shape = tuple(int(size) for size in shapes[key])
                name = prefix + {"low_dim": OBSERVATION, "scan": SCANS}.get(kind, IMAGES) + key
                features[name] = _feature(name, kind, shape)
    return features | {ACTION: Feature(ACTION, "action", (int(shape_metadata["ac_dim"]),), "float32")}


def _check_order(shapes: Mapping[str, Any], keys: set[str], where: str) -> None:
    """Robomimic joins observations in the order of ``all_shapes``, which its own datasets sort; ours are always sorted."""
    order = [key for key in shapes if key in keys]
    if order != sorted(order):
        raise DataError(
            "the observations of a checkpoint are not sorted",
            where=where,
            why=f"it joins them as {', '.join(order)}; here they are joined by name, so its weights would meet other numbers",
            fix="train it again on a file whose shape_metadata is sorted, as robomimic writes it",
        )


def _feature(name: str, kind: str, shape: tuple[int, ...]) -> Feature:
    """Theirs has the channels of a camera first."""
    if kind == "low_dim":
        return Feature(name, "state", (shape[0],), "float32")
    if kind == "scan":
        return Feature(name, "depth", shape, "float32")
    return Feature(name, "image", (*shape[1:], shape[0]), "uint8")


def _stats(content: Mapping[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """Offset and scale by bare observation key and for ``action``; mean/std up to v0.4, offset/scale from v0.5."""
    found = {}
    for key, value in (content.get("obs_normalization_stats") or {}).items():
        offset, scale = value.get("offset", value.get("mean")), value.get("scale", value.get("std"))
        found[key] = (torch.tensor(offset).flatten().float(), torch.tensor(scale).flatten().float())
    actions = (content.get("action_normalization_stats") or {}).get("actions")
    if actions is not None:
        offset, scale = (torch.tensor(actions[name]).flatten().float() for name in ("offset", "scale"))
        if offset.any() or (scale != 1).any():
            found[ACTION] = (offset, scale)
    return found


def _load(
    policy: Policy, weights: Mapping[str, Tensor], stats: Mapping[str, tuple[Tensor, Tensor]], where: str
) -> None:
    """Fill the policy; every tensor of the file must be used, and doubles must be equal."""
    assert isinstance(policy, BehaviourCloning)
    names, used, state = theirs(policy), set[str](), policy.state_dict()
    problems: list[Problem] = []
    for name, value in state.items():
        their_names = names(name)
        for other in their_names:
            used.add(other)
            if other not in weights:
                problems.append(
                    Problem(f"{other} is missing", where, "the file lacks a tensor", "use a whole checkpoint")
                )
            elif weights[other].shape != value.shape:
                why = f"it is {list(weights[other].shape)}, its config makes it {list(value.shape)}"
                problems.append(Problem(f"{other} has another shape", where, why, "use a whole checkpoint"))
            elif not _same(weights[other], weights.get(their_names[0], weights[other])):
                why = f"it differs from {their_names[0]}, which is the same tensor"
                problems.append(Problem(f"{other} contradicts its double", where, why, "use a whole checkpoint"))
        if their_names and not problems:
            state[name] = weights[their_names[0]].clone()
    fixed = _fixed(policy)
    for name in sorted(set(weights) - used):
        if name not in fixed:
            problems.append(Problem(f"{name} is not known", where, "the policy has no such tensor", "report the file"))
        elif weights[name].shape != fixed[name].shape or not torch.allclose(weights[name].float(), fixed[name].float()):
            problems.append(Problem(f"{name} is unusual", where, "it is a constant of robomimic's", "report the file"))
    if problems:
        raise DataError.of(problems)
    if "encoder.normalize.offset" in state:
        pairs = [stats[bare(key)] for key in policy.encoder.dims]
        state["encoder.normalize.offset"] = torch.cat([pair[0] for pair in pairs])
        state["encoder.normalize.scale"] = torch.cat([pair[1] for pair in pairs])
    if "normalize_action.offset" in state:
        state["normalize_action.offset"], state["normalize_action.scale"] = stats[ACTION]
    policy.load_state_dict(state)


def _context(policy: Policy) -> int:
    """Steps that a transformer sees."""
    return max(len(span.deltas) for span in policy.windows.acting.values())


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _fixed(policy: Policy) -> dict[str, Tensor]:
    """Robomimic's constant buffers: attention masks and pixel positions."""
    from tendon.policies.bc_transformer.model import BcTransformer

    assert isinstance(policy, BehaviourCloning)
    found = {}
    if isinstance(policy, BcTransformer):
        context = _context(policy)
        mask = torch.tril(torch.ones(context, context)).view(1, 1, context, context)
        for index in range(len(policy.transformer.blocks)):
            found[f"policy.nets.transformer.nets.transformer.{index}.nets.attention.mask"] = mask
    for key in policy.encoder.keys:
        core = policy.encoder.cores[key.replace(".", "-")] if key not in policy.encoder.dims else None
        if isinstance(core, VisualCore) and isinstance(core.pool, SpatialSoftmax):
            for axis, name in enumerate(("pos_x", "pos_y")):
                for part in ("pool", "nets.1"):
                    found[f"{core_prefix(key)}{part}.{name}"] = core.pool.places[:, axis].unsqueeze(0)
    return found


# ------------------------------------------------------------------------------------------------------------------ out


def export_pth(
    policy: Policy,
    info: PolicySpec,
    path: str | Path,
    version: Version = "0.3",
    *,
    foreign: Foreign | None = None,
    env_metadata: Any = None,
) -> None:
    """Write a checkpoint that robomimic's ``policy_from_checkpoint`` loads.

    Args:
        policy: one of the robomimic family.
        info: what it reads.
        path: the file to write.
        version: the layout, robomimic 0.3 or 0.5.
        foreign: what ``import_pth`` kept of the file the policy came from.
        env_metadata: ``env_args`` of the demonstrations (robomimic makes its environment from it).

    Raises:
        DataError: robomimic has no such policy.
    """
    _check_expressible(policy, version, str(path))
    assert isinstance(policy, BehaviourCloning)
    names = theirs(policy)
    weights: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in policy.state_dict().items():
        for other in names(name):
            weights[other] = value.detach().cpu().clone()
    weights |= _fixed(policy)
    config = foreign.config if foreign is not None else fitted(make_config(info), version)
    content: dict[str, Any] = {
        "model": weights,
        "config": json.dumps(config, indent=4),
        "algo_name": "bc",
        "env_metadata": foreign.env_metadata if foreign is not None else env_metadata or NO_ENV,
        "shape_metadata": foreign.shape_metadata if foreign is not None else _shape_metadata(info),
    }
    words = ("offset", "scale") if version == "0.5" else ("mean", "std")
    state = policy.state_dict()
    if "encoder.normalize.offset" in state:
        content["obs_normalization_stats"] = _obs_stats(policy, words)
    if version == "0.5":
        width = policy.action_dim
        offset = state.get("normalize_action.offset", torch.zeros(width))
        scale = state.get("normalize_action.scale", torch.ones(width))
        stats = {"offset": offset.cpu().unsqueeze(0).tolist(), "scale": scale.cpu().unsqueeze(0).tolist()}
        kept = foreign.rest.get("model", {}) if foreign is not None else {}
        states = {"optimizers": {}, "lr_schedulers": {"policy": None}} | kept
        content |= {"model": {"nets": weights, **states}, "action_normalization_stats": {"actions": stats}}
        content["variable_state"] = {
            "epoch": 0,
            "best_valid_loss": None,
            "best_return": None,
            "best_success_rate": None,
        }
    if foreign is not None:
        content |= {key: value for key, value in foreign.rest.items() if key != "model"}
    torch.save(content, path)


NO_ENV = {"env_name": "unknown", "type": 1, "env_version": "", "env_kwargs": {}}


def _check_expressible(policy: Policy, version: str, where: str) -> None:
    def refuse(what: str, why: str, fix: str) -> None:
        raise DataError(what, where=where, why=why, fix=fix)

    if not isinstance(policy, BehaviourCloning):
        refuse("robomimic has no such policy", type(policy).__name__, "export policies of the bc family")
    assert isinstance(policy, BehaviourCloning)
    config = policy.config
    if config.action_normalization != "identity" and version == "0.3":
        refuse("robomimic 0.3 does not normalise actions", "the policy does", "write version 0.5")
    if not policy.bounded:
        refuse("robomimic bounds actions with tanh", "this policy does not", "policy.bounded=always when training")
    if policy.config.resize:
        refuse(
            "robomimic does not resize images",
            "the policy does",
            "convert with data.resize and train without policy.resize",
        )
    if getattr(config, "pred_future_acs", False) and getattr(config, "future_attention", "") == "full":
        refuse("robomimic's attention is causal", "policy.future_attention is full", "policy.future_attention=causal")
    if getattr(config, "pred_future_acs", False) and version == "0.3":
        refuse("robomimic 0.3 does not predict future actions", "pred_future_acs is on", "write version 0.5")


def _obs_stats(policy: BehaviourCloning, words: tuple[str, str]) -> dict[str, Any]:
    normalizer, found, begin = policy.encoder.normalize, {}, 0
    for key, dim in policy.encoder.dims.items():
        pair = (normalizer.offset[begin : begin + dim], normalizer.scale[begin : begin + dim])
        found[bare(key)] = {w: value.cpu().unsqueeze(0).tolist() for w, value in zip(words, pair, strict=True)}
        begin += dim
    return found


def _shape_metadata(info: PolicySpec) -> dict[str, Any]:
    shapes = {bare(key): _their_shape(feature) for key, feature in info.features.items() if key != ACTION}
    channels = [feature.shape[-1] for feature in info.features.values() if feature.kind == "image"]
    return {
        "ac_dim": info.action_dim,
        "all_shapes": OrderedDict(sorted(shapes.items())),
        "all_obs_keys": sorted(shapes),
        "use_images": 3 in channels,
        "use_depths": 1 in channels,
    }


def _their_shape(feature: Feature) -> list[int]:
    """Numbers flat, the channels of a camera first."""
    if feature.kind == "image":
        return [feature.shape[-1], *feature.shape[:-1]]
    return list(feature.shape) if feature.kind == "depth" else [feature.dim]


# ---------------------------------------------------------------------------------------------------------------- table


class RobomimicPth(WeightFormat):
    """The entry of the table; version 0.3 is also what 0.2 and 0.4 wrote."""

    name = "robomimic"
    versions = ("0.3", "0.5")

    def sniff(self, path: Path) -> bool:
        """A torch file with robomimic's keys; one that cannot be looked into counts by its suffix."""
        if not path.is_file():
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                pickled = archive.read(names[0]) if names else b""
        except (zipfile.BadZipFile, OSError):
            return path.suffix == ".pth"
        return all(key.encode() in pickled for key in NEEDED)

    def read(self, path: Path) -> ForeignPolicy:
        """As ``import_pth``."""
        imported = import_pth(path)
        kept = {field.name: getattr(imported.foreign, field.name) for field in fields(Foreign)}
        return ForeignPolicy(
            imported.policy, imported.info, kept | {"config": json.dumps(kept["config"])}, imported.notes
        )

    def write(self, policy: Policy, info: PolicySpec, path: Path, version: str, kept: Mapping[str, Any]) -> None:
        """As ``export_pth``; without a version that of the file it came from, or 0.3."""
        foreign = Foreign(**{**kept, "config": json.loads(kept["config"])}) if kept else None
        wanted: Version = "0.5" if (version or (foreign.version if foreign else "")) == "0.5" else "0.3"
        env_metadata = foreign.env_metadata if foreign is not None else None
        same = foreign if foreign is not None and foreign.version == wanted else None
        export_pth(policy, info, path, wanted, foreign=same, env_metadata=env_metadata)


FORMAT = RobomimicPth()
