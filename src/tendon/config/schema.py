"""The types of a training configuration; the YAML tree in conf/ holds the defaults, compose.py joins the two.

A key that has no effect must not exist here. A policy's own keys are in its package, and config/policies.py finds them.
What a value must hold stands beside its key (``Must``); what two keys must hold together stands in ``conflicts``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from tendon.config import feature_map
from tendon.errors import Problem, nearest


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
CountOrNull = Annotated[int | None, Must("at least 1, or null", lambda value: value is None or value >= 1, "1")]
Seed = Annotated[int, Must("from 0 to 4294967295", lambda value: 0 <= value < 2**32, "1000")]
Positive = Annotated[float, Must("more than 0", lambda value: value > 0, "1e-4")]
Part = Annotated[float, Must("more than 0, at most 1", lambda value: 0 < value <= 1, "0.5")]
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
Layers = Annotated[tuple[Count, ...], Must("at least one layer", bool, "[1024,1024]")]
Normalization = Literal["mean_std", "min_max", "identity"]
ImageSize = Annotated[tuple[Count, ...], Must("[] or [HEIGHT,WIDTH]", lambda value: len(value) in (0, 2), "[84,84]")]


class Section:
    """What every section of the configuration is: a frozen dataclass that may know its own conflicts."""

    absent: ClassVar[Mapping[str, Any]] = MappingProxyType({})  # keys that a tree may leave out, and what they are then

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
    memory_gib: Positive = 4.0
    threads: Count = 2
    processes: CountOrNone = 0
    ahead: Annotated[int | None, Must("0 or more, or null", lambda value: value is None or value >= 0, "3")] = None
    cache: str = ""
    cache_gib: Positive = 64.0
    resize: Annotated[
        tuple[Count, ...], Must("height and width, or []", lambda value: len(value) in (0, 2), "[84,84]")
    ] = ()
    codec: Literal["", "mjpeg", "npy"] = ""
    jpeg_quality: Annotated[int, Must("from 1 to 100", lambda value: 1 <= value <= 100, "90")] = 90
    exact: bool = False
    strict: bool = False
    split_ratio: Annotated[float, Must("more than 0, at most 1", lambda value: 0 < value <= 1, "0.95")] = 1.0
    shuffle_episodes: bool = False
    fetches: Count = 16
    tier: Literal["auto", "resident", "block", "window"] = "auto"
    mixture: tuple[Text, ...] = ()
    mixture_weights: tuple[Positive, ...] = ()
    mixture_temperature: Positive = 1.0
    mixture_stratified: bool = False
    edges: dict[str, Any] = field(default_factory=dict)
    drop_last: Annotated[int | None, Must("0 or more, or null", lambda value: value is None or value >= 0, "7")] = None
    order: Literal["auto", "shuffled", "slots", "minestudio"] = "auto"
    order_lanes: Annotated[int | None, Must("1 or more, or null", lambda value: value is None or value > 0, "96")] = (
        None
    )
    order_block: Count = 24
    order_unit_mib: Count = 4
    episode_weights: dict[str, Any] = field(default_factory=dict)
    repeat_changes: str = ""
    repeat_times: Count = 1
    on_bad_sample: Literal["fail", "substitute"] = "fail"

    def conflicts(self) -> Iterator[Conflict]:
        """A mixture has a weight for each dataset, and what a key changes must be there."""
        num, weights = 1 + len(self.mixture), list(self.mixture_weights)
        if weights and len(weights) != num:
            yield Conflict(
                "mixture_weights",
                f"data.mixture_weights has {len(weights)} numbers for {num} datasets",
                "one belongs to data.uri, then one to each address of data.mixture",
                f"data.mixture_weights={[*weights, *[1.0] * num][:num]}, or data.mixture_weights=[]",
            )
        if self.shuffle_episodes and self.split_ratio == 1:
            yield Conflict(
                "shuffle_episodes",
                "data.shuffle_episodes is true and data.split_ratio 1",
                "it decides which episodes are held out, and none are",
                "data.split_ratio=0.95, or data.shuffle_episodes=false",
            )
        if self.mixture_temperature != 1.0 and (weights or num == 1):
            yield Conflict(
                "mixture_temperature",
                f"data.mixture_temperature is {self.mixture_temperature}, and no weight comes from a number of windows",
                "it evens out the weights of a mixture that has no data.mixture_weights",
                "data.mixture_temperature=1.0",
            )
        if self.mixture_stratified and num == 1:
            why, fix = "there is one dataset: data.mixture is empty", "data.mixture_stratified=false"
            yield Conflict("mixture_stratified", "data.mixture_stratified is true", why, fix)
        if self.mixture and self.processes:
            what, why = f"data.processes is {self.processes}", "a mixture is made by threads of the training process"
            yield Conflict("processes", what, why, "data.processes=0, or data.mixture=[]")
        shuffles = (self.order_lanes, self.order_block, self.order_unit_mib) != (None, 24, 4)
        if shuffles and self.order in ("slots", "minestudio"):
            what, why = f"data.order is {self.order}", "lanes, blocks and units are those of a shuffled order"
            yield Conflict(
                "order",
                what,
                why,
                "data.order=shuffled, or data.order_lanes=null data.order_block=24 data.order_unit_mib=4",
            )
        if self.repeat_times > 1 and not self.repeat_changes:
            yield Conflict(
                "repeat_times",
                f"data.repeat_times is {self.repeat_times}, and no feature says which frames are repeated",
                "frames are repeated where the feature data.repeat_changes changes, such as a gripper's action",
                "data.repeat_changes=action.gripper, or data.repeat_times=1",
            )
        yield from self._edge_conflicts()
        for name, weight in self.episode_weights.items():
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < 1e6:
                what = f"data.episode_weights.{name} is {weight}"
                fix = f"data.episode_weights={{{name}: 0.5}}"
                yield Conflict("episode_weights", what, "a weight is a number, 0 or more; 1 is usual", fix)

    def _edge_conflicts(self) -> Iterator[Conflict]:
        for key, rule in self.edges.items():
            for part in str(rule).split("/", 1):
                if part not in EDGE_RULES:
                    near = nearest(part, EDGE_RULES, 0.4)
                    yield Conflict(
                        "edges",
                        f"data.edges.{key} is {rule}",
                        f"beyond an episode, a window gets one of {', '.join(EDGE_RULES)}; or before/after, such as none/zero",
                        f"data.edges={{{key}: {near or 'repeat'}}}",
                    )


EDGE_RULES = ("repeat", "zero", "none")
# Files beside the checkpoints: no number depends on them, and configurations before them had none.
SAVE_LATER = ("weights_every_n_steps", "weights_top_k", "weights_filename")
# No number depends on these.
DATA_MEANS = ("memory_gib", "threads", "processes", "ahead", "cache", "cache_gib", "fetches", "tier")
# Keys that came after run keys were given out: at these values they are no part of one.
DATA_LATER: Mapping[str, Any] = {
    "mixture": [],
    "mixture_weights": [],
    "mixture_temperature": 1.0,
    "mixture_stratified": False,
    "edges": {},
    "drop_last": None,
    "order": "auto",
    "order_lanes": None,
    "order_block": 24,
    "order_unit_mib": 4,
    "episode_weights": {},
    "repeat_changes": "",
    "repeat_times": 1,
    "on_bad_sample": "fail",
}
DATA_DEFAULTS: Mapping[str, Any] = {
    **DATA_LATER,
    "fetches": 16,
    "tier": "auto",
    "split_ratio": 1.0,
    "shuffle_episodes": False,
}
CONVERSION = (
    "resize",
    "codec",
    "jpeg_quality",
    "exact",
    "strict",
    "split_ratio",
    "shuffle_episodes",
)  # what they make, the dataset's address says

Precision = Literal["fp32", "bf16", "fp16"]
Beta = Annotated[float, Must("at least 0 and less than 1", lambda value: 0 <= value < 1, "0.9")]


@dataclass(frozen=True)
class TrainingConfig(Section):
    """The loop."""

    offline_steps: CountOrNone
    batch_size: Count
    gradient_accumulation_steps: Count
    num_gpus: Count
    sharding: Literal["ddp", "fsdp"]
    precision: Precision
    compile: bool
    lr: Positive
    lr_backbone: Annotated[float | None, Must("more than 0, or null", lambda value: value is None or value > 0, "1e-5")]
    optimizer: Literal["adam", "adamw"]
    adam_betas: Annotated[tuple[Beta, ...], Must("two numbers", lambda value: len(value) == 2, "[0.9,0.999]")]
    adam_eps: Positive
    weight_decay: NotNegative
    decay_norms_and_biases: bool
    freeze: tuple[Text, ...]
    grad_clip_norm: NotNegative
    objective_weights: dict[str, Any]
    lr_scheduler: Literal["constant", "linear", "cosine", "multistep"]
    lr_warmup_steps: CountOrNone
    warmup_ratio: Share
    lr_end_factor: Share
    epoch_schedule: tuple[Count, ...]
    decay_factor: Positive
    epoch_every_n_steps: CountOrNone
    nonfinite: Literal["stop", "skip"]
    overfit_batch: bool
    log_freq: Count
    valid_freq: Count
    valid_batches: Count
    valid_episodes: CountOrNone
    eval_freq: CountOrNone
    callbacks: tuple[Text, ...]
    save_checkpoint: bool
    save_freq: Count
    keep_checkpoints: Count
    num_threads: CountOrNone
    rank_timeout_s: Positive
    resume_from: str = field(default="", kw_only=True)
    master_weights: Literal["fp32", "bf16"] = field(default="fp32", kw_only=True)
    online_steps: CountOrNone = field(default=0, kw_only=True)
    online_rollout_n_episodes: Count = field(default=1, kw_only=True)
    online_rollout_batch_size: Count = field(default=1, kw_only=True)
    online_steps_between_rollouts: CountOrNull = field(default=None, kw_only=True)
    online_sampling_ratio: Part = field(default=0.5, kw_only=True)
    online_env_seed: Annotated[
        int | None, Must("from 0 to 4294967295, or null", lambda value: value is None or 0 <= value < 2**32, "10000")
    ] = field(default=None, kw_only=True)
    online_buffer_capacity: CountOrNull = field(default=None, kw_only=True)
    online_buffer_seed_size: CountOrNone = field(default=0, kw_only=True)
    do_online_rollout_async: bool = field(default=False, kw_only=True)

    @property
    def num_steps(self) -> int:
        """Updates of the whole training."""
        return self.offline_steps + self.online_steps

    @property
    def num_online_rows(self) -> int:
        """Rows of a batch of the online phase that come from episodes of its own."""
        return round(self.batch_size * self.online_sampling_ratio)

    def without_effect(self) -> dict[str, str]:
        """Keys of the online phase, where there is none."""
        return {} if self.online_steps else dict.fromkeys(ONLINE_SETTINGS, "training.online_steps=50000")

    def conflicts(self) -> Iterator[Conflict]:
        """The learning rate must arrive before training ends, and what one key sets another may not undo."""
        if not self.num_steps:
            yield Conflict(
                "offline_steps",
                "training.offline_steps is 0 and training.online_steps too",
                "there is nothing to train",
                "training.offline_steps=20000",
            )
        elif self.lr_warmup_steps > self.num_steps:
            online = f" and training.online_steps {self.online_steps}" if self.online_steps else ""
            yield Conflict(
                "lr_warmup_steps",
                f"training.lr_warmup_steps is {self.lr_warmup_steps}, training.offline_steps {self.offline_steps}{online}",
                "training would end before the learning rate has risen to training.lr",
                f"training.lr_warmup_steps={self.num_steps // 10} or more training.offline_steps",
            )
        if self.lr_warmup_steps and self.warmup_ratio:
            yield Conflict(
                "warmup_ratio",
                f"training.warmup_ratio is {self.warmup_ratio} and training.lr_warmup_steps {self.lr_warmup_steps}",
                "both say how long the warm-up is",
                "training.lr_warmup_steps=0 or training.warmup_ratio=0.0",
            )
        yield from self._schedule_conflicts()
        yield from self._batch_conflicts()
        if self.online_steps:
            yield from self._online_conflicts()
        if self.master_weights == "bf16" and (self.precision != "bf16" or self.sharding != "ddp"):
            yield Conflict(
                "master_weights",
                "training.master_weights=bf16 needs training.precision=bf16 and training.sharding=ddp",
                f"precision={self.precision}, sharding={self.sharding}",
                "training.precision=bf16, or training.master_weights=fp32",
            )
        numbers = {k: v for k, v in self.objective_weights.items() if isinstance(v, (int, float)) and v >= 0}
        if numbers != self.objective_weights:
            yield Conflict(
                "objective_weights",
                f"training.objective_weights is {self.objective_weights}",
                "each weight is a number, 0 or more",
                "training.objective_weights={policy: 1.0}",
            )

    def _schedule_conflicts(self) -> Iterator[Conflict]:
        if self.lr_scheduler == "multistep" and not self.epoch_schedule:
            yield Conflict(
                "epoch_schedule",
                "training.lr_scheduler is multistep and training.epoch_schedule is empty",
                "multistep multiplies the rate with training.decay_factor at the epochs of that list",
                "training.epoch_schedule=[50,80] or training.lr_scheduler=constant",
            )
        if self.epoch_schedule and (
            self.lr_scheduler in ("constant", "cosine")
            or (self.lr_scheduler == "linear" and len(self.epoch_schedule) > 1)
        ):
            yield Conflict(
                "epoch_schedule",
                f"training.epoch_schedule is {list(self.epoch_schedule)} and the schedule is {self.lr_scheduler}",
                "multistep takes a list of epochs, linear the one epoch at which it ends, the others none",
                "training.epoch_schedule=[] or training.lr_scheduler=multistep",
            )

    def _batch_conflicts(self) -> Iterator[Conflict]:
        parts = self.num_gpus * self.gradient_accumulation_steps
        if self.batch_size % parts:
            yield Conflict(
                "batch_size",
                f"training.batch_size {self.batch_size} cannot be dealt to {self.num_gpus} processes "
                f"in {self.gradient_accumulation_steps} parts",
                "an update's batch goes to all processes and parts alike, so that their number changes no result",
                f"training.batch_size={-(-self.batch_size // parts) * parts}",
            )
        if self.sharding == "fsdp" and (self.precision == "fp16" or self.nonfinite == "skip" or self.eval_freq):
            yield Conflict(
                "sharding",
                "training.sharding=fsdp needs fp32 or bf16, training.nonfinite=stop and training.eval_freq=0",
                f"precision={self.precision}, nonfinite={self.nonfinite}, eval_freq={self.eval_freq}",
                "training.sharding=ddp",
            )

    def _online_conflicts(self) -> Iterator[Conflict]:
        """What an online phase must be told, and what it cannot be together with."""
        for key, meaning, example in (
            ("online_steps_between_rollouts", "how many updates follow each rollout", 50),
            ("online_buffer_capacity", "how many steps of its own episodes are kept", 80_000),
        ):
            if getattr(self, key) is None:
                what = f"training.online_steps is {self.online_steps} and training.{key} null"
                yield Conflict(key, what, f"the online phase must know {meaning}", f"training.{key}={example}")
        if self.online_rollout_batch_size > self.online_rollout_n_episodes:
            yield Conflict(
                "online_rollout_batch_size",
                f"training.online_rollout_batch_size is {self.online_rollout_batch_size}, "
                f"training.online_rollout_n_episodes {self.online_rollout_n_episodes}",
                "each environment plays at least one episode of a rollout",
                f"training.online_rollout_batch_size={self.online_rollout_n_episodes}",
            )
        capacity = self.online_buffer_capacity
        if capacity is not None and self.online_buffer_seed_size >= capacity:
            yield Conflict(
                "online_buffer_seed_size",
                f"training.online_buffer_seed_size is {self.online_buffer_seed_size}, training.online_buffer_capacity {capacity}",
                "updates begin when the buffer holds more than online_buffer_seed_size, which it never would",
                f"training.online_buffer_seed_size={capacity // 10}",
            )
        if not self.num_online_rows:
            yield Conflict(
                "online_sampling_ratio",
                f"training.online_sampling_ratio is {self.online_sampling_ratio}, training.batch_size {self.batch_size}",
                "no row of a batch would come from the episodes that are played",
                f"training.online_sampling_ratio={max(0.01, round(1 / self.batch_size, 3))}",
            )
        elif self.num_online_rows % self.num_gpus:
            yield Conflict(
                "online_sampling_ratio",
                f"{self.num_online_rows} online rows of a batch cannot be dealt to {self.num_gpus} processes",
                "each process gets as many rows of the dataset and of the buffer as the others",
                f"training.online_sampling_ratio={self.num_gpus * max(1, self.num_online_rows // self.num_gpus) / self.batch_size:g}",
            )
        if self.sharding == "fsdp" or self.overfit_batch:
            key = "sharding" if self.sharding == "fsdp" else "overfit_batch"
            why = "the first process plays, and would hold a part of the weights"
            why = why if self.sharding == "fsdp" else "the first batch for ever needs no new episodes"
            fix = "training.sharding=ddp" if self.sharding == "fsdp" else "training.overfit_batch=false"
            yield Conflict(key, f"training.{key} and training.online_steps are both set", why, fix)


# Keys of the online phase beside online_steps: without it they are no part of a run key.
ONLINE_SETTINGS = (
    *("online_rollout_n_episodes", "online_rollout_batch_size", "online_steps_between_rollouts"),
    *("online_sampling_ratio", "online_env_seed", "online_buffer_capacity", "online_buffer_seed_size"),
    "do_online_rollout_async",
)


def num_updates(training: Mapping[str, Any]) -> int:
    """Updates of a whole training, of its section as a mapping; saved ones may be from before there was an online phase."""
    return int(training.get("offline_steps") or 0) + int(training.get("online_steps") or 0)


@dataclass(frozen=True)
class EmaConfig(Section):
    """A moving average of the weights, which is what acts; MineStudio's names, and robomimic's ``power``."""

    enable: bool
    decay: Beta
    power: NotNegative
    every_n_steps: Count
    validate_original_weights: bool
    cpu_offload: bool


@dataclass(frozen=True)
class SaveConfig(Section):
    """When a checkpoint is made beside ``training.save_freq``; robomimic's names and meaning."""

    every_n_seconds: NotNegative
    every_n_epochs: CountOrNone
    epochs: tuple[Count, ...]
    on_best_validation: bool
    on_best_rollout_return: bool
    on_best_rollout_success_rate: bool
    top_k: Count
    weights_every_n_steps: CountOrNone = field(default=0, kw_only=True)
    weights_top_k: Annotated[int, Must("-1 (all) or more", lambda value: value >= -1, "-1")] = field(
        default=-1, kw_only=True
    )
    weights_filename: Annotated[
        str,
        Must("a name with {step} in it", lambda value: "{step}" in value and "/" not in value, "weight-{epoch}-{step}"),
    ] = field(default="weight-{epoch}-{step}", kw_only=True)


@dataclass(frozen=True)
class WandbConfig(Section):
    """Weights & Biases; LeRobot's names."""

    enable: bool
    project: Text
    entity: str
    notes: str


@dataclass(frozen=True)
class TrackConfig(Section):
    """Who else hears the metrics; metrics.jsonl always does."""

    tensorboard: bool
    metric_lines: str


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
    goal: tuple[Text, ...] = ()
    features: dict[str, Any] = field(default_factory=dict)
    cameras: dict[str, Any] = field(default_factory=dict)
    instruction: str | None = None
    action: dict[str, Any] = field(default_factory=dict)

    absent = MappingProxyType({"features": {}, "cameras": {}, "instruction": None, "action": {}})

    @property
    def identity(self) -> dict[str, Any]:
        """The keys as a digest sees them: one that came later counts only where it says something."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {key: value for key, value in values.items() if key not in self.absent or value != self.absent[key]}

    def conflicts(self) -> Iterator[Conflict]:
        """A policy reads every observation once, and the feature map holds together."""
        for key, what, why, fix in feature_map.problems(self):
            yield Conflict(key, what, why, fix)
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
    """What every policy has. Each policy's package derives its own, in ``policies/<name>/config.py``, without torch.

    It declares what the policy reads, writes and looks at, so that a plan is checked where there is no torch.
    """

    name: str
    init_from: str = field(default="", kw_only=True)  # weights to start from: URI, or URI#FORMAT
    model: ClassVar[str] = ""  # package.module:Class, made of (config, features, stats); imported where it is trained
    decides: ClassVar[tuple[str, ...]] = ()  # keys whose values decide which others have an effect
    learns_online: ClassVar[bool] = False  # from rewards, so that episodes of its own teach it something

    def without_effect(self) -> dict[str, str]:
        """Keys that change nothing beside the values of the others, each with what to set instead.

        A saved configuration holds them all the same, so that run keys stay; who sets one by hand is refused.
        """
        return {}

    def reads(self, features: Mapping[str, Any]) -> tuple[str, ...]:
        """Keys of the observations and goals that the policy takes, in its order, of those that are there."""
        return tuple(key for key, feature in features.items() if feature.kind != "action")

    def writes(self, features: Mapping[str, Any]) -> tuple[str, ...]:
        """Keys of the actions that the policy gives."""
        return tuple(key for key, feature in features.items() if feature.kind == "action")

    def feature_problems(self, features: Mapping[str, Any]) -> Iterable[Problem]:
        """What keeps it from learning these features, as far as keys and kinds tell; the plan asks, and the model."""
        return ()

    def windows(self, features: Mapping[str, Any]) -> Any:
        """The steps it is trained on and the steps it acts on: ``tendon.loader.windows.Windows``."""
        raise NotImplementedError(f"{type(self).__name__} declares no window")

    def base_weights(self) -> Mapping[str, Any]:
        """Large weights that do not learn, by the module they fill: ``tendon.weights.spec.WeightSpec``; checkpoints leave them out."""
        return {}


@dataclass(frozen=True)
class TrainConfig(Section):
    """One trial, whole: what is printed at start, saved with every checkpoint and digested into the run key."""

    seed: Seed
    device: Device
    data: DataConfig
    training: TrainingConfig
    ema: EmaConfig
    save: SaveConfig
    wandb: WandbConfig
    track: TrackConfig
    eval: EvalConfig
    env: EnvConfig
    policy: PolicyConfig

    def conflicts(self) -> Iterator[Conflict]:
        """Checkpoints of the best rollout need rollouts; training begins in one place."""
        if self.policy.init_from and self.training.resume_from:
            yield Conflict(
                "policy",
                "policy.init_from and training.resume_from are both set",
                "init_from begins anew with other weights, resume_from goes on with all of another run's state",
                "leave one of them out",
            )
        if self.save.weights_every_n_steps and self.training.sharding == "fsdp":
            yield Conflict(
                "save",
                f"save.weights_every_n_steps is {self.save.weights_every_n_steps}, training.sharding fsdp",
                "files of weights are written by the first process, which then holds a part of them",
                "training.sharding=ddp, or save.weights_every_n_steps=0",
            )
        if self.training.online_steps:
            yield from self._online_conflicts()
        wanted = self.save.on_best_rollout_return or self.save.on_best_rollout_success_rate
        if wanted and not self.training.eval_freq:
            yield Conflict(
                "save",
                "the best rollout is to be kept, and training.eval_freq is 0",
                "no rollouts happen while it trains",
                "training.eval_freq=1000, or save.on_best_rollout_return=false save.on_best_rollout_success_rate=false",
            )

    def _online_conflicts(self) -> Iterator[Conflict]:
        """A policy that learns from rewards, an environment to play in, and room for an episode."""
        steps, capacity = self.training.online_steps, self.training.online_buffer_capacity
        if not self.policy.learns_online:
            yield Conflict(
                "training",
                f"training.online_steps is {steps}, policy {self.policy.name}",
                "it imitates: episodes of its own would teach it what it does already; tdmpc learns from their rewards",
                "training.online_steps=0, or policy=tdmpc",
            )
        if self.env.name == "none":
            what, why = (
                f"training.online_steps is {steps}, and there is no environment",
                "its episodes are played in one",
            )
            yield Conflict(
                "env", what, why, "env=pusht_keypoints, the environment of the dataset, or training.online_steps=0"
            )
        elif capacity is not None and capacity <= self.env.episode_length:
            yield Conflict(
                "training",
                f"training.online_buffer_capacity is {capacity}, env.episode_length {self.env.episode_length}",
                "the buffer keeps whole episodes, with what is seen after their last step",
                f"training.online_buffer_capacity={max(80_000, 2 * self.env.episode_length)}",
            )
        if self.data.edges:
            what = "training.online_steps and data.edges are both set"
            yield Conflict("data", what, "windows of the buffer repeat the nearest step", "data.edges={}")
