"""A robomimic configuration, whole, of a policy of ours: what a ``.pth`` must hold so that robomimic builds the same nets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from tendon.config.foreign.robomimic_keys import ANY, DEFAULTS
from tendon.policies.spec import PolicySpec
from tendon.policies.windows import ACTION, GOAL, bare

Version = Literal["0.3", "0.5"]


def make_config(info: PolicySpec) -> dict[str, Any]:
    """A whole robomimic configuration of this policy: their defaults with its values."""
    own = asdict(info.config)
    flat = {key: list(v) if isinstance(v, tuple) else v for key, v in DEFAULTS.items() if v is not ANY}
    at = "algo."
    flat[f"{at}actor_layer_dims"] = list(own["hidden_dims"])
    for key in ("l2_weight", "l1_weight", "cos_weight"):
        flat[f"{at}loss.{key}"] = own[key]
    if own["head"] in ("gaussian", "gmm"):
        kind = own["head"]
        flat[f"{at}{kind}.enabled"] = True
        for key in ("min_std", "std_activation", "low_noise_eval"):
            flat[f"{at}{kind}.{key}"] = own[key]
        if kind == "gaussian":
            flat |= {f"{at}gaussian.fixed_std": own["fixed_std"], f"{at}gaussian.init_std": own["init_std"]}
        else:
            flat[f"{at}gmm.num_modes"] = own["num_modes"]
    if info.name == "bc_rnn":
        flat |= {f"{at}rnn.enabled": True, f"{at}rnn.rnn_type": own["cell"], "train.seq_length": own["seq_length"]}
        flat |= {f"{at}rnn.{key}": own[key] for key in ("horizon", "hidden_dim", "num_layers", "open_loop")}
    if info.name == "bc_transformer":
        names = [
            *("context_length", "embed_dim", "num_layers", "num_heads", "emb_dropout", "attn_dropout"),
            *("block_output_dropout", "activation", "supervise_all_steps", "pred_future_acs"),
        ]
        flat |= {f"{at}transformer.{key}": own[key] for key in names} | {f"{at}transformer.enabled": True}
        flat[f"{at}transformer.sinusoidal_embedding"] = own["position"] == "sinusoidal"
        flat[f"{at}transformer.nn_parameter_for_timesteps"] = own["position"] == "parameter"
        flat["train.frame_stack"] = own["context_length"]
        flat["train.seq_length"] = own["context_length"] if own["pred_future_acs"] else 1
    if info.name == "bc_vae":
        flat |= {f"{at}vae.enabled": True, f"{at}vae.latent_clip": own["latent_clip"] or None}
        flat |= {f"{at}vae.{key}": own[key] for key in ("latent_dim", "kl_weight")}
        flat |= {f"{at}vae.{net}_layer_dims": list(own[f"{net}_dims"]) for net in ("encoder", "decoder", "prior")}
        flat[f"{at}vae.decoder.is_conditioned"] = own["conditioned_decoder"]
        flat[f"{at}vae.decoder.reconstruction_sum_across_elements"] = own["sum_reconstruction"]
        flat[f"{at}vae.prior.learn"] = own["prior"] != "normal"
        flat[f"{at}vae.prior.is_conditioned"] = own["prior"] == "learned_conditioned"
    flat["train.hdf5_normalize_obs"] = own["observation_normalization"] != "identity"
    flat |= {"train.data": None, "train.output_dir": "../bc_trained_models"}
    flat |= {"train.hdf5_cache_mode": "low_dim", "train.hdf5_load_next_obs": False}
    tree = _tree(flat)
    tree["train"]["action_config"] = {"actions": {"normalization": None}}
    if own["action_normalization"] != "identity":
        modes = {"min_max": "min_max", "mean_std": "gaussian"}
        tree["train"]["action_config"]["actions"]["normalization"] = modes[own["action_normalization"]]
    tree["observation"] = _observation(info, own)
    return tree


def _observation(info: PolicySpec, own: Mapping[str, Any]) -> dict[str, Any]:
    kinds = ("low_dim", "rgb", "depth", "scan")
    modalities: dict[str, dict[str, list[str]]] = {group: {kind: [] for kind in kinds} for group in ("obs", "goal")}
    for key, feature in info.features.items():
        if key != ACTION:
            camera_kind = "depth" if feature.shape[-1] == 1 else "rgb"
            kind = {"image": camera_kind, "depth": "scan"}.get(feature.kind, "low_dim")
            modalities["goal" if key.startswith(GOAL) else "obs"][kind].append(bare(key))
    pool = {"num_kp": own["num_keypoints"], "learnable_temperature": False, "temperature": 1.0, "noise_std": 0.0}
    crop = {"crop_height": own["crop_size"], "crop_width": own["crop_size"], "num_crops": 1, "pos_enc": False}
    camera: dict[str, Any] = {
        "core_class": "VisualCore",
        "core_kwargs": {
            "feature_dimension": own["feature_dim"],
            "flatten": True,
            "backbone_class": {"resnet18": "ResNet18Conv", "resnet34": "ResNet34Conv"}[own["vision_backbone"]],
            "backbone_kwargs": {"pretrained": False, "input_coord_conv": False},
            "pool_class": "SpatialSoftmax" if own["num_keypoints"] else None,
            "pool_kwargs": pool | {"output_variance": False} if own["num_keypoints"] else {},
        },
        "obs_randomizer_class": "CropRandomizer" if own["crop_size"] else None,
        "obs_randomizer_kwargs": crop if own["crop_size"] else {},
    }
    plain: dict[str, Any] = {"core_kwargs": {}, "obs_randomizer_class": None, "obs_randomizer_kwargs": {}}
    encoder = {"low_dim": {"core_class": None, **plain}, "rgb": camera, "depth": json.loads(json.dumps(camera))}
    return {"modalities": modalities, "encoder": encoder | {"scan": {"core_class": "ScanCore", **plain}}}


def fitted(config: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """The configuration with the fields that a version reads: v0.5 fails without some that v0.3 does not have."""
    tree: dict[str, Any] = json.loads(json.dumps(config)) | {"algo_name": "bc"}
    if version == "0.5":
        train, policy = tree["train"], tree["algo"]["optim_params"]["policy"]
        for key, value in (
            ("action_keys", ["actions"]),
            ("normalize_weights_by_ds_size", False),
            ("max_grad_norm", None),
        ):
            train.setdefault(key, value)
        train.setdefault("action_config", {"actions": {"normalization": None}})
        tree["experiment"].setdefault("ckpt_path", None)
        tree["experiment"].setdefault("env_meta_update_dict", {})
        tree["algo"].setdefault("transformer", {}).setdefault("pred_future_acs", False)
        tree["algo"].setdefault("language_conditioned", False)
        policy.setdefault("num_train_batches", tree["experiment"].get("epoch_every_n_steps") or 100)
        policy.setdefault("num_epochs", train.get("num_epochs", 2000))
    return tree


def _tree(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *branches, leaf = key.split(".")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[leaf] = value
    return tree
