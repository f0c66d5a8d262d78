"""The types of a training configuration; the YAML tree in conf/ holds the defaults, compose.py joins the two.

A key that has no effect must not exist here. A new policy adds one dataclass below and one file in conf/policy/.
What a value must hold stands beside its key (``Must``); what two keys must hold together stands in ``conflicts``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Must:
    """What a value of a key must hold beyond its type: in words for the user, as a test for the machine."""

    words: str
    holds: Callable[[Any], bool]
    example: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conflict:
    """Values that are fine one by one and wrong together; ``key`` is relative to its section."""

    key: str
    what: str
    why: str
    fix: str


Count = Annotated[int, Must("at least 1", lambda value: value >= 1, "1")]
CountOrNone = Annotated[int, Must("0 or more", lambda value: value >= 0, "0")]
Seed = Annotated[int, Must("from 0 to 4294967295", lambda value: 0 <= value < 2**32, "1000")]
Positive = Annotated[float, Must("more than 0", lambda value: value > 0, "1e-4")]
NotNegative = Annotated[float, Must("0 or more", lambda value: value >= 0, "0.0")]
Share = Annotated[float, Must("from 0 to 1", lambda value: 0 <= value <= 1, "0.1")]
Text = Annotated[str, Must("not empty", lambda value: value.strip() != "", "TEXT")]
Device = Annotated[
    str,
    Must(
        "auto, cpu, cuda or cuda:N",
        lambda value: re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None,
        "auto",
        ("auto", "cpu", "cuda", "cuda:0"),
    ),
]
Normalization = Literal["mean_std", "min_max", "identity"]


class Section:
    """What every section of the configuration is: a frozen dataclass that may know its own conflicts."""

    def conflicts(self) -> Iterator[Conflict]:
        """What is wrong about values that are fine one by one."""
        return iter(())


@dataclass(frozen=True)
class DataConfig(Section):
    """Which episodes are trained on."""

    uri: Text
    split: Text
    valid_split: Text
    skip_episodes: tuple[str, ...]


@dataclass(frozen=True)
class TrainingConfig(Section):
    """The loop."""

    offline_steps: Count
    batch_size: Count
    lr: Positive
    optimizer: Literal["adam", "adamw"]
    weight_decay: NotNegative
    grad_clip_norm: NotNegative
    lr_scheduler: Literal["constant", "linear", "cosine"]
    lr_warmup_steps: CountOrNone
    lr_end_factor: Share
    log_freq: Count
    valid_freq: Count
    valid_batches: Count
    save_checkpoint: bool
    save_freq: Count
    keep_checkpoints: Count
    num_threads: CountOrNone

    def conflicts(self) -> Iterator[Conflict]:
        """The learning rate must arrive before training ends."""
        if self.lr_warmup_steps > self.offline_steps:
            yield Conflict(
                "lr_warmup_steps",
                f"training.lr_warmup_steps is {self.lr_warmup_steps}, training.offline_steps {self.offline_steps}",
                "training would end before the learning rate has risen to training.lr",
                f"training.lr_warmup_steps={self.offline_steps // 10} or more training.offline_steps",
            )


@dataclass(frozen=True)
class EvalConfig(Section):
    """Rollouts in the simulator."""

    n_episodes: Count
    batch_size: Count
    videos: CountOrNone
    max_crashed: Share
    step_timeout_s: Positive
    start_timeout_s: Positive


@dataclass(frozen=True)
class EnvConfig(Section):
    """The task and the guest that runs it."""

    name: Text
    simulator: Text
    task: Text
    fps: Positive
    episode_length: Count
    observation: Annotated[tuple[Text, ...], Must("at least one observation", bool, "[object]")]
    options: dict[str, Any]

    def conflicts(self) -> Iterator[Conflict]:
        """A policy reads every observation once."""
        twice = sorted({name for name in self.observation if self.observation.count(name) > 1})
        if twice:
            yield Conflict(
                "observation",
                f"env.observation names {', '.join(twice)} twice",
                "each observation is one input of the policy",
                f"env.observation=[{','.join(dict.fromkeys(self.observation))}]",
            )


@dataclass(frozen=True)
class PolicyConfig(Section):
    """What every policy has; each policy adds its own keys below."""

    name: str


@dataclass(frozen=True)
class BcConfig(PolicyConfig):
    """Behaviour cloning with an MLP."""

    hidden_dims: Annotated[tuple[Count, ...], Must("at least one layer", bool, "[1024,1024]")]
    head: Literal["deterministic", "gmm"]
    num_modes: Count
    min_std: Positive
    low_noise_eval: bool
    l2_weight: NotNegative
    l1_weight: NotNegative
    cos_weight: NotNegative
    observation_normalization: Normalization
    action_normalization: Normalization

    def conflicts(self) -> Iterator[Conflict]:
        """A deterministic head learns from its three losses only."""
        if self.head == "deterministic" and self.l2_weight == self.l1_weight == self.cos_weight == 0:
            yield Conflict(
                "l2_weight",
                "policy.l2_weight, policy.l1_weight and policy.cos_weight are all 0",
                "the loss of a deterministic head is their weighted sum: nothing would be learnt",
                "policy.l2_weight=1.0",
            )


POLICIES: dict[str, type[PolicyConfig]] = {"bc": BcConfig}


@dataclass(frozen=True)
class TrainConfig(Section):
    """One trial, whole: what is printed at start, saved with every checkpoint and digested into the run key."""

    seed: Seed
    device: Device
    data: DataConfig
    training: TrainingConfig
    eval: EvalConfig
    env: EnvConfig
    policy: PolicyConfig
