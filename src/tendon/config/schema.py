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
class CloningConfig(PolicyConfig):
    """What the robomimic family shares: heads, losses, normalisers, encoders. A field with a default came later."""

    hidden_dims: tuple[Count, ...]
    head: Literal["deterministic", "gaussian", "gmm"]
    num_modes: Count
    min_std: Positive
    low_noise_eval: bool
    l2_weight: NotNegative
    l1_weight: NotNegative
    cos_weight: NotNegative
    observation_normalization: Normalization
    action_normalization: Normalization
    std_activation: Literal["softplus", "exp"] = "softplus"
    fixed_std: bool = False
    init_std: Positive = 0.1
    bounded: Literal["auto", "always"] = "auto"
    mask_padding: bool = False
    vision_backbone: Literal["resnet18", "resnet34"] = "resnet18"
    pretrained: bool = False
    num_keypoints: CountOrNone = 32
    feature_dim: Count = 64
    crop_size: CountOrNone = 0

    def conflicts(self) -> Iterator[Conflict]:
        """A deterministic head learns from its three losses only."""
        if self.head == "deterministic" and self.l2_weight == self.l1_weight == self.cos_weight == 0:
            yield Conflict(
                "l2_weight",
                "policy.l2_weight, policy.l1_weight and policy.cos_weight are all 0",
                "the loss of a deterministic head is their weighted sum: nothing would be learnt",
                "policy.l2_weight=1.0",
            )


Layers = Annotated[tuple[Count, ...], Must("at least one layer", bool, "[1024,1024]")]


@dataclass(frozen=True)
class BcConfig(CloningConfig):
    """Behaviour cloning with an MLP."""

    hidden_dims: Layers


@dataclass(frozen=True)
class BcVaeConfig(CloningConfig):
    """Behaviour cloning with a conditional VAE."""

    latent_dim: Count = 14
    latent_clip: NotNegative = 0.0
    kl_weight: NotNegative = 1.0
    conditioned_decoder: bool = True
    sum_reconstruction: bool = False
    prior: Literal["normal", "learned", "learned_conditioned"] = "normal"
    encoder_dims: Layers = (300, 400)
    decoder_dims: Layers = (300, 400)
    prior_dims: Layers = (300, 400)

    def conflicts(self) -> Iterator[Conflict]:
        """The decoder is the head."""
        if self.head != "deterministic":
            what, why = f"policy.head is {self.head}", "a VAE decodes its actions: chance comes from the latent"
            yield Conflict("head", what, why, "policy.head=deterministic")


@dataclass(frozen=True)
class BcRnnConfig(CloningConfig):
    """Behaviour cloning with an LSTM or a GRU."""

    horizon: Count = 10
    seq_length: Count = 10
    hidden_dim: Count = 400
    num_layers: Count = 2
    cell: Literal["LSTM", "GRU"] = "LSTM"
    open_loop: bool = False

    def conflicts(self) -> Iterator[Conflict]:
        """What is trained on must be as long as what is acted on."""
        yield from super().conflicts()
        if self.horizon != self.seq_length:
            yield Conflict(
                "horizon",
                f"policy.horizon is {self.horizon}, policy.seq_length {self.seq_length}",
                "the state starts anew every horizon steps when acting; it would see lengths it never trained on",
                f"policy.horizon={self.seq_length}, or policy.seq_length={self.horizon}",
            )
        if self.head == "gaussian":
            what, why = "policy.head is gaussian", "the recurrent policy has a deterministic or a mixture head"
            yield Conflict("head", what, why, "policy.head=gmm")


@dataclass(frozen=True)
class BcTransformerConfig(CloningConfig):
    """Behaviour cloning with a transformer."""

    context_length: Count = 10
    embed_dim: Count = 512
    num_layers: Count = 6
    num_heads: Count = 8
    emb_dropout: Share = 0.1
    attn_dropout: Share = 0.1
    block_output_dropout: Share = 0.1
    activation: Literal["gelu", "geglu"] = "gelu"
    position: Literal["parameter", "embedding", "sinusoidal"] = "parameter"
    supervise_all_steps: bool = False
    pred_future_acs: bool = False
    future_attention: Literal["full", "causal"] = "full"

    def conflicts(self) -> Iterator[Conflict]:
        """Heads share the embedding; future actions are one per token."""
        yield from super().conflicts()
        if self.embed_dim % self.num_heads:
            yield Conflict(
                "num_heads",
                f"policy.num_heads is {self.num_heads}, policy.embed_dim {self.embed_dim}",
                "each head takes an equal part of the embedding",
                f"policy.embed_dim={self.num_heads * max(1, self.embed_dim // self.num_heads)}",
            )
        if self.embed_dim % 2 and self.position == "sinusoidal":
            what, why = f"policy.embed_dim is {self.embed_dim}", "sines and cosines come in pairs"
            yield Conflict("embed_dim", what, why, f"policy.embed_dim={self.embed_dim + 1}")
        if self.pred_future_acs and not self.supervise_all_steps:
            what, why = "policy.supervise_all_steps is off", "policy.pred_future_acs gives every token its own action"
            yield Conflict("supervise_all_steps", what, why, "policy.supervise_all_steps=true")
        if self.head == "gaussian":
            what, why = "policy.head is gaussian", "the transformer policy has a deterministic or a mixture head"
            yield Conflict("head", what, why, "policy.head=gmm")


POLICIES: dict[str, type[PolicyConfig]] = {
    "bc": BcConfig,
    "bc_vae": BcVaeConfig,
    "bc_rnn": BcRnnConfig,
    "bc_transformer": BcTransformerConfig,
}


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
