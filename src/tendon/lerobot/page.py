"""The keys of LeRobot's Hydra page (2024): each is one of ours, means nothing here and is said, or is refused with the reason.

``policy=``, ``env=`` pick files, ``key.sub=value`` changes a key; a saved config.yaml of LeRobot's has them all. Their
defaults are in presets.py. What the page names and LeRobot renamed later is taken, with one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tendon.config.keys import hint_of
from tendon.config.override_text import shown
from tendon.config.schema import ONLINE_SETTINGS
from tendon.config.tree import search_path
from tendon.data.cpus import usable_cpus
from tendon.errors import Problem, nearest
from tendon.lerobot.presets import (
    ENV,
    ENVIRONMENT,
    ENVS,
    KEYPOINTS,
    PIXELS,
    POLICY,
    PRESETS,
    REAL_WHY,
    STATE,
    TASKS,
    XARM_WHY,
    Preset,
)
from tendon.lerobot.request import Request, Shape, numbers_of, policy_keys, truth, unknown_key
from tendon.policies.processing.normalize import IMAGENET

Pairs = Sequence[tuple[str, Any]]
ONLINE = tuple(f"training.{key}" for key in ONLINE_SETTINGS)

SAME = (
    *("seed", "device", "wandb.enable", "wandb.project", "training.offline_steps", "training.batch_size"),
    *("training.log_freq", "training.save_freq", "training.save_checkpoint", "training.lr", "training.lr_backbone"),
    *("training.weight_decay", "training.grad_clip_norm", "training.adam_betas", "training.adam_eps"),
    *("training.lr_scheduler", "training.lr_warmup_steps", "eval.n_episodes", "env.episode_length", "env.fps"),
    *("training.online_steps", *ONLINE),
)
OTHER_NAME = {
    "training.adam_weight_decay": "training.weight_decay",
    "training.drop_n_last_frames": "data.drop_last",
    "training.vqvae_lr": "policy.optimizer_vqvae_lr",
    "training.vqvae_weight_decay": "policy.optimizer_vqvae_weight_decay",
    "training.n_vqvae_training_steps": "policy.n_vqvae_training_steps",
    "training.optimizer_vqvae_lr": "policy.optimizer_vqvae_lr",
    "training.optimizer_vqvae_weight_decay": "policy.optimizer_vqvae_weight_decay",
    "fps": "env.fps",
}
RENAMED = {  # the page's name, and what LeRobot called it later
    "training.save_model": "training.save_checkpoint",
}
WITHOUT_MEANING = {
    "video_backend": "tendon decodes with its own reader",
    "eval.use_async_envs": "every environment here is a process of its own",
    "wandb.disable_artifact": "checkpoints are in the run's folder; W&B is sent numbers and videos alone",
    "env.state_dim": "the simulator says it",
    "env.action_dim": "the simulator says it",
    "env.image_size": "env.cameras of the environment says it",
    "env.name": "the environment is chosen by env=",
    "policy.name": "the policy is chosen by policy=",
    "hydra.job.name": "it is a part of the run's folder alone",
}
PASSED_OVER = (
    *("env.gym.render_mode", "env.gym.visualization_width", "env.gym.visualization_height"),
    *("hydra.sweep.subdir", "hydra.job.chdir", "hydra.output_subdir", "hydra.verbose", "hydra.mode"),
)
HYDRAS_OWN = ("hydra.hydra_logging", "hydra.job_logging", "hydra.launcher", "hydra.sweeper", "hydra.help")
TRANSFORMS = (
    *("enable", "max_num_transforms", "random_order"),
    *(
        f"{name}.{key}"
        for name in ("brightness", "contrast", "saturation", "hue", "sharpness")
        for key in ("weight", "min_max")
    ),
)
MODES = {
    STATE: "policy.state_normalization",
    ENVIRONMENT: "policy.environment_normalization",
    "action": "policy.action_normalization",
}
LISTED = (
    *("policy", "env", "resume", "use_amp", "dataset_repo_id", "override_dataset_stats", "eval.batch_size"),
    *("training.eval_freq", "training.num_workers", "training.delta_timestamps"),
    *("training.image_transforms.enable", "env.task", "env.gym.obs_type", "hydra.run.dir", "hydra.sweep.dir"),
    *("wandb.entity", "wandb.notes", "policy.input_shapes", "policy.output_shapes"),
)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A file's tree as dotted keys; an empty mapping has none."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_page(pairs: Pairs, *, saved_policy: str = "") -> Request:
    """What the page's words ask for.

    Args:
        pairs: keys and values in their order; ``policy`` and ``env`` among them pick files.
        saved_policy: the policy of a saved configuration that the words change; its files are not read again.
    """
    request = Request()
    picked = {key: str(value) for key, value in pairs if key in ("policy", "env")}
    policy, env = picked.get("policy", POLICY), picked.get("env", ENV)
    preset = None if saved_policy else _preset(request, policy)
    reader = _Reader(request, saved_policy or (policy.split("_")[0] if preset else ""), env, preset is not None)
    if preset is not None:
        request.choices["policy"] = policy
        request.repo_ids, request.declared = (preset.dataset,), preset.declared
        for key, value in preset.settings.items():
            request.set(key, value)
        request.statistics = {key: dict(values) for key, values in preset.statistics.items()}
        if ENVIRONMENT in preset.declared:  # a preset on key points needs an environment that shows them
            reader.obs_type = KEYPOINTS
    for key, value in pairs:
        if key in ("policy", "env"):
            continue
        try:
            reader.take(key, value)
        except (TypeError, ValueError) as error:
            request.refuse(key, value, f"{error}", f"{key}=<value>")
    reader.finish(is_saved=bool(saved_policy))
    return request


def _preset(request: Request, name: str) -> Preset | None:
    if name in PRESETS:
        return PRESETS[name]
    if "real" in name.split("_"):
        request.refuse("policy", name, REAL_WHY, "convert its recordings: dataset_repo_id=... policy=act")
    else:
        near = nearest(name, list(PRESETS), 0.5) or POLICY
        why = f"LeRobot's that tendon has are {', '.join(PRESETS)}"
        request.refuse("policy", name, why, f"policy={near}")
    return None


class _Reader:
    """Takes one key after the other."""

    def __init__(self, request: Request, policy: str, env: str, has_files: bool) -> None:
        self.request, self.policy, self.env, self.has_files = request, policy, env, has_files
        self.task, self.obs_type, self.num_episodes = "", "", 50
        self.num_guests: int | None = None
        self.modes: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
        self.use_amp = False
        self.device = ""
        self.given: dict[str, Any] = {}  # by their names

    def take(self, key: str, value: Any) -> None:
        """One key of theirs."""
        request = self.request
        self.given[key] = value
        if key in RENAMED:
            request.note(f"{key} was renamed by LeRobot later: {RENAMED[key]}={shown(value)} is taken")
            key = RENAMED[key]
        for beginning, method in self._methods():
            if key == beginning or key.startswith(f"{beginning}."):
                method(key.removeprefix(beginning).lstrip("."), value)
                return
        if key in SAME:
            self.device = str(value) if key == "device" else self.device
            self.num_episodes = int(value) if key == "eval.n_episodes" else self.num_episodes
            request.set(key, value)
        elif key in OTHER_NAME:
            request.set(OTHER_NAME[key], value)
        elif key in WITHOUT_MEANING:
            request.note(f"{key}={shown(value)} has no effect: {WITHOUT_MEANING[key]}")
        elif key == "resume":
            request.resume = truth(value)
        elif key.startswith("policy."):
            take_policy_key(request, self.policy, key.removeprefix("policy."), value)
        elif key in PASSED_OVER or key.startswith(HYDRAS_OWN):
            request.note(f"{key}={shown(value)} has no effect here")
        elif hint_of(key, self.policy or None) is not None:
            request.note(f"{key} is a key of tendon's")
            request.set(key, value)
        else:
            known = [*SAME, *OTHER_NAME, *RENAMED, *WITHOUT_MEANING, *PASSED_OVER, *LISTED, *self._policy_keys()]
            request.problems.append(unknown_key(key, known, f"{key}={shown(value)}"))

    def _methods(self) -> tuple[tuple[str, Any], ...]:
        return (
            ("dataset_repo_id", self._dataset),
            ("override_dataset_stats", self._statistics),
            ("training.delta_timestamps", self._deltas),
            ("training.image_transforms", self._image_transforms),
            ("training.eval_freq", self._eval_freq),
            ("training.num_workers", lambda _, value: self.request.set("data.threads", max(1, int(value)))),
            ("eval.batch_size", self._guests),
            ("env.task", lambda _, value: setattr(self, "task", str(value))),
            ("env.gym.obs_type", lambda _, value: setattr(self, "obs_type", str(value))),
            ("use_amp", lambda _, value: setattr(self, "use_amp", truth(value))),
            ("hydra.sweep.dir", lambda _, value: None),  # command.py has read it
            ("hydra.run.dir", lambda _, value: setattr(self.request, "run_dir", str(value))),
            ("wandb.entity", lambda rest, value: self._text("wandb.entity", value)),
            ("wandb.notes", lambda rest, value: self._text("wandb.notes", value)),
            ("policy.input_shapes", self._shapes),
            ("policy.output_shapes", self._shapes),
            ("policy.input_normalization_modes", self._mode),
            ("policy.output_normalization_modes", self._mode),
        )

    def finish(self, *, is_saved: bool) -> None:
        """What several keys say together."""
        if self.has_files or self.env != ENV or self.task or (is_saved and self.obs_type):
            self._choose_env()
        if self.use_amp:
            on_gpu = self.device.startswith("cuda") or (self.device in ("", "auto") and has_gpu())
            precision = "fp16" if on_gpu else "bf16"
            self.request.set("training.precision", precision)
            self.request.note(f"use_amp=true is training.precision={precision} on {self.device or 'this machine'}")
        if self.shapes:
            self.request.declared = self.shapes
        self._say_online(is_saved=is_saved)
        for key, mode in self.modes.items():
            if key == "action" and self._is_fixed("ACTION", mode):
                continue
            ours = MODES.get(key, "policy.image_normalization" if key.startswith("observation.image") else "")
            if ours and not (ours == "policy.image_normalization" and mode == "mean_std"):
                self.request.set(ours, mode)
        num_guests = self.num_guests or (0 if is_saved else 50)
        if not is_saved and num_guests > self.num_episodes:
            why = "LeRobot makes as many environments as a batch has rows, and would use fewer"
            self.request.refuse("eval.batch_size", num_guests, why, f"eval.batch_size={self.num_episodes}")
        elif num_guests:
            set_guests(self.request, num_guests)

    def _say_online(self, *, is_saved: bool) -> None:
        """What of the online phase's keys means nothing, and what means something else."""
        request, given = self.request, [key for key in ONLINE if key in self.given]
        if given and not is_saved and not _number_in(request.overrides.get("training.online_steps", "")):
            request.note(f"{', '.join(given)}: no effect, training.online_steps is 0")
        elif self.given.get("training.online_env_seed") is not None:
            seed = self.given["training.online_env_seed"]
            request.note(
                f"training.online_env_seed={seed}: online episodes begin at seed {seed} of a block of their own, which judges nothing"
            )

    # ------------------------------------------------------------------------------------------------------ single keys

    def _text(self, key: str, value: Any) -> None:
        self.request.set(key, "" if value is None else str(value))

    def _dataset(self, _: str, value: Any) -> None:
        names = tuple(str(one) for one in value) if isinstance(value, (list, tuple)) else (str(value),)
        self.request.repo_ids = names

    def _statistics(self, rest: str, value: Any) -> None:
        """``observation.image.mean=[...]``, or a mapping at any level."""
        if isinstance(value, Mapping):
            for key, one in flat(value, f"{rest}." if rest else ""):
                self._statistics(key, one)
            return
        key, _, statistic = rest.rpartition(".")
        if statistic in ("mean", "std", "min", "max") and key:
            self.request.statistics.setdefault(key, {})[statistic] = numbers_of(value)
        elif value is not None:
            why = "a statistic is mean, std, min or max of a feature"
            self.request.refuse(
                f"override_dataset_stats.{rest}", value, why, "override_dataset_stats.observation.state.min=[...]"
            )

    def _deltas(self, rest: str, value: Any) -> None:
        if isinstance(value, Mapping):
            self.request.deltas |= dict(flat(value))
        elif rest:
            self.request.deltas[rest] = value

    def _image_transforms(self, rest: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, one in flat(value, f"{rest}." if rest else ""):
                self._image_transforms(key, one)
        elif rest not in TRANSFORMS:
            known = [f"training.image_transforms.{one}" for one in TRANSFORMS]
            key = f"training.image_transforms.{rest}"
            self.request.problems.append(unknown_key(key, known, f"{key}={shown(value)}"))
        elif rest == "enable" and truth(value):
            why = "the LeRobot policies here have their crops and no other change of pictures"
            self.request.refuse(
                "training.image_transforms.enable", value, why, "training.image_transforms.enable=false"
            )

    def _eval_freq(self, _: str, value: Any) -> None:
        self.request.set("training.eval_freq", max(0, int(value)))

    def _guests(self, _: str, value: Any) -> None:
        self.num_guests = int(value)

    def _shapes(self, rest: str, value: Any) -> None:
        pairs = flat(value) if isinstance(value, Mapping) else [(rest, value)]
        for key, sizes in pairs:
            shape = tuple(int(size) for size in sizes)
            self.shapes[key] = (*shape[1:], shape[0]) if len(shape) == 3 else shape

    def _mode(self, rest: str, value: Any) -> None:
        self.modes |= {key: str(one) for key, one in (flat(value) if isinstance(value, Mapping) else [(rest, value)])}

    def _policy_keys(self) -> list[str]:
        return [f"policy.{key}" for key in policy_keys(self.policy)] if self.policy else []

    def _is_fixed(self, type_name: str, mode: str) -> bool:
        """Whether the policy scales such features in one way only; another is refused."""
        from tendon.weights.formats.lerobot.table import KINDS

        only = KINDS[self.policy].fixed_scaling.get(type_name) if self.policy else None
        if only and mode != only:
            why, fix = f"{self.policy} has nothing else", f"policy.output_normalization_modes.action={only}"
            self.request.refuse("policy.output_normalization_modes.action", mode, why, fix)
        return bool(only)

    def _choose_env(self) -> None:
        chosen = chosen_env(self.request, self.env, self.task, self.obs_type)
        if chosen:
            self.request.choices["env"] = chosen


def _number_in(override: str) -> int:
    text = override.partition("=")[2]
    return int(text) if text.isdigit() else 0


def has_gpu() -> bool:
    """Whether torch sees one here."""
    import torch

    return torch.cuda.is_available()


def chosen_env(request: Request, env: str, task: str, obs_type: str) -> str:
    """Our environment for one of LeRobot's; empty where it is refused."""
    if env == "xarm" or task.startswith("Xarm"):
        request.refuse("env", "xarm", XARM_WHY, "env=xarm_corrected")
        return ""
    if "real" in env.split("_") or env in ("real_world", "gym_manipulator"):
        request.refuse("env", env, REAL_WHY, "leave evaluation out: training.eval_freq=-1, and env of a simulator")
        return ""
    own = search_path(None).groups()["env"]
    if env not in TASKS and env in own:
        request.note(f"env={env} is an environment of tendon's")
        if task:
            request.set("env.task", task)
        if obs_type:
            alike = [name for name in own if name.split("_")[0] == env.split("_")[0]]
            why = "the names of tendon's environments say what they show"
            request.refuse("env.gym.obs_type", obs_type, why, " or ".join(f"env={name}" for name in alike))
        return env
    if env not in TASKS:
        near = nearest(env, [*TASKS, *own], 0.6) or ENV
        request.refuse("env", env, f"LeRobot's that tendon has are {', '.join(TASKS)}", f"env={near}")
        return ""
    task = task.rsplit("/", 1)[-1] or TASKS[env][0]
    if task not in TASKS[env]:
        near = nearest(task, TASKS[env], 0.3) or TASKS[env][0]
        request.refuse("env.task", task, f"env={env} has {', '.join(TASKS[env])}", f"env.task={near}")
        return ""
    shows = obs_type or PIXELS
    if shows == "pixels":
        request.set("env.observation", ["top_image"])
        shows = PIXELS
    found = ENVS.get((env, task, shows), "")
    if not found:
        kinds = [kind for one, named, kind in ENVS if (one, named) == (env, task)]
        request.refuse("env.gym.obs_type", shows, f"{env} shows {', '.join(kinds)}", f"env.gym.obs_type={kinds[0]}")
    return found


def take_policy_key(request: Request, policy: str, key: str, value: Any) -> None:
    """A policy's key, which is named alike here."""
    from tendon.weights.formats.lerobot.table import KINDS

    if not policy:
        return
    kind, known = KINDS[policy], policy_keys(policy)
    ours = {theirs: name for name, theirs in kind.renamed.items()}.get(key, key)
    if key in kind.fixed:
        if value != kind.fixed[key]:
            why = f"tendon has {policy} with {shown(kind.fixed[key])} only"
            request.refuse(f"policy.{key}", value, why, f"policy.{key}={shown(kind.fixed[key])}")
    elif key.startswith("bet_") and key not in known:
        request.note(f"policy.{key} has no effect, in LeRobot neither")
    elif ours in known:
        request.set(f"policy.{ours}", [] if value is None and ours in ("crop_shape", "resize_shape") else value)
    else:
        near = nearest(key, sorted(known), 0.6)
        why = f"LeRobot's {policy} has no such key" + (f"; the nearest is policy.{near}" if near else "")
        fix = f"policy.{near}=<value>" if near else f"leave policy.{key} out"
        request.problems.append(Problem(f"unknown key policy.{key}", "command line or configuration", why, fix))


def scale_pictures(request: Request, policy: str) -> None:
    """Statistics that LeRobot would be given instead of the dataset's: ImageNet's and 0.5 have names of their own here."""
    statistics = dict(request.statistics)
    pictures = {key: one for key, one in statistics.items() if key.startswith("observation.image")}
    for key, one in pictures.items():
        known = (one.get("mean"), one.get("std"))
        name = {IMAGENET: "imagenet", ((0.5,) * 3, (0.5,) * 3): "signed"}.get(
            tuple(tuple(part) if part else () for part in known)  # type: ignore[arg-type]
        )
        if name:
            request.set("policy.image_normalization", name)
            del statistics[key]
        else:
            request.set("policy.image_normalization", "mean_std" if one.get("mean") else "min_max")
    if statistics and policy:
        request.overrides["policy.statistics"] = f"++policy.statistics={_mapping(statistics)}"


def _mapping(statistics: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Hydra takes dots in the keys of a mapping, and no quotes."""
    inner = {
        key: ",".join(f"{name}:[{','.join(repr(number) for number in values)}]" for name, values in one.items())
        for key, one in statistics.items()
    }
    return "{" + ",".join(f"{key}:{{{text}}}" for key, text in inner.items()) + "}"


def set_guests(request: Request, num_rows: int) -> None:
    """LeRobot's environments share a process; ours are processes, as many at once as there are processors."""
    cpus = max(1, int(usable_cpus()))
    if num_rows > cpus:
        request.note(
            f"eval.batch_size={num_rows}: environments are processes here, {cpus} work at once; no rate changes"
        )
    request.set("eval.batch_size", min(num_rows, cpus))
