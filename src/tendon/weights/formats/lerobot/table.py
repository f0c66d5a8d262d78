"""Which of LeRobot's policies are ours, and what their tensors and keys are called there: one entry for each policy.

Keys of a configuration that both have are named alike; an entry says what is left. To add a policy, add an entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Rules = tuple[tuple[str, str], ...]
OURS_ALONE = "processing."  # LeRobot keeps statistics beside the weights


@dataclass(frozen=True)
class LeRobotKind:
    """One policy, which has the same name here and there."""

    name: str
    tensors: Rules  # our name of a tensor (a pattern) and theirs, the first that fits; in our state dict's order
    defaults: Mapping[str, str]  # LeRobot's normalisation by type of feature, for types that a policy does not read
    fixed: Mapping[str, Any] = field(default_factory=dict)  # keys of theirs that must be so: we have nothing else
    idle: Mapping[str, Any] = field(
        default_factory=dict
    )  # keys of theirs that change no action, with LeRobot 0.4.4's values
    since_0_4: tuple[str, ...] = ()  # keys that LeRobot 0.3 does not have
    marks: tuple[str, ...] = ()  # keys that tell it from others where a file names no type
    needs: tuple[str, ...] = ()  # types of features that LeRobot demands
    needs_one_of: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)  # keys: ours to theirs, where they differ

    def theirs(self, name: str) -> str:
        """LeRobot's name of a tensor of ours; empty for the processing's."""
        if name.startswith(OURS_ALONE):
            return ""
        for pattern, replacement in self.tensors:
            fits = re.fullmatch(pattern, name)
            if fits:
                return fits.expand(replacement)
        raise KeyError(f"{name} has no name in LeRobot")


# What every policy's config.json has beside the policy's own keys.
COMMON: Mapping[str, Any] = MappingProxyType(
    {
        "device": "cpu",
        "use_amp": False,
        "use_peft": False,
        "push_to_hub": False,
        "repo_id": None,
        "private": None,
        "tags": None,
        "license": None,
        "pretrained_path": None,
    }
)
COMMON_SINCE_0_4 = ("use_peft", "pretrained_path")

ACT = LeRobotKind(
    "act",
    (
        (r"backbone\.0\.(.*)", r"model.backbone.conv1.\1"),
        (r"backbone\.1\.(.*)", r"model.backbone.bn1.\1"),
        (r"backbone\.4\.(.*)", r"model.backbone.layer1.\1"),
        (r"backbone\.5\.(.*)", r"model.backbone.layer2.\1"),
        (r"backbone\.6\.(.*)", r"model.backbone.layer3.\1"),
        (r"backbone\.7\.(.*)", r"model.backbone.layer4.\1"),
        (r"(.*)", r"model.\1"),
    ),
    {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
    fixed={"n_obs_steps": 1, "replace_final_stride_with_dilation": False},
    idle={"optimizer_lr": 1e-5, "optimizer_weight_decay": 1e-4, "optimizer_lr_backbone": 1e-5},
    marks=("chunk_size", "use_vae"),
    needs_one_of=("VISUAL", "ENV"),
)
DIFFUSION = LeRobotKind(
    "diffusion",
    (
        (r"(rgb_encoder.*?)\.pool\.filters\.(.*)", r"diffusion.\1.pool.nets.\2"),
        (r"(rgb_encoder.*?)\.pool\.places", r"diffusion.\1.pool.pos_grid"),
        (r"unet\.(.*\.conv[12]|final_conv\.0)\.([01]\..*)", r"diffusion.unet.\1.block.\2"),
        (r"(.*)", r"diffusion.\1"),
    ),
    {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
    idle={
        "compile_model": False,
        "compile_mode": "reduce-overhead",
        "optimizer_lr": 1e-4,
        "optimizer_betas": [0.95, 0.999],
        "optimizer_eps": 1e-8,
        "optimizer_weight_decay": 1e-6,
        "scheduler_name": "cosine",
        "scheduler_warmup_steps": 500,
    },
    since_0_4=("compile_model", "compile_mode", "resize_shape", "crop_ratio"),
    marks=("down_dims", "noise_scheduler_type"),
    needs=("STATE",),
    needs_one_of=("VISUAL", "ENV"),
)
KINDS: Mapping[str, LeRobotKind] = {kind.name: kind for kind in (ACT, DIFFUSION)}
