"""The types of a training configuration; the YAML tree in conf/ holds the defaults, compose.py joins the two.

A key that has no effect must not exist here. A new policy adds one dataclass below and one file in conf/policy/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Normalization = Literal["mean_std", "min_max", "identity"]


@dataclass(frozen=True)
class DataConfig:
    """Which episodes are trained on."""

    uri: str
    split: str
    valid_split: str
    skip_episodes: tuple[str, ...]


@dataclass(frozen=True)
class TrainingConfig:
    """The loop."""

    offline_steps: int
    batch_size: int
    lr: float
    optimizer: Literal["adam", "adamw"]
    weight_decay: float
    grad_clip_norm: float
    lr_scheduler: Literal["constant", "linear", "cosine"]
    lr_warmup_steps: int
    lr_end_factor: float
    log_freq: int
    valid_freq: int
    valid_batches: int
    save_checkpoint: bool
    save_freq: int
    keep_checkpoints: int
    num_threads: int


@dataclass(frozen=True)
class EvalConfig:
    """Rollouts in the simulator."""

    n_episodes: int
    batch_size: int
    videos: int
    max_crashed: float
    step_timeout_s: float
    start_timeout_s: float


@dataclass(frozen=True)
class EnvConfig:
    """The task and the guest that runs it."""

    name: str
    simulator: str
    task: str
    fps: float
    episode_length: int
    observation: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class PolicyConfig:
    """What every policy has; each policy adds its own keys below."""

    name: str


@dataclass(frozen=True)
class BcConfig(PolicyConfig):
    """Behaviour cloning with an MLP."""

    hidden_dims: tuple[int, ...]
    head: Literal["deterministic", "gmm"]
    num_modes: int
    min_std: float
    low_noise_eval: bool
    l2_weight: float
    l1_weight: float
    cos_weight: float
    observation_normalization: Normalization
    action_normalization: Normalization


POLICIES: dict[str, type[PolicyConfig]] = {"bc": BcConfig}


@dataclass(frozen=True)
class TrainConfig:
    """One trial, whole: what is printed at start, saved with every checkpoint and digested into the run key."""

    seed: int
    device: str
    data: DataConfig
    training: TrainingConfig
    eval: EvalConfig
    env: EnvConfig
    policy: PolicyConfig
