"""An InternManip (GRManipulation) training YAML becomes overrides of our configuration; called by ``tendon.internmanip``.

The table of keys is in internmanip_keys.py. Every problem is found before any is raised, with the line of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tendon.config.foreign.internmanip_keys import KEYS, POLICIES
from tendon.config.keys import hint_of
from tendon.config.override_text import quote, shown
from tendon.config.yaml_text import read_yaml
from tendon.errors import ConfigError, Problem, nearest

PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
JOINED = ("dp_clip", "act_clip")  # these predict one action: the parts of a data configuration are joined to one vector


@dataclass(frozen=True)
class ManipRun:
    """What a YAML means here, before its datasets are known."""

    policy: str
    datasets: tuple[str, ...]
    data_config: str
    output_dir: str
    embodiment: str
    augsteps: int
    skip_unlabeled: bool
    balance_datasets: bool
    balance_trajectories: bool
    base_model_path: str  # empty: weights begin at random
    overrides: Mapping[str, Any]
    notes: tuple[str, ...]  # what has no effect here, and what does its job

    def texts(self) -> list[str]:
        """The overrides as the command line writes them."""
        return [f"policy={self.policy}", *(f"{key}={quote(value)}" for key, value in self.overrides.items())]


def is_manip(path: str | Path) -> bool:
    """Whether a file is a YAML of InternManip, by its name."""
    return str(path).endswith((".yaml", ".yml"))


def read_manip(path: str | Path, dataset: str = "") -> ManipRun:
    """A YAML file; ``dataset`` instead of its ``dataset_path``.

    Raises:
        ConfigError: with everything that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"there is no {path.name}", where=str(path), why="no such file", fix="check the path")
    file = read_yaml(path)
    if file.problems:
        raise ConfigError.of(file.problems)
    if not isinstance(file.tree, dict):
        why = "it holds no keys"
        raise ConfigError("this is no training configuration", where=str(path), why=why, fix="policy: dp_clip")
    tree = {**file.tree, **({"dataset_path": dataset} if dataset else {})}
    return translate(tree, str(path), {key: mark.line for key, mark in file.marks.items()})


def translate(
    tree: Mapping[str, Any], place: str = "InternManip configuration", lines: Mapping[str, int] | None = None
) -> ManipRun:
    """The keys of a YAML.

    Args:
        tree: keys and values; what is missing has InternManip's default.
        place: how errors call the file.
        lines: of its keys.

    Raises:
        ConfigError: with everything that is wrong.
    """
    read = _Reader(tree, place, lines or {})
    read.check()
    policy = read.policy()
    if read.problems:
        raise ConfigError.of(read.problems)
    _training(read)
    _tuning(read, policy)
    for name, key in KEYS.items():
        if key.kind == "accepted" and name in tree and tree[name] not in (None, key.default):
            read.notes.append(f"{name}={shown(tree[name])} has no effect of its own: {key.says}")
    run = ManipRun(
        policy=policy,
        datasets=read.datasets(),
        data_config=name if (name := str(read("data_config"))).endswith(".py") else name.replace("-", "_"),
        output_dir=str(read("output_dir") or ""),
        embodiment=str(read("embodiment_tag")),
        augsteps=read.count("augsteps", 0),
        skip_unlabeled=read.switch("skip_unlabeled"),
        balance_datasets=read.switch("balance_dataset_weights"),
        balance_trajectories=read.switch("balance_trajectory_weights"),
        base_model_path=_base(read),
        overrides=read.overrides,
        notes=tuple(read.notes),
    )
    if read.problems:
        raise ConfigError.of(list(dict.fromkeys(read.problems)))
    return run


@dataclass
class _Reader:
    tree: Mapping[str, Any]
    place: str
    lines: Mapping[str, int]
    overrides: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def __call__(self, name: str) -> Any:
        return self.tree.get(name, KEYS[name].default)

    def where(self, name: str) -> str:
        """The file, and the line of a key."""
        return f"{self.place}:{self.lines[name]}" if name in self.lines else self.place

    def refuse(self, name: str, why: str, fix: str) -> None:
        """A value that cannot be kept."""
        what = f"{name} is {shown(self.tree[name])}" if name in self.tree else f"{name} is missing"
        self.problems.append(Problem(what, self.where(name), why, fix))

    def check(self) -> None:
        """Every key is known, and has one of the values that it may have."""
        for name, value in self.tree.items():
            if name not in KEYS:
                near = nearest(str(name), KEYS, 0.6)
                why = "no InternManip configuration has it"
                fix = f"{near} (the nearest)" if near else "leave it out"
                self.problems.append(Problem(f"unknown key {name}", self.where(str(name)), why, fix))
                continue
            key = KEYS[name]
            if key.kind == "refused" and value not in (None, "", False, key.default):
                self.refuse(name, "nothing here does that", key.says.replace("`", ""))
            elif key.options and value not in (None, "") and not set(_listed(value)) <= set(key.options):
                near = nearest(str(value), key.options, 0.4) or key.options[0]
                self.refuse(name, f"it is one of {', '.join(key.options)}", f"{name}: {near}")

    def policy(self) -> str:
        """``policy``, or its later name."""
        name = self.tree.get("policy") or self.tree.get("model_type")
        if not name:
            self.refuse("policy", f"the policies are {', '.join(POLICIES)}", "policy: dp_clip")
        elif self.tree.get("policy") and self.tree.get("model_type") and self.tree["policy"] != self.tree["model_type"]:
            self.notes.append(
                f"model_type={self.tree['model_type']} has no effect: policy={self.tree['policy']} counts"
            )
        return str(name or "")

    def datasets(self) -> tuple[str, ...]:
        """One or several addresses."""
        given = _listed(self("dataset_path") or ())
        if not given or not all(isinstance(one, str) and one for one in given):
            self.refuse("dataset_path", "it is the address of a dataset, or a list of them", "dataset_path: FOLDER")
        return tuple(map(str, given))

    def number(self, name: str, least: float = 0.0) -> float:
        """A number; of text that YAML did not take for one, too."""
        value = self(name)
        try:
            made = float(value) if not isinstance(value, bool) else float("nan")
        except (TypeError, ValueError):
            made = float("nan")
        if not made >= least:
            self.refuse(name, f"it is a number, {least:g} or more", f"{name}: {KEYS[name].default}")
            return max(least, float(KEYS[name].default))
        return made

    def count(self, name: str, least: int = 1) -> int:
        """A whole number; HF's arguments take 10.0 for 10."""
        value = self.number(name, least)
        if value != int(value):
            self.refuse(name, "it is a whole number", f"{name}: {round(value)}")
        return int(value)

    def switch(self, name: str) -> bool:
        """True or false."""
        value = self(name)
        if not isinstance(value, bool):
            self.refuse(name, "it is true or false", f"{name}: {str(KEYS[name].default).lower()}")
        return bool(value)


def _training(read: _Reader) -> None:
    """Everything of the loop."""
    put, parts, gpus = read.overrides, read.count("gradient_accumulation_steps"), read.count("num_gpus")
    steps = read.count("max_steps")
    put["seed"] = read.count("seed", 0)
    put["training.offline_steps"] = steps
    put["training.batch_size"] = read.count("batch_size") * parts * gpus
    put["training.gradient_accumulation_steps"], put["training.num_gpus"] = parts, gpus
    put["training.lr"] = read.number("learning_rate")
    put["training.weight_decay"], put["training.decay_norms_and_biases"] = read.number("weight_decay"), False
    put["training.optimizer"] = "adamw"
    put["training.adam_betas"] = [read.number("adam_beta1"), read.number("adam_beta2")]
    put["training.adam_eps"] = read.number("adam_epsilon")
    put["training.grad_clip_norm"] = read.number("max_grad_norm")
    schedule = str(read("schedule") if "schedule" in read.tree else read("lr_scheduler_type"))
    put["training.lr_scheduler"] = "constant" if schedule.startswith("constant") else schedule
    put["training.lr_end_factor"] = 0.0
    ratio = 0.0 if schedule == "constant" else read.number("warmup_ratio")
    put["training.lr_warmup_steps"], put["training.warmup_ratio"] = 0, ratio
    put["training.save_checkpoint"] = read("save_strategy") != "no"
    put["training.save_freq"] = min(read.count("save_steps"), steps)
    put["save.every_n_epochs"] = int(read("save_strategy") == "epoch")
    put["training.keep_checkpoints"] = read.count("save_total_limit")
    put["training.log_freq"] = read.count("logging_steps")
    trackers = set(_listed(read("report_to") or ()))
    put["wandb.enable"] = bool(trackers & {"wandb", "all"})
    put["track.tensorboard"] = bool(trackers & {"tensorboard", "all"})
    put["training.compile"] = bool(read("torch_compile_mode"))
    low = PRECISIONS.get(str(read("compute_dtype")), "bf16")
    put["training.precision"] = (
        low if read.switch("bf16") or ("compute_dtype" in read.tree and low != "bf16") else "fp32"
    )
    put["data.threads"] = max(1, read.count("dataloader_num_workers", 0))
    if read("cache_dir"):
        put["data.cache"] = str(read("cache_dir"))
    resume = read("resume_from_checkpoint")
    if isinstance(resume, str) and resume not in ("", "last"):
        put["training.resume_from"] = resume
    elif resume not in (None, "", True, False, "last"):
        read.refuse("resume_from_checkpoint", "it is true, false or an address", "resume_from_checkpoint: false")


def _tuning(read: _Reader, policy: str) -> None:
    """What learns."""
    put = read.overrides
    for part in ("tune_llm", "tune_visual", "tune_projector", "tune_diffusion_model"):
        value = read.switch(part)
        if hint_of(f"policy.{part}", policy) is not None:
            put[f"policy.{part}"] = value
        elif part in read.tree:
            read.notes.append(f"{part} has no effect: {policy} has no such part")
    rank = read.count("lora_rank", 0)
    put["policy.lora_rank"] = rank
    if rank:
        put["policy.lora_alpha"], put["policy.lora_dropout"] = read.count("lora_alpha"), read.number("lora_dropout")
        if not put["policy.tune_llm"] and policy in JOINED:
            put["policy.tune_llm"] = True
            read.notes.append("tune_llm is true: the adapters of lora_rank lie in the text encoder")
    put["policy.gradient_checkpointing"] = read.switch("gradient_checkpointing")
    if hint_of("policy.embodiment_tag", policy) is not None:
        put["policy.embodiment_tag"] = str(read("embodiment_tag"))


def _base(read: _Reader) -> str:
    path = str(read("base_model_path") or "")
    if read.switch("use_pretrained_model"):
        if not path:
            why = "use_pretrained_model is true, and upstream's hub addresses are not read without their content's hash"
            read.refuse("base_model_path", why, "base_model_path: FOLDER, s3://... or a bundle")
        return path
    if path:
        read.notes.append("base_model_path is not read: use_pretrained_model is false, so weights begin at random")
    return ""


def _listed(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
