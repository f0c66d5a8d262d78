"""A robomimic JSON (v0.1 to v0.5) becomes overrides of our configuration; called by ``tendon train --config`` and the .pth importer.

Every key is mapped, or has no meaning here and is named in the notes, or is refused with the reason. Couplings that
upstream lets pass silently (rnn.horizon and seq_length, frame_stack and context_length) are refused too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tendon.config.foreign.robomimic_keys import ANY, DEFAULTS, FREE
from tendon.config.keys import nearest
from tendon.config.override_text import quote
from tendon.errors import ConfigError, Problem

LEARNING_RATE = "algo.optim_params.policy.learning_rate."
PLAIN = "leave it at its default, or write the run in tendon's own configuration"


@dataclass(frozen=True)
class Translation:
    """What a robomimic configuration means here."""

    overrides: tuple[str, ...]
    notes: tuple[str, ...]  # what has no effect here, and what is done another way
    name: str
    dataset: str
    policy: Mapping[str, Any]  # the keys of the policy section, by name
    low_dim: tuple[str, ...]
    cameras: tuple[str, ...]
    goals: tuple[str, ...]


@dataclass
class _Reader:
    """The effective values of one file, what they became, and what is wrong."""

    place: str
    given: dict[str, Any]
    for_weights: bool  # of a checkpoint: how it was trained plays no part
    overrides: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def __call__(self, key: str) -> Any:
        value = self.given.get(key, DEFAULTS.get(key))
        return None if value is ANY else value

    def refuse(self, what: str, why: str, fix: str = PLAIN) -> None:
        self.problems.append(Problem(what, self.place, why, fix))

    def refuse_unless(self, key: str, allowed: Any, why: str) -> None:
        """A key whose other values have no counterpart."""
        if self(key) != allowed and not (allowed is None and self(key) in ([], {}, ())):
            self.refuse(f"{key} is {json.dumps(self(key))}", why)

    def note(self, text: str) -> None:
        self.notes.append(text)


def read_json(path: str | Path) -> dict[str, Any]:
    """The tree of a file.

    Raises:
        ConfigError: it is missing, or no JSON object.
    """
    path = Path(path)
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {path.name}", where=str(path), why="no such file", fix="check the path"
        ) from None
    except (ValueError, OSError) as error:
        where = f"{path}:{getattr(error, 'lineno', 1)}"
        raise ConfigError("this is not JSON", where=where, why=str(error), fix="mend that line") from None
    if not isinstance(tree, dict) or "algo_name" not in tree:
        why = "it has no algo_name"
        raise ConfigError("this is not a robomimic configuration", where=str(path), why=why, fix='"algo_name": "bc"')
    return tree


def translate(
    tree: Mapping[str, Any],
    place: str = "robomimic configuration",
    *,
    steps_per_pass: int | None = None,
    splits: tuple[str, ...] = (),
    for_weights: bool = False,
) -> Translation:
    """Read a configuration.

    Args:
        tree: the JSON.
        place: how errors call it.
        steps_per_pass: updates of one pass over the data, which ``epoch_every_n_steps: null`` asks for.
        splits: filter keys of the dataset, if it is known.
        for_weights: read only what a net and its actions depend on (a checkpoint's config).

    Raises:
        ConfigError: with everything that cannot be kept.
    """
    if tree.get("algo_name", "bc") != "bc":
        raise ConfigError(
            f"algorithm {tree.get('algo_name')!r} is not here",
            where=place,
            why="tendon has robomimic's bc family: BC, Gaussian, GMM, VAE, RNN, Transformer",
            fix='"algo_name": "bc"',
        )
    read = _Reader(place, _upgraded(dict(_leaves(tree, ""))), for_weights)
    _check_keys(read)
    if read.problems:
        raise ConfigError.of(read.problems)
    name = _policy(read)
    low_dim, cameras, goals = _observations(read)
    if not for_weights:
        _windows(read, name)
        steps = _training(read, steps_per_pass)
        _saving(read, steps)
        _data(read, splits)
        _rollouts(read)
        if cameras:
            read.refuse(
                f"observation.modalities.obs.rgb names {', '.join(cameras)}",
                "configurations with cameras are not read from JSON yet: their windows come with the image loader",
                "low-dimensional observations, or tendon's own configuration",
            )
        read.overrides["env.observation"] = list(low_dim)
    if read.problems:
        raise ConfigError.of(list(dict.fromkeys(read.problems)))
    chosen = [f"policy={name}"] + [f"{key}={quote(value)}" for key, value in read.overrides.items()]
    chosen += [f"policy.{key}={quote(value)}" for key, value in read.policy.items()]
    dataset = read("train.data")
    return Translation(
        tuple(chosen),
        tuple(read.notes),
        str(read("experiment.name")),
        dataset if isinstance(dataset, str) else "",
        {"name": name, **read.policy},
        low_dim,
        cameras,
        goals,
    )


# ------------------------------------------------------------------------------------------------------------- the tree


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif not (isinstance(value, Mapping) and f"{prefix}{key}" not in DEFAULTS):
            yield f"{prefix}{key}", value


def _upgraded(given: dict[str, Any]) -> dict[str, Any]:
    """v0.1's modality ``image`` and flat encoder keys, as later versions write them."""
    for group in ("obs", "goal"):
        old, new = f"observation.modalities.{group}.image", f"observation.modalities.{group}.rgb"
        if given.get(old):
            given[new] = [*given.get(new, ()), *given[old]]
        given.pop(old, None)
    renamed = {
        "visual_core": "rgb.core_kwargs.backbone_class",
        "visual_feature_dimension": "rgb.core_kwargs.feature_dimension",
        "visual_core_kwargs.pretrained": "rgb.core_kwargs.backbone_kwargs.pretrained",
        "visual_core_kwargs.input_coord_conv": "rgb.core_kwargs.backbone_kwargs.input_coord_conv",
        "spatial_softmax_kwargs.num_kp": "rgb.core_kwargs.pool_kwargs.num_kp",
        "obs_randomizer_class": "rgb.obs_randomizer_class",
        "obs_randomizer_kwargs.crop_height": "rgb.obs_randomizer_kwargs.crop_height",
        "obs_randomizer_kwargs.crop_width": "rgb.obs_randomizer_kwargs.crop_width",
    }
    for old, new in renamed.items():
        if f"observation.encoder.{old}" in given:
            given.setdefault(f"observation.encoder.{new}", given.pop(f"observation.encoder.{old}"))
    if given.pop("observation.encoder.use_spatial_softmax", True) is False:
        given["observation.encoder.rgb.core_kwargs.pool_class"] = None
    return given


def _check_keys(read: _Reader) -> None:
    for key, value in read.given.items():
        if key.startswith(FREE):
            continue
        if key not in DEFAULTS:
            if key.startswith("algo.") and read.for_weights:
                continue
            near = nearest(key, DEFAULTS, 0.7) or nearest(key.rsplit(".", 1)[-1], DEFAULTS, 0.6)
            fix = f"{near} (the nearest)" if near else "leave it out"
            read.refuse(f"unknown key {key}", "no version of robomimic's bc has it", fix)
            continue
        default = DEFAULTS[key]
        if default is ANY or default is None or value is None:
            continue
        numbers = (int, float)
        fits = (
            isinstance(value, (list, tuple))
            if isinstance(default, tuple)
            else isinstance(value, bool)
            if isinstance(default, bool)
            else isinstance(value, numbers) and not isinstance(value, bool)
            if isinstance(default, numbers)
            else isinstance(value, str)
        )
        if not fits:
            kind = {tuple: "a list", bool: "true or false", int: "a number", float: "a number", str: "text"}
            why = f"it is {kind[type(default)]}; upstream would take it and fail later"
            read.refuse(f"{key} is {json.dumps(value)}", why, f"such as {json.dumps(default)}")


# ----------------------------------------------------------------------------------------------------------- the policy


def _policy(read: _Reader) -> str:
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


def _action_normalization(read: _Reader) -> str:
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


def _vae(read: _Reader) -> None:
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


def _rnn(read: _Reader) -> None:
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


def _transformer(read: _Reader) -> None:
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


# ----------------------------------------------------------------------------------------------------- what is observed


def _observations(read: _Reader) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Low-dimensional keys, cameras, goals."""
    low_dim = tuple(read("observation.modalities.obs.low_dim"))
    cameras = tuple(key for kind in ("rgb", "depth", "scan") for key in read(f"observation.modalities.obs.{kind}"))
    kinds = ("low_dim", "rgb", "depth", "scan")
    goals = tuple(key for kind in kinds for key in read(f"observation.modalities.goal.{kind}"))
    twice = sorted({key for key in (*low_dim, *cameras) if (*low_dim, *cameras).count(key) > 1})
    if twice:
        read.refuse(f"{', '.join(twice)} stands in two modalities", "a key belongs to exactly one")
    if goals and not read.for_weights:
        read.refuse(
            f"observation.modalities.goal names {', '.join(goals)}",
            "policies take goals, but the loader gives none yet: they cannot be trained here",
        )
    if cameras:
        _camera_encoder(read)
    return low_dim, cameras, goals


def _camera_encoder(read: _Reader) -> None:
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


def _windows(read: _Reader, name: str) -> None:
    """The couplings of windows and nets."""
    seq_length, frame_stack = int(read("train.seq_length")), int(read("train.frame_stack"))
    if name == "bc_rnn":
        horizon = int(read("algo.rnn.horizon"))
        if horizon != seq_length:
            why = "the state starts anew every horizon steps in a rollout: training must see as many steps"
            fix = f'"train": {{"seq_length": {horizon}}}'
            read.refuse(f"algo.rnn.horizon is {horizon}, train.seq_length {seq_length}", why, fix)
        if frame_stack != 1:
            why = "a recurrent net remembers; stacked frames would lengthen its sequences"
            read.refuse(f"train.frame_stack is {frame_stack} with algo.rnn", why, '"frame_stack": 1')
    elif name == "bc_transformer":
        context = int(read("algo.transformer.context_length"))
        if frame_stack != context:
            why = "the net takes exactly so many observations; upstream fails, or trains on the oldest of them"
            fix = f'"train": {{"frame_stack": {context}}}'
            read.refuse(f"train.frame_stack is {frame_stack}, algo.transformer.context_length {context}", why, fix)
        wanted = context if read("algo.transformer.pred_future_acs") else 1
        if seq_length < wanted:
            why = "pred_future_acs predicts so many actions"
            read.refuse(f"train.seq_length is {seq_length}, needed are {wanted}", why, f'"seq_length": {wanted}')
        elif seq_length > wanted:
            read.note(f"train.seq_length={seq_length} has no effect: {wanted} is what the transformer trains on")
    else:
        if frame_stack != 1:
            why = "upstream's BC would then look at the oldest frame only"
            read.refuse(f"train.frame_stack is {frame_stack}", why, '"frame_stack": 1')
        if seq_length != 1:
            read.note(f"train.seq_length={seq_length} has no effect: {name} trains on single steps")
    for key, matters in (("pad_seq_length", seq_length > 1), ("pad_frame_stack", frame_stack > 1)):
        if matters and not read(f"train.{key}"):
            read.refuse(f"train.{key} is false", "windows are always padded with the first and the last step")


# ----------------------------------------------------------------------------------------- training, saving, data, rollouts


def _training(read: _Reader, steps_per_pass: int | None) -> int:
    """The keys of the loop; how many steps an epoch has."""
    steps = read("experiment.epoch_every_n_steps")
    if steps is None and steps_per_pass is None:
        why = "an epoch is then a pass over the data, whose length is not known here"
        read.refuse("experiment.epoch_every_n_steps is null", why, "give the dataset, or a number")
    steps, epochs = int(steps or steps_per_pass or 1), int(read("train.num_epochs"))
    put = read.overrides
    put["seed"] = int(read("train.seed"))
    put["device"] = "auto" if read("train.cuda") else "cpu"
    put["training.offline_steps"] = steps * epochs
    put["training.batch_size"] = int(read("train.batch_size"))
    put["training.log_freq"] = steps
    put["training.valid_freq"] = steps
    put["training.valid_batches"] = int(read("experiment.validation_epoch_every_n_steps") or 10)
    optimizer = read("algo.optim_params.policy.optimizer_type")
    if optimizer not in ("adam", "adamw"):
        why = "adam and adamw are known; upstream goes on without an optimiser"
        read.refuse(f"algo.optim_params.policy.optimizer_type is {optimizer!r}", why, '"adam"')
    put["training.optimizer"] = optimizer
    put["training.weight_decay"] = float(read("algo.optim_params.policy.regularization.L2"))
    put["training.grad_clip_norm"] = float(read("train.max_grad_norm") or 0.0)
    put["training.lr"] = float(read(f"{LEARNING_RATE}initial"))
    _schedule(read, steps, epochs)
    return steps


def _schedule(read: _Reader, steps: int, epochs: int) -> None:
    kind, milestones = read(f"{LEARNING_RATE}scheduler_type"), [int(e) for e in read(f"{LEARNING_RATE}epoch_schedule")]
    factor, put = float(read(f"{LEARNING_RATE}decay_factor")), read.overrides
    put["training.lr_warmup_steps"], put["training.epoch_every_n_steps"] = 0, steps
    if kind in ("multistep", "linear") and not milestones:
        put["training.lr_scheduler"] = "constant"
    elif kind == "linear" and len(milestones) == 1:
        put["training.lr_scheduler"], put["training.lr_end_factor"] = "linear", factor
        put["training.epoch_schedule"] = milestones
    elif kind == "multistep":
        put["training.lr_scheduler"], put["training.decay_factor"] = "multistep", factor
        put["training.epoch_schedule"] = milestones
    elif kind == "cosine":
        if not read(f"{LEARNING_RATE}step_every_batch") or read(f"{LEARNING_RATE}num_cycles") != 0.5:
            read.refuse("the cosine schedule has other than half a cycle per step", "half a cosine per update is known")
        put["training.lr_scheduler"], put["training.lr_end_factor"] = "cosine", 0.0
        put["training.lr_warmup_steps"] = int(read(f"{LEARNING_RATE}warmup_steps"))
    else:
        why = "steps by epoch, one linear fall and half a cosine are known"
        read.refuse(f"the learning rate follows {kind} at {milestones}", why)


def _saving(read: _Reader, steps: int) -> None:
    put, at = read.overrides, "experiment.save."
    every, epochs = read(f"{at}every_n_epochs"), int(read("train.num_epochs"))
    put["training.save_checkpoint"] = bool(read(f"{at}enabled"))
    put["training.save_freq"] = steps * int(every or epochs)
    rolls_out = bool(read("experiment.rollout.enabled"))
    if rolls_out:
        put["training.eval_freq"] = steps * int(read("experiment.rollout.rate"))
        if read("experiment.rollout.warmstart"):
            read.note("experiment.rollout.warmstart has no effect: rollouts begin at the first multiple of rate")
    if read(f"{at}enabled"):
        put["save.every_n_seconds"] = float(read(f"{at}every_n_seconds") or 0.0)
        put["save.epochs"] = [int(epoch) for epoch in read(f"{at}epochs")]
        put["save.on_best_validation"] = bool(read(f"{at}on_best_validation") and read("experiment.validate"))
        for rule in ("on_best_rollout_return", "on_best_rollout_success_rate"):
            put[f"save.{rule}"] = bool(read(at + rule) and rolls_out)
    put["track.tensorboard"] = False
    if read("experiment.logging.log_tb"):
        read.note(
            "experiment.logging.log_tb: metrics.jsonl is always written; track.tensorboard=true writes events too"
        )
    if read("experiment.logging.log_wandb"):
        put["wandb.enable"], put["wandb.project"] = True, str(read("experiment.logging.wandb_proj_name"))
    if "experiment.mse" in read.given or any(key.startswith("experiment.mse.") for key in read.given):
        read.note("experiment.mse has no effect (upstream's own template has it, and upstream refuses it)")
    if read("experiment.ckpt_path"):
        read.refuse("experiment.ckpt_path is set", "training does not start from a foreign checkpoint here")


def _data(read: _Reader, splits: tuple[str, ...]) -> None:
    put, data = read.overrides, read("train.data")
    if isinstance(data, (list, tuple)):
        read.refuse("train.data is a list", "one dataset is trained on at a time", "convert and name one file")
    read.refuse_unless("train.goal_mode", None, "the loader gives no goals yet")
    chosen, held_out = read("train.hdf5_filter_key"), read("train.hdf5_validation_filter_key")
    if not read("experiment.validate"):
        put["data.split"], put["data.valid_split"] = chosen or "all", "none"
        return
    if not held_out:
        pair = (f"{chosen}_train", f"{chosen}_valid") if chosen else ("train", "valid")
        read.note(
            f"validation: the masks {pair[0]} and {pair[1]} are used, as v0.1 and v0.2 do (v0.3 asks for both keys)"
        )
        chosen, held_out = pair
    elif not chosen:
        why = "training would include the episodes it is validated on"
        read.refuse("train.hdf5_filter_key is null with a validation filter key", why, '"hdf5_filter_key": "train"')
    missing = [key for key in (chosen, held_out) if splits and key not in splits]
    if missing:
        why = f"the file has {', '.join(splits)}"
        read.refuse(f"the dataset has no mask {', '.join(missing)}", why, '"validate": false, or add the masks')
    put["data.split"], put["data.valid_split"] = chosen, held_out


def _rollouts(read: _Reader) -> None:
    put = read.overrides
    put["eval.n_episodes"] = max(1, int(read("experiment.rollout.n")))
    put["env.episode_length"] = int(read("experiment.rollout.horizon"))
    for key in ("experiment.env", "experiment.additional_envs"):
        read.refuse_unless(key, None, "the environment is chosen by env=NAME")
    if any(key.startswith("experiment.env_meta_update_dict.") for key in read.given):
        read.refuse("experiment.env_meta_update_dict is set", "the environment's options are env.options")
    if not read("experiment.rollout.terminate_on_success"):
        read.note("experiment.rollout.terminate_on_success=false: episodes end at success here")
    names = f"train.output_dir={read('train.output_dir')!r} and experiment.name={read('experiment.name')!r}"
    read.note(f"{names} name no folder: a trial is kept in STORE/trials/KEY, the store is --store-uri")
