"""A MineStudio user's training: the names that the tutorial "Pre-Training ROCKET-1 from Scratch" imports, over our steps.

Every class holds its arguments as configuration keys; ``Trainer.fit`` converts the data and trains. docs/from-minestudio.md
has the tutorial with these imports, and the same run as a configuration.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tendon import steps
from tendon.config.compose import compose
from tendon.config.override_text import quote
from tendon.errors import ConfigError
from tendon.runs.planner import pinned, run_key
from tendon.storage import join

if TYPE_CHECKING:
    from tendon.config.schema import TrainConfig
    from tendon.train.state.status import TrainResult

__all__ = [
    "EMA",
    "BehaviorCloneCallback",
    "KLDivergenceCallback",
    "LearningRateMonitor",
    "MineDataModule",
    "MineLightning",
    "RocketPolicy",
    "SmartCheckpointCallback",
    "SpeedMonitorCallback",
    "Trainer",
    "WandbLogger",
    "convert_to_normal",
]
log = logging.getLogger(__name__)

Overrides = dict[str, Any]
KEEP_ALL = 1_000_000
READS = "[observation.images.image,observation.masks.target,observation.interaction]"
PRECISIONS = {
    "bf16": "bf16", "bf16-mixed": "bf16", "32": "fp32", "32-true": "fp32", "16": "fp16", "16-mixed": "fp16",
}  # fmt: skip
EVENT_KEYS = ("event_regex", "bias", "min_nearby", "max_within")


@dataclass(frozen=True)
class RocketPolicy:
    """The policy; its arguments are keys of ``policy``."""

    backbone: str = "efficientnet_b0.ra_in1k"
    hiddim: int = 1024
    num_heads: int = 8
    num_layers: int = 4
    timesteps: int = 128
    mem_len: int = 128
    nucleus_prob: float = 0.85

    @property
    def overrides(self) -> Overrides:
        """As keys."""
        return {f"policy.{key}": value for key, value in vars(self).items()}


@dataclass(frozen=True)
class BehaviorCloneCallback:
    """The objective of behaviour cloning and its weight."""

    weight: float = 1.0
    objective = "behaviour_cloning"


@dataclass(frozen=True)
class KLDivergenceCallback:
    """The divergence of a posterior from a prior and its weight, for a policy that has both; ROCKET-1 has neither."""

    weight: float = 1.0
    objective = "kl_divergence"

    def __call__(self, latents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What a policy of your own returns in ``LossOutput.objectives["kl_divergence"]``.

        Args:
            latents: ``posterior_dist`` and ``prior_dist``, each with tensors ``mu`` and ``log_var`` ``[B, D]``.

        Returns:
            ``kl_div``: summed over D, mean over the batch; ``loss``: times the weight; ``kl_weight``.
        """
        q, p = latents["posterior_dist"], latents["prior_dist"]
        ratio, distance = q["log_var"] - p["log_var"], q["mu"] - p["mu"]
        kl_div = 0.5 * (ratio.exp() + distance.square() / p["log_var"].exp() - 1 - ratio).sum(-1).mean()
        return {"loss": self.weight * kl_div, "kl_div": kl_div, "kl_weight": self.weight}


@dataclass(frozen=True)
class MineLightning:
    """The policy with its objectives and its optimiser."""

    mine_policy: RocketPolicy
    callbacks: Sequence[BehaviorCloneCallback | KLDivergenceCallback] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    log_freq: int = 20
    learning_rate: float = 1e-5
    warmup_steps: int = 1000
    weight_decay: float = 0.01

    @property
    def overrides(self) -> Overrides:
        """As keys. An objective that nobody names has no weight, and one of no policy is refused when it trains."""
        weights = {BehaviorCloneCallback.objective: 0.0} | {one.objective: one.weight for one in self.callbacks}
        return {
            **self.mine_policy.overrides,
            "training.objective_weights": weights,
            "training.log_freq": self.log_freq,
            "training.lr": self.learning_rate,
            "training.lr_warmup_steps": self.warmup_steps,
            "training.weight_decay": self.weight_decay,
        }


@dataclass(frozen=True)
class MineDataModule:
    """Which folders, in which windows; ``batch_size`` is that of one device."""

    data_params: Mapping[str, Any]
    batch_size: int = 1
    num_workers: int = 0
    prefetch_factor: int | None = None
    split_ratio: float = 0.9
    shuffle_episodes: bool = False
    episode_continuous_batch: bool = False

    def __post_init__(self) -> None:
        known = {"mode", "dataset_dirs", "frame_width", "frame_height", "win_len", "enable_segment", *EVENT_KEYS}
        unknown = sorted(set(self.data_params) - known)
        if unknown or self.data_params.get("mode", "raw") not in ("raw", "event"):
            raise ConfigError(
                f"data_params has {', '.join(unknown) or 'another mode'}",
                where="MineDataModule",
                why=f"its keys are {', '.join(sorted(known))}; mode is raw or event",
                fix="leave it out",
            )
        if not self.data_params.get("enable_segment"):
            raise ConfigError(
                "ROCKET-1 has nothing to aim at",
                where="MineDataModule, data_params",
                why="enable_segment is not true: windows would have no mask",
                fix="enable_segment=True",
            )

    @property
    def source_uri(self) -> str:
        """All folders as one source, or the clips of their events."""
        folders = ",".join(str(Path(folder).resolve()) for folder in self.data_params["dataset_dirs"])
        if self.data_params.get("mode", "raw") == "raw":
            return folders
        asked = {key: self.data_params[key] for key in EVENT_KEYS if self.data_params.get(key) is not None}
        query = {"mode": "event", "win_len": self.data_params["win_len"], "split_ratio": self.split_ratio, **asked}
        return f"{folders}?{urlencode(query)}"

    @property
    def conversion(self) -> dict[str, Any]:
        """What the conversion is asked for; the split of events is by kind, so that their source makes it."""
        size = [int(self.data_params.get(key, 224)) for key in ("frame_height", "frame_width")]
        is_raw = self.data_params.get("mode", "raw") == "raw"
        split = {"split_ratio": self.split_ratio, "shuffle_episodes": self.shuffle_episodes and self.split_ratio < 1}
        return {"resize": size, **(split if is_raw else {})}

    def overrides(self, num_devices: int) -> Overrides:
        """As keys."""
        win_len, size = int(self.data_params.get("win_len", 1)), self.conversion["resize"]
        threads = {"data.threads": self.num_workers} if self.num_workers else {}
        ahead = {} if self.prefetch_factor is None else {"data.ahead": self.prefetch_factor}
        return {
            "policy.timesteps": win_len,
            "policy.image_size": size,
            "policy.episode_continuous_batch": self.episode_continuous_batch,
            "training.batch_size": self.batch_size * num_devices,
            **threads,
            **ahead,
            **{f"data.{key}": value for key, value in self.conversion.items()},
        }


@dataclass(frozen=True)
class LearningRateMonitor:
    """``lr-AdamW`` on every training line."""

    logging_interval: str | None = None
    name = "LearningRateMonitor"


@dataclass(frozen=True)
class SpeedMonitorCallback:
    """``speed(batch/s)`` on every training line."""

    name = "SpeedMonitorCallback"


@dataclass(frozen=True)
class SmartCheckpointCallback:
    """Weights alone, each with its ``-EMA`` twin (``save_weights_only``), or the whole state that a run resumes from.

    Both lie in the trial's folder, as ``weights`` and ``checkpoints``: ``dirpath`` changes nothing.
    """

    dirpath: str = ""
    filename: str = "weight-{epoch}-{step}"
    save_top_k: int = 1
    every_n_train_steps: int = 1000
    save_weights_only: bool = False

    @property
    def overrides(self) -> Overrides:
        """As keys."""
        if self.save_weights_only:
            return {
                "save.weights_every_n_steps": self.every_n_train_steps,
                "save.weights_top_k": self.save_top_k,
                "save.weights_filename": self.filename,
            }
        kept = KEEP_ALL if self.save_top_k < 0 else max(1, self.save_top_k)
        return {"training.save_freq": self.every_n_train_steps, "training.keep_checkpoints": kept}


@dataclass(frozen=True)
class EMA:
    """The moving average of the weights."""

    decay: float = 0.9999
    validate_original_weights: bool = False
    every_n_steps: int = 1
    cpu_offload: bool = False

    @property
    def overrides(self) -> Overrides:
        """As keys."""
        return {"ema.enable": True, "ema.power": 0.0, **{f"ema.{key}": value for key, value in vars(self).items()}}


@dataclass(frozen=True)
class WandbLogger:
    """Weights & Biases; without a key it writes an offline run."""

    project: str = "minestudio"
    name: str | None = None
    save_dir: str | None = None


Callbacks = Sequence[LearningRateMonitor | SpeedMonitorCallback | SmartCheckpointCallback | EMA]


@dataclass(frozen=True)
class Trainer:
    """Lightning's, as far as the tutorial uses it; ``default_root_dir`` is the store."""

    logger: WandbLogger | bool | None = None
    devices: int | str | Sequence[int] = 1
    precision: str | int = "32"
    strategy: str = "auto"
    use_distributed_sampler: bool = True
    callbacks: Callbacks = ()
    gradient_clip_val: float | None = None
    max_steps: int = -1
    accelerator: str = "auto"
    default_root_dir: str | os.PathLike[str] = "outputs/minestudio"

    def configure(
        self,
        model: MineLightning,
        datamodule: MineDataModule,
        ckpt_path: str | os.PathLike[str] | None = None,
        dataset_uri: str = "not-yet-converted",
        overrides: Sequence[str] = (),
    ) -> TrainConfig:
        """The run as our configuration; nothing is converted.

        Raises:
            ConfigError: an argument has no meaning here, or does not fit another one.
        """
        chosen: Overrides = {"ema.enable": False, "training.callbacks": [], "wandb.enable": False}
        chosen |= {"env.name": "minestudio", "env.task": "unknown", **self._overrides()}
        chosen |= {**datamodule.overrides(self._num_devices), **model.overrides}
        win_len = datamodule.overrides(1)["policy.timesteps"]
        if win_len != model.mine_policy.timesteps:
            raise ConfigError(
                f"win_len is {win_len}, timesteps {model.mine_policy.timesteps}",
                where="MineDataModule, RocketPolicy",
                why="the network takes windows of timesteps frames",
                fix=f"win_len={model.mine_policy.timesteps}",
            )
        if self.use_distributed_sampler and datamodule.episode_continuous_batch:
            raise ConfigError(
                "use_distributed_sampler is true, and so is episode_continuous_batch",
                where="Trainer",
                why="rows that walk through episodes are dealt to the devices by the loader",
                fix="use_distributed_sampler=not episode_continuous_batch",
            )
        if ckpt_path is not None:
            foreign = str(ckpt_path).endswith(".ckpt")
            chosen["policy.init_from" if foreign else "training.resume_from"] = str(ckpt_path)
        written = [f"{key}={quote(value)}" for key, value in chosen.items()]
        base = ["env=reach", "policy=rocket1-seed", f"env.observation={READS}"]
        return compose([*base, *written, f"data.uri={quote(dataset_uri)}", *overrides])

    def fit(
        self,
        model: MineLightning,
        datamodule: MineDataModule,
        ckpt_path: str | os.PathLike[str] | None = None,
        overrides: Sequence[str] = (),
    ) -> TrainResult:
        """Convert the data (once) and train, or go on where the same run stopped.

        Args:
            model: the policy with its objectives.
            datamodule: the data.
            ckpt_path: weights of a MineStudio file to start from, or a trial of ours to go on from. None: this run's newest.
            overrides: keys of our configuration, applied last.
        """
        store = str(self.default_root_dir)
        self.configure(model, datamodule, ckpt_path, overrides=overrides)
        converted = steps.convert(
            source_uri=datamodule.source_uri, store_uri=store, dataset_name="minestudio", **datamodule.conversion
        )
        made = pinned(self.configure(model, datamodule, ckpt_path, converted.dataset_uri, overrides))
        return steps.train(config=made, dataset_uri=made.data.uri, trial_uri=join(store, "trials", run_key(made)))

    @property
    def _num_devices(self) -> int:
        if isinstance(self.devices, str):
            return int(self.devices) if self.devices.isdigit() else 1
        return len(self.devices) if isinstance(self.devices, Sequence) else self.devices

    def _overrides(self) -> Overrides:
        precision = PRECISIONS.get(str(self.precision))
        if precision is None:
            why = f"it is one of {', '.join(PRECISIONS)}"
            raise ConfigError(f"precision is {self.precision}", where="Trainer", why=why, fix="precision='bf16'")
        chosen: Overrides = {
            "training.precision": precision,
            "training.num_gpus": self._num_devices,
            "training.sharding": "fsdp" if self.strategy.startswith("fsdp") else "ddp",
            "training.grad_clip_norm": self.gradient_clip_val or 0.0,
        }
        if self.accelerator == "cpu":
            chosen["device"] = "cpu"
        if self.max_steps >= 0:
            chosen["training.offline_steps"] = self.max_steps
        if isinstance(self.logger, WandbLogger):
            chosen |= {"wandb.enable": True, "wandb.project": self.logger.project}
        monitors = [one.name for one in self.callbacks if isinstance(one, (LearningRateMonitor, SpeedMonitorCallback))]
        chosen["training.callbacks"] = monitors
        for one in self.callbacks:
            if isinstance(one, (SmartCheckpointCallback, EMA)):
                chosen |= one.overrides
        return chosen


def convert_to_normal(obj: Any) -> Any:
    """OmegaConf's mappings and lists as plain ones, whatever lies inside."""
    from omegaconf import DictConfig, ListConfig

    if isinstance(obj, (DictConfig, Mapping)):
        return {key: convert_to_normal(value) for key, value in obj.items()}
    if isinstance(obj, (ListConfig, list, tuple)):
        return [convert_to_normal(value) for value in obj]
    return obj
