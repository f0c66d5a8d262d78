"""Every key of an InternManip (GRManipulation) training YAML: its default, its class, and in one line what it does here.

Three classes: ``works`` changes what is trained, ``accepted`` is another's job here, ``refused`` is an error. The table in
docs/from-internmanip.md is made of this one. Facts about their format, in our words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Class = Literal["works", "accepted", "refused"]


@dataclass(frozen=True)
class Key:
    """One key."""

    default: Any
    kind: Class
    says: str
    options: tuple[str, ...] = ()  # the values it takes, where there is a list of them


POLICIES = ("pi0", "pi0fast", "gr00t_n1", "gr00t_n1_5", "dp_clip", "act_clip")
BACKENDS = ("torchcodec", "decord", "torchvision_av", "opencv")
TAGS = ("gr1", "oxe_droid", "agibot_genie1", "genie1_gripper", "new_embodiment")
SCHEDULES = ("cosine", "linear", "constant", "constant_with_warmup")
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adamw")

KEYS: Mapping[str, Key] = {
    # policy and dataset
    "policy": Key("", "works", "`policy=NAME`", POLICIES),
    "model_type": Key("", "works", "the later name of `policy`; where both stand, `policy` counts", POLICIES),
    "dataset_path": Key(
        "",
        "works",
        "a LeRobot folder with modality.json, a converted dataset or `s3://...`, or a list of them: a mixture",
    ),
    "data_config": Key(
        "genmanip_v1", "works", "which keys, in which order, scaled how; a name, or a Python file with `--trust`"
    ),
    "output_dir": Key(
        "", "works", "the store of the run: converted data, checkpoints, statistics; empty: `--store-uri`"
    ),
    "cache_dir": Key("", "works", "`data.cache`: a folder for what was read of a remote dataset"),
    # training
    "batch_size": Key(16, "works", "of one GPU and one part; `training.batch_size` is this x GPUs x parts"),
    "gradient_accumulation_steps": Key(1, "works", "`training.gradient_accumulation_steps`"),
    "max_steps": Key(10000, "works", "`training.offline_steps`"),
    "save_steps": Key(500, "works", "`training.save_freq`"),
    "num_gpus": Key(1, "works", "`training.num_gpus`, which also starts the processes"),
    "resume_from_checkpoint": Key(
        False,
        "works",
        "an address: `training.resume_from`; true and false: a trial goes on from its newest checkpoint unasked",
    ),
    # learning rate and optimiser
    "learning_rate": Key(1e-4, "works", "`training.lr`"),
    "weight_decay": Key(1e-5, "works", "`training.weight_decay`, but for norms and biases"),
    "warmup_ratio": Key(0.05, "works", "`training.warmup_ratio`"),
    "schedule": Key("cosine", "works", "`training.lr_scheduler`, down to 0", SCHEDULES),
    "lr_scheduler_type": Key("cosine", "works", "another name of `schedule`", SCHEDULES),
    "optim": Key("adamw_torch", "works", "`training.optimizer=adamw`", OPTIMIZERS),
    "adam_beta1": Key(0.95, "works", "`training.adam_betas`"),
    "adam_beta2": Key(0.999, "works", "`training.adam_betas`"),
    "adam_epsilon": Key(1e-8, "works", "`training.adam_eps`"),
    "max_grad_norm": Key(1.0, "works", "`training.grad_clip_norm`"),
    # fine-tuning
    "base_model_path": Key(
        "", "works", "weights to begin with, where `use_pretrained_model` is true: a folder, `s3://...`, a bundle"
    ),
    "use_pretrained_model": Key(False, "works", "false: weights begin at random, `base_model_path` is not read"),
    "tune_llm": Key(False, "works", "`policy.tune_llm`"),
    "tune_visual": Key(True, "works", "`policy.tune_visual`"),
    "tune_projector": Key(True, "works", "`policy.tune_projector`, where the policy has one"),
    "tune_diffusion_model": Key(True, "works", "`policy.tune_diffusion_model`, where the policy has one"),
    "lora_rank": Key(0, "works", "`policy.lora_rank`; 0: no adapters"),
    "lora_alpha": Key(16, "works", "`policy.lora_alpha`"),
    "lora_dropout": Key(0.1, "works", "`policy.lora_dropout`"),
    "compute_dtype": Key("bfloat16", "works", "`training.precision`", ("bfloat16", "float16", "float32")),
    "bf16": Key(True, "works", "`training.precision=bf16`; false: fp32"),
    "gradient_checkpointing": Key(False, "works", "activations are computed again in the backward pass"),
    "torch_compile_mode": Key(None, "works", "any mode: `training.compile=true`"),
    # data loading
    "embodiment_tag": Key("gr1", "works", "which weights GR00T's projectors take, and the key in metadata.json", TAGS),
    "video_backend": Key(
        "torchcodec",
        "accepted",
        "videos are read once, at conversion, by PyAV; a batch has no video to decode",
        BACKENDS,
    ),
    "dataloader_num_workers": Key(8, "works", "`data.threads`: threads that decode images"),
    "augsteps": Key(
        4, "works", "`data.repeat_times`: frames near a change of the gripper's action come so many more times"
    ),
    "skip_unlabeled": Key(False, "works", "episodes whose task text is empty are left out"),
    "balance_dataset_weights": Key(True, "works", "a mixture by the datasets' sizes; false: all datasets alike"),
    "balance_trajectory_weights": Key(True, "works", "episodes by their length; false: all episodes alike"),
    # saving and logging
    "save_strategy": Key(
        "steps", "works", "`no`: no checkpoints; `epoch`: one after each pass too", ("steps", "no", "epoch")
    ),
    "save_total_limit": Key(20, "works", "`training.keep_checkpoints`"),
    "logging_steps": Key(10, "works", "`training.log_freq`"),
    "report_to": Key(
        "wandb", "works", "`wandb.enable` or `track.tensorboard`", ("wandb", "tensorboard", "none", "all")
    ),
    "seed": Key(42, "works", "`seed`"),
    # what others do here
    "tf32": Key(
        True,
        "accepted",
        "`training.precision=bf16` multiplies in 16 bits; fp32 stays exact, so that runs can be compared",
    ),
    "dataloader_pin_memory": Key(False, "accepted", "batches for a GPU always go through pinned memory"),
    "dataloader_persistent_workers": Key(True, "accepted", "threads live as long as the run"),
    "dataloader_prefetch_factor": Key(None, "accepted", "`data.ahead` is chosen by the loader"),
    "ddp_bucket_cap_mb": Key(100, "accepted", "torch chooses; parameters that take no part are an error, by name"),
    "ddp_find_unused_parameters": Key(
        False, "accepted", "parameters that take no part in the loss are an error, by name"
    ),
    "remove_unused_columns": Key(False, "accepted", "the loader reads only what the policy declares"),
    "num_train_epochs": Key(300, "accepted", "`max_steps` says how long training is, upstream too"),
    "save_safetensors": Key(True, "accepted", "weights are always safetensors"),
    "eval_strategy": Key(
        "no", "accepted", "validation runs every `training.valid_freq` steps where the dataset has a split for it"
    ),
    # what is not here
    "deepspeed": Key("", "refused", "`training.sharding=fsdp` shares weights out over processes"),
    "fsdp": Key("", "refused", "`training.sharding=fsdp`"),
    "pad_center_crop": Key(False, "refused", "cameras are cropped and resized; pi0 pads them to squares by itself"),
}
SEED_HIDDEN = (
    "optim", "adam_beta1", "adam_beta2", "adam_epsilon", "save_strategy", "save_total_limit", "gradient_checkpointing", "bf16",
    "tf32", "dataloader_pin_memory", "dataloader_persistent_workers", "ddp_bucket_cap_mb", "logging_steps",
)  # fmt: skip
CLASSES: Mapping[Class, str] = {
    "works": "changes what is trained or kept; a test shows its effect",
    "accepted": "has no effect of its own: the line says what does that job here",
    "refused": "an error, with the nearest",
}


def table() -> str:
    """The keys as a Markdown table."""
    lines = ["| key | default | class | here |", "|---|---|---|---|"]
    for name, key in KEYS.items():
        options = f" ({', '.join(key.options)})" if key.options else ""
        lines.append(f"| `{name}` | `{key.default!r}` | {key.kind} | {key.says}{options} |")
    return "\n".join(lines) + "\n"
