"""The same policy as LeRobot has it: names of tensors and keys of the configuration, both ways.

Called by the weight format. The statistics of the normalisation are not here: LeRobot has them in its processors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tendon.data.features import Feature
from tendon.policies.parts.keypoint_encoder import places_of
from tendon.policies.processing.normalize import IMAGENET
from tendon.policies.vqbet.config import NUM_BOOKS, VqbetConfig
from tendon.policies.vqbet.model import Vqbet

BEGINNINGS = {  # of our names, the longest first where one begins like another
    "camera.backbone.": "vqbet.rgb_encoder.backbone.",
    "camera.filters.": "vqbet.rgb_encoder.pool.nets.",
    "camera.linear.": "vqbet.rgb_encoder.out.",
    "embed_image.": "vqbet.rgb_feature_projector.0.",
    "embed_state.": "vqbet.state_projector.0.",
    "query": "vqbet.action_token",
    "gpt.embed.": "vqbet.policy.transformer.wte.",
    "gpt.position.": "vqbet.policy.transformer.wpe.",
    "gpt.blocks.": "vqbet.policy.transformer.h.",
    "gpt.norm.": "vqbet.policy.transformer.ln_f.",
    "gpt.head.": "vqbet.policy.lm_head.",
    "rvq.quantizer.books.": "vqbet.action_head.vqvae_model.vq_layer.layers.",
    "rvq.quantizer.": "vqbet.action_head.vqvae_model.vq_layer.",
    "rvq.": "vqbet.action_head.vqvae_model.",
    "first_code.": "vqbet.action_head.map_to_cbet_preds_primary_bin.0.",
    "second_code.": "vqbet.action_head.map_to_cbet_preds_secondary_bin.0.",
    "both_codes.": "vqbet.action_head.map_to_cbet_preds_bin.0.",
    "offset.": "vqbet.action_head.map_to_cbet_preds_offset.0.",
}
INSIDE = {  # of a block and of a code book
    ".norm1.": ".ln_1.",
    ".norm2.": ".ln_2.",
    ".qkv.": ".attn.c_attn.",
    ".output.": ".attn.c_proj.",
    ".embed_avg": "._codebook.embed_avg",
    ".embed": "._codebook.embed",
    ".cluster_size": "._codebook.cluster_size",
}
SAME = (
    *("n_obs_steps", "n_action_pred_token", "action_chunk_size", "vision_backbone", "crop_is_random"),
    *("use_group_norm", "spatial_softmax_num_keypoints", "n_vqvae_training_steps", "vqvae_n_embed"),
    *("vqvae_embedding_dim", "vqvae_enc_hidden_dim", "optimizer_vqvae_lr", "optimizer_vqvae_weight_decay"),
    *("gpt_block_size", "gpt_input_dim", "gpt_output_dim", "gpt_n_layer", "gpt_n_head", "gpt_hidden_dim"),
    *("dropout", "offset_loss_weight", "primary_code_loss_weight", "secondary_code_loss_weight"),
    *("bet_softmax_temperature", "sequentially_select"),
)
PRETRAINED = "ResNet18_Weights.IMAGENET1K_V1"


def names(config: VqbetConfig, features: Mapping[str, Feature]) -> dict[str, str]:
    """Of every tensor but those of the processing: our name to theirs, one to one."""
    with torch.device("meta"):
        state = Vqbet(config, features, None).state_dict()
    return {name: _theirs(name) for name in state if not name.startswith("processing.")}


def constants(config: VqbetConfig, features: Mapping[str, Feature]) -> dict[str, Tensor]:
    """Tensors of theirs that say nothing of what was learnt: masks, grids and indices. Ours are computed where needed."""
    size = config.gpt_block_size
    mask = torch.ones(size, size).tril().view(1, 1, size, size)
    chunks = torch.arange(config.num_queries).unsqueeze(1) + torch.arange(config.action_chunk_size)
    made = {f"vqbet.policy.transformer.h.{i}.attn.bias": mask for i in range(config.gpt_n_layer)}
    made["vqbet.select_target_actions_indices"] = chunks
    for i in range(NUM_BOOKS):
        made[f"vqbet.action_head.vqvae_model.vq_layer.layers.{i}._codebook.initted"] = torch.ones(1)
    for feature in features.values():
        if feature.kind == "image":
            made["vqbet.rgb_encoder.pool.pos_grid"] = places_of(config.camera_size(feature))
    return made


def to_lerobot(config: VqbetConfig) -> dict[str, Any]:
    """The fields of their config.json that this policy decides."""
    visual = "IDENTITY" if config.image_normalization == "identity" else "MEAN_STD"
    return {name: getattr(config, name) for name in SAME} | {
        "type": "vqbet",
        "crop_shape": list(config.crop_shape) or None,
        "pretrained_backbone_weights": PRETRAINED if config.pretrained else None,
        "normalization_mapping": {
            "VISUAL": visual,
            "STATE": config.state_normalization.upper(),
            "ACTION": config.action_normalization.upper(),
        },
    }


def from_lerobot(fields: Mapping[str, Any], image_mean: Sequence[float] = ()) -> dict[str, Any]:
    """Our keys of the policy from their config.json.

    Args:
        fields: the file's content.
        image_mean: what their processor subtracts from a picture, where it does.
    """
    mapping = {kind: str(mode).lower() for kind, mode in fields["normalization_mapping"].items()}
    is_imagenet = len(image_mean) == len(IMAGENET[0]) and all(
        abs(one - other) < 1e-3 for one, other in zip(image_mean, IMAGENET[0], strict=True)
    )
    scaled = "imagenet" if is_imagenet else "half"
    return {name: fields[name] for name in SAME} | {
        "name": "vqbet",
        "crop_shape": tuple(fields["crop_shape"] or ()),
        "pretrained": fields["pretrained_backbone_weights"] is not None,
        "image_normalization": "identity" if mapping.get("VISUAL", "identity") == "identity" else scaled,
        "state_normalization": mapping["STATE"],
        "action_normalization": mapping["ACTION"],
    }


def _theirs(name: str) -> str:
    beginning = next(one for one in BEGINNINGS if name.startswith(one))
    rest = name.removeprefix(beginning)
    if beginning in ("gpt.blocks.", "rvq.quantizer.books."):
        inner = next((one for one in INSIDE if one in f".{rest}"), "")
        rest = rest.replace(inner, INSIDE[inner], 1) if inner else rest
    return BEGINNINGS[beginning] + rest
