"""Which policy a robomimic configuration asks for, its keys, and what it looks at; called by robomimic.py."""

from __future__ import annotations

import json

from tendon.config.foreign.robomimic_reader import Reader


def read_policy(read: Reader) -> str:
    """The policy's name; its keys go to ``read.policy``."""
    enabled = [kind for kind in ("gaussian", "gmm", "vae") if read(f"algo.{kind}.enabled")]
    backbone = next((kind for kind in ("rnn", "transformer") if read(f"algo.{kind}.enabled")), "")
    head = enabled[0] if enabled else ""  # upstream's precedence
    for ignored in enabled[1:]:
        read.note(f"algo.{ignored}.enabled has no effect: {head} comes first, as upstream")
    if backbone == "rnn" and read("algo.transformer.enabled"):
        read.note("algo.transformer.enabled has no effect: rnn comes first, as upstream")
    if backbone and head in ("gaussian", "vae"):
        read.refuse(f"algo.{head} and algo.{backbone} are both enabled", "upstream has no such policy either")
    put = read.policy
    put["hidden_dims"] = [int(width) for width in read("algo.actor_layer_dims")]
    put["head"] = head if head in ("gaussian", "gmm") else "deterministic"
    if head in ("gaussian", "gmm"):
        for key in ("min_std", "std_activation", "low_noise_eval"):
            put[key] = read(f"algo.{head}.{key}")
    if head == "gaussian":
        put["fixed_std"], put["init_std"] = read("algo.gaussian.fixed_std"), read("algo.gaussian.init_std")
    if head == "gmm":
        put["num_modes"] = int(read("algo.gmm.num_modes"))
    if not head:
        for key in ("l2_weight", "l1_weight", "cos_weight"):
            put[key] = float(read(f"algo.loss.{key}"))
    put["observation_normalization"] = "mean_std" if read("train.hdf5_normalize_obs") else "identity"
    put["action_normalization"] = _action_normalization(read)
    if head == "vae":
        _vae(read)
        return "bc_vae"
    if backbone == "rnn":
        _rnn(read)
        return "bc_rnn"
    if backbone == "transformer":
        _transformer(read)
        return "bc_transformer"
    if not put["hidden_dims"]:
        read.refuse(
            "algo.actor_layer_dims is empty", "without a recurrent net or a transformer there is no layer at all"
        )
    return "bc"


def _action_normalization(read: Reader) -> str:
    keys = list(read("train.action_keys"))
    if keys != ["actions"]:
        read.refuse(f"train.action_keys is {json.dumps(keys)}", "one dataset, actions, is read", '["actions"]')
    found = read.given.get("train.action_config.actions.normalization")
    for key, value in read.given.items():
        if key.startswith("train.action_config.actions.") and key.endswith(("format", "convert_at_runtime")) and value:
            read.note(f"{key} has no effect: actions are used as the dataset holds them")
    if found == "gaussian":
        read.policy["bounded"] = "always"
    if found not in (None, "min_max", "gaussian"):
        read.refuse(f"train.action_config.actions.normalization is {found!r}", "null, min_max and gaussian are known")
    return {"min_max": "min_max", "gaussian": "mean_std"}.get(str(found), "identity")


def _vae(read: Reader) -> None:
    for key in ("use_gmm", "use_categorical"):
        if read(f"algo.vae.prior.{key}"):
            read.refuse(f"algo.vae.prior.{key} is true", "the prior is normal or a learned Gaussian")
    put, prior = read.policy, "normal"
    if read("algo.vae.prior.learn"):
        prior = "learned_conditioned" if read("algo.vae.prior.is_conditioned") else "learned"
    put |= {
        "prior": prior,
        "latent_dim": int(read("algo.vae.latent_dim")),
        "latent_clip": float(read("algo.vae.latent_clip") or 0.0),
        "kl_weight": float(read("algo.vae.kl_weight")),
        "conditioned_decoder": read("algo.vae.decoder.is_conditioned"),
        "sum_reconstruction": read("algo.vae.decoder.reconstruction_sum_across_elements"),
    }
    for net in ("encoder", "decoder", "prior"):
        put[f"{net}_dims"] = [int(width) for width in read(f"algo.vae.{net}_layer_dims")]
    put["hidden_dims"] = put["hidden_dims"] or [1]


def _rnn(read: Reader) -> None:
    if read("algo.rnn.kwargs.bidirectional"):
        read.refuse("algo.rnn.kwargs.bidirectional is true", "a policy cannot see the future when it acts")
    if read("algo.rnn.rnn_type") not in ("LSTM", "GRU"):
        read.refuse(f"algo.rnn.rnn_type is {read('algo.rnn.rnn_type')!r}", "LSTM and GRU are known", '"LSTM"')
    horizon = int(read("algo.rnn.horizon"))
    read.policy |= {
        "horizon": horizon,
        "seq_length": horizon if read.for_weights else int(read("train.seq_length")),
        "hidden_dim": int(read("algo.rnn.hidden_dim")),
        "num_layers": int(read("algo.rnn.num_layers")),
        "cell": read("algo.rnn.rnn_type"),
        "open_loop": read("algo.rnn.open_loop"),
    }


def _transformer(read: Reader) -> None:
    at = "algo.transformer."
    if read(f"{at}activation") not in ("gelu", "geglu"):
        read.refuse(f"{at}activation is {read(f'{at}activation')!r}", "gelu and geglu are known", '"gelu"')
    sines, parameter = read(f"{at}sinusoidal_embedding"), read(f"{at}nn_parameter_for_timesteps")
    if sines and parameter:
        why = "upstream fails with an AttributeError: a parameter and sines cannot both be the positions"
        read.refuse(f"{at}sinusoidal_embedding and {at}nn_parameter_for_timesteps are both true", why, "switch one off")
    if not read(f"{at}causal"):
        read.refuse(f"{at}causal is false", "upstream has no such setting")
    names = ("context_length", "embed_dim", "num_layers", "num_heads")
    read.policy |= {name: int(read(at + name)) for name in names}
    read.policy |= {name: float(read(at + name)) for name in ("emb_dropout", "attn_dropout", "block_output_dropout")}
    read.policy |= {
        "activation": read(f"{at}activation"),
        "position": "sinusoidal" if sines else "parameter" if parameter else "embedding",
        "supervise_all_steps": read(f"{at}supervise_all_steps"),
        "pred_future_acs": read(f"{at}pred_future_acs"),
    }
    if read(f"{at}pred_future_acs"):
        read.policy["future_attention"] = "causal"
        read.note(
            "algo.transformer.pred_future_acs: upstream's causal mask is kept, under which the executed action sees the "
            "oldest observation only; policy.future_attention=full lets it see all of them"
        )


def read_observations(read: Reader) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Low-dimensional keys, cameras, goals."""
    low_dim = tuple(read("observation.modalities.obs.low_dim"))
    cameras = tuple(key for kind in ("rgb", "depth", "scan") for key in read(f"observation.modalities.obs.{kind}"))
    kinds = ("low_dim", "rgb", "depth", "scan")
    goals = tuple(key for kind in kinds for key in read(f"observation.modalities.goal.{kind}"))
    twice = sorted({key for key in (*low_dim, *cameras) if (*low_dim, *cameras).count(key) > 1})
    if twice:
        read.refuse(f"{', '.join(twice)} stands in two modalities", "a key belongs to exactly one")
    if goals and not read.for_weights and read("train.goal_mode") != "last":
        why = "without a mode upstream loads no goals, and last is the one it has"
        read.refuse(f"observation.modalities.goal names {', '.join(goals)}", why, '"goal_mode": "last"')
    if cameras:
        _camera_encoder(read)
    return low_dim, cameras, goals


def _camera_encoder(read: Reader) -> None:
    kind = "rgb" if read("observation.modalities.obs.rgb") else "depth"
    at = f"observation.encoder.{kind}."
    core, backbone = read.given.get(f"{at}core_class", "VisualCore"), f"{at}core_kwargs.backbone_class"
    names = {"ResNet18Conv": "resnet18", "ResNet34Conv": "resnet34"}
    chosen = read.given.get(backbone, "ResNet18Conv")
    if core != "VisualCore" or chosen not in names:
        read.refuse(f"{at}core_class is {core}, {backbone} {chosen}", "VisualCore with ResNet18Conv is known")
        return
    pool = read.given.get(f"{at}core_kwargs.pool_class", "SpatialSoftmax")
    if pool not in (None, "SpatialSoftmax"):
        read.refuse(f"{at}core_kwargs.pool_class is {pool!r}", "SpatialSoftmax and none are known")
    if read.given.get(f"{at}core_kwargs.backbone_kwargs.input_coord_conv"):
        read.refuse(f"{at}core_kwargs.backbone_kwargs.input_coord_conv is true", "plain convolutions are known")
    if read.given.get(f"{at}core_kwargs.pool_kwargs.learnable_temperature"):
        read.refuse(f"{at}core_kwargs.pool_kwargs.learnable_temperature is true", "the temperature is fixed")
    randomizer = read.given.get(f"{at}obs_randomizer_class")
    if randomizer not in (None, "CropRandomizer", ["CropRandomizer"]):
        read.refuse(f"{at}obs_randomizer_class is {randomizer!r}", "CropRandomizer is known")
    sizes = [read.given.get(f"{at}obs_randomizer_kwargs.crop_{side}", 76) for side in ("height", "width")]
    if randomizer and (sizes[0] != sizes[1] or read.given.get(f"{at}obs_randomizer_kwargs.num_crops", 1) != 1):
        read.refuse(f"{at}obs_randomizer_kwargs crops {sizes[0]} x {sizes[1]}", "one square crop is known")
    feature_dim = read.given.get(f"{at}core_kwargs.feature_dimension", 64)
    if feature_dim is None:
        read.refuse(f"{at}core_kwargs.feature_dimension is null", "each camera ends in a linear layer", "64")
    read.policy |= {
        "vision_backbone": names[chosen],
        "pretrained": bool(read.given.get(f"{at}core_kwargs.backbone_kwargs.pretrained", False)),
        "num_keypoints": int(read.given.get(f"{at}core_kwargs.pool_kwargs.num_kp", 32)) if pool else 0,
        "feature_dim": int(feature_dim or 64),
        "crop_size": int(sizes[0]) if randomizer else 0,
    }
