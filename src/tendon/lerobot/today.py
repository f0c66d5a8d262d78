"""Today's LeRobot command line (``--policy.type=act --dataset.root=DIR --steps=N``) and its train_config.json, key by key.

The defaults are those of LeRobot 0.4. Each key is one of ours, means nothing here and is said, or is refused with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tendon.config.override_text import shown
from tendon.errors import ConfigError, nearest
from tendon.lerobot.page import chosen_env, flat, has_gpu, set_guests, take_policy_key
from tendon.lerobot.presets import ALL_CHECKPOINTS
from tendon.lerobot.request import Request, truth, unknown_key
from tendon.weights.formats.lerobot.folder import STRUCTURE
from tendon.weights.formats.lerobot.table import COMMON, KINDS

SAME = {
    "seed": "seed",
    "batch_size": "training.batch_size",
    "steps": "training.offline_steps",
    "log_freq": "training.log_freq",
    "save_freq": "training.save_freq",
    "save_checkpoint": "training.save_checkpoint",
    "eval.n_episodes": "eval.n_episodes",
    "env.episode_length": "env.episode_length",
    "env.fps": "env.fps",
    "wandb.enable": "wandb.enable",
    "wandb.project": "wandb.project",
    "optimizer.lr": "training.lr",
    "optimizer.weight_decay": "training.weight_decay",
    "optimizer.grad_clip_norm": "training.grad_clip_norm",
    "optimizer.betas": "training.adam_betas",
    "optimizer.eps": "training.adam_eps",
    "scheduler.num_warmup_steps": "training.lr_warmup_steps",
    "policy.optimizer_lr": "training.lr",
    "policy.optimizer_lr_backbone": "training.lr_backbone",
    "policy.optimizer_weight_decay": "training.weight_decay",
    "policy.optimizer_betas": "training.adam_betas",
    "policy.optimizer_eps": "training.adam_eps",
    "policy.scheduler_warmup_steps": "training.lr_warmup_steps",
    "ema.enable": "ema.enable",
    "ema.decay": "ema.decay",
}
WITHOUT_MEANING = {
    "job_name": "it is a part of the run's folder alone",
    "tolerance_s": "time stamps are checked when the dataset is converted",
    "use_policy_training_preset": "the policy's optimiser is taken unless its keys are given",
    "dataset.revision": "the dataset is a folder here",
    "dataset.video_backend": "tendon decodes with its own reader",
    "dataset.streaming": "every dataset streams, in an order that can be resumed",
    "eval.use_async_envs": "every environment here is a process of its own",
    "wandb.disable_artifact": "checkpoints are in the run's folder; W&B is sent numbers and videos alone",
    "wandb.run_id": "a run goes on in its own folder",
    "wandb.mode": "without a key an offline run is written",
    "env.features": "the simulator says it",
    "env.features_map": "the simulator says it",
    "env.max_parallel_tasks": "one task is rolled out",
    "env.disable_env_checker": "environments are checked here",
    "env.observation_height": "env.cameras of the environment says it",
    "env.observation_width": "env.cameras of the environment says it",
    "env.visualization_height": "videos have the size of the camera",
    "env.visualization_width": "videos have the size of the camera",
    "env.render_mode": "pictures come as arrays",
    "policy.compile_model": "training.compile says it",
    "policy.compile_mode": "training.compile says it",
    "policy.input_features": "the dataset says it",
    "policy.output_features": "the dataset says it",
    "rabc_kappa": "use_rabc is off",
    "rabc_epsilon": "use_rabc is off",
    "rabc_head_mode": "use_rabc is off",
    "rabc_progress_path": "use_rabc is off",
    "peft": "it is null",
    "rename_map": "it is empty",
    "optimizer": "the policy's is taken",
    "scheduler": "the policy's is taken",
    "eval.recording": "it is off",
}
OPTIMIZERS = ("adam", "adamw")
SCHEDULERS = {"diffuser": "cosine", "vqbet": "cosine"}
NORMALIZATIONS = {
    "STATE": "policy.state_normalization",
    "ENV": "policy.environment_normalization",
    "ACTION": "policy.action_normalization",
    "VISUAL": "policy.image_normalization",
}
THEIR_MODES = {"MEAN_STD": "mean_std", "MIN_MAX": "min_max", "IDENTITY": "identity", "QUANTILES": "q99"}
LEROBOT_0_4: Mapping[str, Mapping[str, Any]] = {  # where 0.4's defaults are others than those of the page's files
    "act": {"environment_normalization": "identity", "image_normalization": "imagenet"},
    "diffusion": {
        "environment_normalization": "identity",
        "image_normalization": "imagenet",
        "crop_shape": [],
        "down_dims": [512, 1024, 2048],
    },
    "vqbet": {"image_normalization": "identity", "n_action_pred_token": 3},
    "tdmpc": {},
}
PATHS = ("policy.path", "policy.pretrained_path")


def is_today(words: Sequence[str]) -> bool:
    """Whether words are flags of today's: ``--policy.type=act``."""
    hydra = ("--config-dir", "--config-name", "--config-path", "--multirun", "--root", "--store-uri", "--help")
    return any(word.startswith("--") and word.partition("=")[0] not in hydra for word in words)


def parse_flags(words: Sequence[str]) -> list[tuple[str, Any]]:
    """``--key=value`` and ``--key value``, values as JSON where they are."""
    pairs, left = [], list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            near = f"--{word.lstrip('-')}"
            raise ConfigError(
                f"{word} is no flag",
                where="command line",
                why="today's LeRobot takes --key=value, its page of 2024 key=value; one command is one of them",
                fix=near if "=" in word else f"leave {word} out",
            )
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = left.pop(0) if left and not left[0].startswith("--") else "true"
        pairs.append((key, _parsed(value)))
    return pairs


def _parsed(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_today(given: Sequence[tuple[str, Any]]) -> Request:
    """What flags ask for; a --config_path is read first, the flags change it."""
    request, pairs = Request(observations=()), list(given)
    path = next((str(value) for key, value in given if key in ("config_path", "config")), "")
    if path:
        pairs = [*_file(path), *(pair for pair in given if pair[0] not in ("config_path", "config"))]
        if any(key == "resume" and _is_true(value) for key, value in given):
            _refuse_resume(request, path)
    folder = next((str(value) for key, value in reversed(pairs) if key in PATHS and value), "")
    if folder:
        pairs = [*_policy_file(folder), *pairs]
        request.set("policy.init_from", folder)
    values = dict(pairs)  # the last one counts
    policy = str(values.pop("policy.type", "") or "")
    if policy not in KINDS and _is_true(values.get("resume")) and values.get("output_dir"):
        request.resume, request.run_dir = True, str(values["output_dir"])
        return request  # a run of tendon's: its checkpoint says the rest
    if policy not in KINDS:
        near = nearest(policy, list(KINDS), 0.5) or "act"
        why = f"LeRobot's that tendon has are {', '.join(KINDS)}"
        request.refuse("policy.type", policy or None, why, f"--policy.type={near}")
        policy = ""
    else:
        _defaults(request, policy)
    for key in PATHS:
        values.pop(key, None)
    _Reader(request, policy, values).read()
    return request


def _file(path: str) -> list[tuple[str, Any]]:
    """train_config.json, or the folder that holds it."""
    file = Path(path)
    file = file / "train_config.json" if file.is_dir() else file
    try:
        tree = json.loads(file.read_text())
        assert isinstance(tree, dict)
    except (OSError, ValueError, AssertionError) as error:
        raise ConfigError(
            "the configuration cannot be read",
            where=f"--config_path={path}",
            why=f"{type(error).__name__}: {error}",
            fix="name LeRobot's train_config.json",
        ) from None
    mapping = (tree.get("policy") or {}).pop("normalization_mapping", None)
    return [*flat(tree), *([("policy.normalization_mapping", mapping)] if mapping else [])]


def _policy_file(folder: str) -> list[tuple[str, Any]]:
    """config.json of a pretrained_model folder: the policy's keys."""
    file = Path(folder) / "config.json"
    try:
        tree = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            "the policy cannot be read",
            where=f"--policy.path={folder}",
            why=f"{type(error).__name__}: {error}",
            fix="name a pretrained_model folder of LeRobot's",
        ) from None
    skipped = (*STRUCTURE, *COMMON)
    named = tree.get("type") or next((k.name for k in KINDS.values() if all(mark in tree for mark in k.marks)), "")
    pairs = [("policy.type", named), ("policy.normalization_mapping", tree.get("normalization_mapping"))]
    return [*pairs, *((f"policy.{key}", value) for key, value in tree.items() if key not in skipped)]


def _is_true(value: Any) -> bool:
    """Where the key itself is judged later."""
    try:
        return truth(value)
    except ValueError:
        return False


def _refuse_resume(request: Request, path: str) -> None:
    why = "the optimiser's state, the order of the data and the schedule of that checkpoint are LeRobot's own"
    folder = Path(path).parent if Path(path).suffix else Path(path)
    request.refuse("resume", True, why, f"--policy.path={folder} starts anew with its weights")


def _defaults(request: Request, policy: str) -> None:
    request.choices["policy"] = policy
    for key, value in LEROBOT_0_4[policy].items():
        request.set(f"policy.{key}", value)
    settings = {
        "seed": 1000,
        "training.offline_steps": 100_000,
        "training.batch_size": 8,
        "training.log_freq": 200,
        "training.save_freq": 20_000,
        "training.keep_checkpoints": ALL_CHECKPOINTS,
        "eval.n_episodes": 50,
    }
    for key, value in settings.items():
        request.set(key, value)


class _Reader:
    """Takes one key after the other."""

    def __init__(self, request: Request, policy: str, values: dict[str, Any]) -> None:
        self.request, self.policy, self.values = request, policy, values
        self.special: Mapping[str, Callable[[Any], None]] = {
            "dataset.repo_id": lambda value: setattr(request, "repo_ids", (str(value),)),
            "dataset.root": lambda value: setattr(request, "root", str(value or "")),
            "dataset.episodes": self._episodes,
            "dataset.use_imagenet_stats": lambda value: setattr(request, "imagenet", truth(value)),
            "output_dir": lambda value: setattr(request, "run_dir", str(value or "")),
            "resume": lambda value: setattr(request, "resume", truth(value)),
            "num_workers": lambda value: request.set("data.threads", max(1, int(value))),
            "wandb.entity": lambda value: request.set("wandb.entity", value or ""),
            "wandb.notes": lambda value: request.set("wandb.notes", value or ""),
            "policy.device": lambda value: request.set("device", value or "auto"),
            "policy.use_amp": self._amp,
            "policy.normalization_mapping": self._mapping,
            "policy.scheduler_name": lambda value: request.set("training.lr_scheduler", value or "constant"),
            "optimizer.type": self._optimizer,
            "scheduler.type": self._scheduler,
            "scheduler.name": lambda value: request.set("training.lr_scheduler", value),
        }

    def read(self) -> None:
        """Every key, then what several say together."""
        request, values = self.request, self.values
        if not values.get("dataset.repo_id"):
            fix = "--dataset.repo_id=me/data --dataset.root=FOLDER"
            request.refuse("dataset.repo_id", None, "there is nothing to learn from without a dataset", fix)
        env = values.pop("env.type", None)
        task, shows = str(values.pop("env.task", "") or ""), str(values.pop("env.obs_type", "") or "")
        eval_freq = values.pop("env_eval_freq", None)
        eval_freq = values.pop("eval_freq", 20_000) if eval_freq is None else eval_freq
        guests = int(values.pop("eval.batch_size", 50))
        for key, value in values.items():
            self._judge(key, value)
        chosen = chosen_env(request, str(env), task, shows) if env else ""
        if chosen:
            request.choices["env"], request.observations = chosen, None
        request.set("training.eval_freq", max(0, int(eval_freq)) if chosen else 0)
        set_guests(request, guests)
        if request.imagenet is False and self.policy in ("act", "diffusion"):
            why = "pictures would be scaled by the dataset's mean and deviation, which conversion does not keep for cameras"
            request.refuse("dataset.use_imagenet_stats", False, why, "--dataset.use_imagenet_stats=true")

    def _judge(self, key: str, value: Any) -> None:
        try:
            self._take(key, value)
        except (TypeError, ValueError) as error:
            self.request.refuse(key, value, f"{error}", f"--{key}=<value>")

    def _take(self, key: str, value: Any) -> None:
        request = self.request
        empty = value in (None, {}, [], "")
        if key in self.special:
            self.special[key](value)
        elif key in SAME and value is None:
            pass
        elif key in SAME:
            request.set(SAME[key], value)
        elif key.startswith("dataset.image_transforms"):
            if key.endswith(".enable") and truth(value):
                why = "the LeRobot policies here have their crops and no other change of pictures"
                request.refuse(key, value, why, f"--{key}=false")
        elif key in WITHOUT_MEANING or any(key.startswith(f"{one}.") for one in WITHOUT_MEANING):
            if not empty:
                name = next(one for one in WITHOUT_MEANING if key == one or key.startswith(f"{one}."))
                request.note(f"{key}={shown(value)} has no effect: {WITHOUT_MEANING[name]}")
        elif key == "use_rabc" or key.startswith(("peft.", "rename_map.")):
            if truth(value):
                request.refuse(key, value, "tendon does not have it", f"leave --{key} out")
        elif key.startswith("policy."):
            name = key.removeprefix("policy.")
            if name not in COMMON:
                take_policy_key(request, self.policy, name, value)
        elif not empty:
            known = [
                *SAME,
                *self.special,
                *WITHOUT_MEANING,
                "policy.type",
                "env.type",
                "env.task",
                "env.obs_type",
                "eval_freq",
            ]
            request.problems.append(unknown_key(key, known, f"--{key}={shown(value)}"))

    def _episodes(self, value: Any) -> None:
        if value is not None:
            self.request.episodes = tuple(int(one) for one in value)

    def _amp(self, value: Any) -> None:
        if truth(value):
            device = str(self.values.get("policy.device") or "")
            on_gpu = device.startswith("cuda") or (not device and has_gpu())
            precision = "fp16" if on_gpu else "bf16"
            self.request.set("training.precision", precision)
            self.request.note(f"policy.use_amp=true is training.precision={precision}")

    def _mapping(self, value: Any) -> None:
        """Pictures that are scaled by mean and deviation get ImageNet's: ``dataset.use_imagenet_stats``."""
        kind = KINDS.get(self.policy)
        for type_name, mode in (value or {}).items():
            ours = THEIR_MODES.get(str(mode), "")
            if not ours or type_name not in NORMALIZATIONS:
                why = f"the modes are {', '.join(THEIR_MODES)}"
                self.request.refuse(f"policy.normalization_mapping.{type_name}", mode, why, "MEAN_STD")
            elif kind is not None and type_name in kind.fixed_scaling:
                if ours != kind.fixed_scaling[type_name]:
                    fix = f"{type_name}: {kind.fixed_scaling[type_name].upper()}"
                    why = f"{self.policy} has nothing else"
                    self.request.refuse(f"policy.normalization_mapping.{type_name}", mode, why, fix)
            else:
                is_picture = type_name == "VISUAL" and ours == "mean_std"
                self.request.set(NORMALIZATIONS[type_name], "imagenet" if is_picture else ours)

    def _optimizer(self, value: Any) -> None:
        if value in OPTIMIZERS:
            self.request.set("training.optimizer", value)
        elif value is not None:
            self.request.refuse("optimizer.type", value, f"tendon has {', '.join(OPTIMIZERS)}", "--optimizer.type=adam")

    def _scheduler(self, value: Any) -> None:
        if value in SCHEDULERS:
            self.request.set("training.lr_scheduler", SCHEDULERS[value])
            self.request.set("training.lr_end_factor", 0.0)
        elif value is not None:
            self.request.refuse(
                "scheduler.type", value, f"tendon has {', '.join(SCHEDULERS)}", "--scheduler.type=diffuser"
            )
