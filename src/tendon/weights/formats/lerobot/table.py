"""Which of LeRobot's policies are ours, and what their tensors and keys are called there: one entry for each policy.

Keys of a configuration that both have are named alike; an entry says what is left. To add a policy, add an entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from tendon.policies.vqbet.config import NUM_BOOKS
from tendon.policies.weight_spec import renamed

Rules = tuple[tuple[str, str], ...]
Constants = Callable[[Any], Mapping[str, Tensor]]  # of a policy's configuration
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
    ignores: tuple[str, ...] = ()  # types of features that LeRobot does not read
    renamed: Mapping[str, str] = field(default_factory=dict)  # keys: ours to theirs, where they differ
    fixed_scaling: Mapping[str, str] = field(default_factory=dict)  # types of features that are scaled in one way only
    constants: Constants = lambda config: {}  # tensors of theirs that say nothing of what was learnt

    def theirs(self, name: str) -> str:
        """LeRobot's name of a tensor of ours; empty for the processing's."""
        if name.startswith(OURS_ALONE):
            return ""
        theirs = renamed(name, self.tensors)
        if theirs is None:
            raise KeyError(f"{name} has no name in LeRobot")
        return theirs


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


def _vqbet_constants(config: Any) -> dict[str, Tensor]:
    """Masks, indices and marks of code books that were begun; ours are computed where they are needed."""
    size, books = config.gpt_block_size, "vqbet.action_head.vqvae_model.vq_layer.layers"
    mask = torch.ones(size, size).tril().view(1, 1, size, size)
    chunks = torch.arange(config.num_queries).unsqueeze(1) + torch.arange(config.action_chunk_size)
    made = {f"vqbet.policy.transformer.h.{i}.attn.bias": mask.clone() for i in range(config.gpt_n_layer)}
    made |= {f"{books}.{i}._codebook.initted": torch.ones(1) for i in range(NUM_BOOKS)}
    return made | {"vqbet.select_target_actions_indices": chunks}


VQBET = LeRobotKind(
    "vqbet",
    (
        (r"camera\.pool\.filters\.(.*)", r"vqbet.rgb_encoder.pool.nets.\1"),
        (r"camera\.pool\.places", r"vqbet.rgb_encoder.pool.pos_grid"),
        (r"camera\.(.*)", r"vqbet.rgb_encoder.\1"),
        (r"embed_image\.(.*)", r"vqbet.rgb_feature_projector.0.\1"),
        (r"embed_state\.(.*)", r"vqbet.state_projector.0.\1"),
        (r"query", r"vqbet.action_token"),
        (r"gpt\.embed\.(.*)", r"vqbet.policy.transformer.wte.\1"),
        (r"gpt\.position\.(.*)", r"vqbet.policy.transformer.wpe.\1"),
        (r"gpt\.blocks\.(\d+)\.norm([12])\.(.*)", r"vqbet.policy.transformer.h.\1.ln_\2.\3"),
        (r"gpt\.blocks\.(\d+)\.qkv\.(.*)", r"vqbet.policy.transformer.h.\1.attn.c_attn.\2"),
        (r"gpt\.blocks\.(\d+)\.output\.(.*)", r"vqbet.policy.transformer.h.\1.attn.c_proj.\2"),
        (r"gpt\.blocks\.(.*)", r"vqbet.policy.transformer.h.\1"),
        (r"gpt\.norm\.(.*)", r"vqbet.policy.transformer.ln_f.\1"),
        (r"gpt\.head\.(.*)", r"vqbet.policy.lm_head.\1"),
        (r"rvq\.quantizer\.books\.(\d+)\.(.*)", r"vqbet.action_head.vqvae_model.vq_layer.layers.\1._codebook.\2"),
        (r"rvq\.quantizer\.(.*)", r"vqbet.action_head.vqvae_model.vq_layer.\1"),
        (r"rvq\.(.*)", r"vqbet.action_head.vqvae_model.\1"),
        (r"first_code\.(.*)", r"vqbet.action_head.map_to_cbet_preds_primary_bin.0.\1"),
        (r"second_code\.(.*)", r"vqbet.action_head.map_to_cbet_preds_secondary_bin.0.\1"),
        (r"both_codes\.(.*)", r"vqbet.action_head.map_to_cbet_preds_bin.0.\1"),
        (r"offset\.(.*)", r"vqbet.action_head.map_to_cbet_preds_offset.0.\1"),
    ),
    {"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
    idle={
        "optimizer_lr": 1e-4,
        "optimizer_betas": [0.95, 0.999],
        "optimizer_eps": 1e-8,
        "optimizer_weight_decay": 1e-6,
        "scheduler_warmup_steps": 500,
    },
    marks=("n_vqvae_training_steps",),
    needs=("STATE", "VISUAL"),
    ignores=("ENV",),
    constants=_vqbet_constants,
)
_TDMPC_PARTS = (
    *(("encode.image", "_encoder.image_enc_layers"), ("encode.environment", "_encoder.env_state_enc_layers")),
    *(("encode.state", "_encoder.state_enc_layers"), ("dynamics", "_dynamics"), ("reward", "_reward")),
    *(("policy", "_pi"), ("critics", "_Qs"), ("value", "_V")),
)
TDMPC = LeRobotKind(
    "tdmpc",
    tuple(
        (rf"{re.escape(f'{copy}.{ours}')}\.(.*)", rf"{theirs_copy}.{theirs}.\1")
        for copy, theirs_copy in (("online", "model"), ("target", "model_target"))
        for ours, theirs in _TDMPC_PARTS
    ),
    {"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ENV": "IDENTITY", "ACTION": "MIN_MAX"},
    fixed={"n_obs_steps": 1},
    idle={"optimizer_lr": 3e-4},
    marks=("latent_dim", "cem_iterations"),
    needs_one_of=("STATE", "ENV", "VISUAL"),
    fixed_scaling={"ACTION": "min_max"},
)
KINDS: Mapping[str, LeRobotKind] = {kind.name: kind for kind in (ACT, DIFFUSION, VQBET, TDMPC)}
