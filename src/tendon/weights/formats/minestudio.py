"""MineStudio's ROCKET-1 in and out: Lightning files of 1.0 and 1.1 (``*.ckpt``), and the hub's config.json + safetensors.

Both hold the tensors of our network under the same names; a Lightning file has ``mine_policy.`` before each, and the
arguments of RocketPolicy in ``hyper_parameters.model``. A path that ends in .ckpt is written as the former, any other one as
a folder of the latter. One entry of the table in weights/foreign.py.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tendon.errors import DataError, Problem
from tendon.policies.base import Policy
from tendon.policies.rocket1.config import TINY, Rocket1Config, family_of
from tendon.policies.rocket1.features import features_of_world
from tendon.policies.rocket1.model import Rocket1
from tendon.policies.rocket1.recurrent import NUM_BASIS
from tendon.policies.spec import PolicySpec
from tendon.weights.foreign import ForeignPolicy, WeightFormat, load_plain
from tendon.weights.load import fill

PREFIX = "mine_policy."
CONFIG, WEIGHTS = "config.json", "model.safetensors"
ARGUMENTS = ("backbone", "hiddim", "num_heads", "num_layers", "timesteps", "mem_len")
DEFAULTS = {"backbone": "timm/vit_base_patch16_224.dino", "num_heads": 8, "timesteps": 128}
IDLE = ("action_space", "temperature")  # arguments that change no number at their defaults
LIGHTNING = "2.6.6"  # whose layout is written


class MineStudio(WeightFormat):
    """The entry of the table."""

    name = "minestudio"
    versions = ("1.1", "1.0")  # their files are alike

    def sniff(self, path: Path) -> bool:
        """A Lightning file with a mine_policy, or a folder with RocketPolicy's arguments."""
        try:
            if path.is_dir():
                config = json.loads((path / CONFIG).read_text())
                return (
                    isinstance(config, dict) and {"hiddim", "mem_len"} <= config.keys() and (path / WEIGHTS).is_file()
                )
            with zipfile.ZipFile(path) as archive:
                (structure,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
                return PREFIX.encode() in archive.read(structure)
        except (OSError, ValueError, zipfile.BadZipFile):
            return False

    def read(self, path: Path) -> ForeignPolicy:
        """The policy of a file or folder. Runs no code of it."""
        tensors, arguments, kept = _hub(path) if path.is_dir() else _lightning(path)
        config, notes = _config(arguments, tensors, str(path))
        height, width = config.image_size
        features = features_of_world((height, width))
        with torch.random.fork_rng(devices=[]):
            policy = Rocket1(config, features, None)
        fill(policy.net, tensors.items(), "", str(path), "RocketPolicy")
        info = PolicySpec(config, features, policy.windows)
        return ForeignPolicy(policy.eval(), info, kept, notes)

    def write(self, policy: Policy, info: PolicySpec, path: Path, version: str, kept: Mapping[str, Any]) -> None:
        """A Lightning file for a path that ends in .ckpt, else a folder for the hub."""
        tensors, arguments = exported(policy, info, str(path))
        before = json.loads(kept["hyper_parameters"]) if kept.get("hyper_parameters") else {}
        if path.suffix == ".ckpt":
            torch.save(lightning_content(tensors, before | {"model": arguments}), path)
            return
        path.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path / WEIGHTS)
        (path / CONFIG).write_text(json.dumps(arguments, indent=2) + "\n")


def exported(policy: Policy, info: PolicySpec, where: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and arguments of RocketPolicy.

    Raises:
        DataError: MineStudio has no such policy.
    """
    config = info.config
    if not isinstance(config, Rocket1Config) or not isinstance(policy, Rocket1):
        why, fix = f"it is a {info.name}, MineStudio's format holds rocket1", "choose another format"
        raise DataError("MineStudio has no such policy", where=where, why=why, fix=fix)
    usual = Rocket1Config("rocket1")
    problems = [
        Problem(f"MineStudio has no {what}", where, why, fix)
        for wrong, what, why, fix in (
            (family_of(config.backbone) == TINY, "backbone tiny", "it makes its backbones with timm", "train another"),
            (config.pool_positions, "positions in its pooling", "policy.pool_positions is true", "train without them"),
            (
                config.codec != usual.codec,
                "other camera grid than VPT's",
                f"policy has {config.codec.camera}",
                "train with VPT's",
            ),
        )
        if wrong
    ]
    if problems:
        raise DataError.of(problems)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.net.state_dict().items()}
    arguments: dict[str, Any] = {name: getattr(config, name) for name in ARGUMENTS}
    return tensors, arguments | {"nucleus_prob": config.nucleus_prob}


def lightning_content(
    tensors: Mapping[str, Tensor], hyper_parameters: Mapping[str, Any], step: int = 0
) -> dict[str, Any]:
    """What a Lightning file of MineStudio holds, weights alone."""
    return {
        "epoch": 0,
        "global_step": step,
        "pytorch-lightning_version": LIGHTNING,
        "state_dict": {f"{PREFIX}{name}": tensor for name, tensor in tensors.items()},
        "hparams_name": "kwargs",
        "hyper_parameters": dict(hyper_parameters),
    }


def _lightning(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    try:
        content = load_plain(path)
        state = content["state_dict"]
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise _unreadable(path, error) from error
    given = content.get("hyper_parameters", {})
    arguments = dict(given["model"]) if isinstance(given.get("model"), Mapping) else {}
    try:
        kept = {"hyper_parameters": json.dumps(given)}
    except TypeError:
        kept = {}
    return tensors, arguments, kept


def _hub(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    try:
        return dict(load_file(path / WEIGHTS)), json.loads((path / CONFIG).read_text()), {}
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return DataError("this is no file of MineStudio's RocketPolicy", where=str(path), why=why, fix="copy it again")


def _config(
    arguments: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str
) -> tuple[Rocket1Config, tuple[str, ...]]:
    """The keys, from the arguments where they are said and from the shapes where they are not.

    Raises:
        DataError: shapes and arguments are not of one policy.
    """
    told = _of_shapes(tensors, where)
    notes = []
    for key, value in told.items():
        if key in arguments and arguments[key] != value:
            raise DataError(
                f"{key} is {arguments[key]} in the file, its tensors are of {value}",
                where=where,
                why="the arguments and the tensors are of two policies",
                fix="copy the file again",
            )
    chosen = {**DEFAULTS, **{key: arguments[key] for key in ARGUMENTS if key in arguments}, **told}
    if "backbone" not in arguments:
        vit = "backbone.model.pos_embed" in tensors
        chosen["backbone"] = "timm/vit_base_patch16_224.dino" if vit else "efficientnet_b0.ra_in1k"
        notes.append(f"the file does not say its backbone: {chosen['backbone']} fits its tensors")
    if arguments.get("nucleus_prob") is not None:
        chosen["nucleus_prob"] = float(arguments["nucleus_prob"])
    unknown = sorted(set(arguments) - {*ARGUMENTS, "nucleus_prob", *IDLE})
    if unknown:
        notes.append(f"arguments that change nothing here: {', '.join(unknown)}")
    return Rocket1Config("rocket1", **chosen), tuple(notes)


def _of_shapes(tensors: Mapping[str, Tensor], where: str) -> dict[str, int]:
    """What the tensors say of themselves."""
    try:
        block = "recurrent.blocks.0.r.orc_block."
        blocks = {name.split(".")[2] for name in tensors if name.startswith("recurrent.blocks.")}
        return {
            "hiddim": tensors["interaction.weight"].shape[1],
            "num_layers": len(blocks),
            "num_heads": tensors[f"{block}r_layer.weight"].shape[0] // NUM_BASIS,
            "mem_len": tensors[f"{block}b_nd"].shape[1],
        }
    except (KeyError, IndexError) as error:
        raise DataError(
            "this is not a RocketPolicy",
            where=where,
            why=f"it has no {error.args[0]}; it has {', '.join(sorted({name.partition('.')[0] for name in tensors})[:8])}",
            fix="MineStudio's VPT, GROOT and STEVE-1 are other policies",
        ) from None


FORMAT = MineStudio()
