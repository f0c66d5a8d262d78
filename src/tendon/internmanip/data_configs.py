"""Data configurations as classes, like InternManip's; a YAML's ``data_config`` takes the file of one (with ``--trust``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tendon.data.sources.modality_configs import CONFIGS, TASK, DataConfig
from tendon.internmanip.transforms import (
    ComposedModalityTransform,
    ConcatTransform,
    StateActionToTensor,
    StateActionTransform,
)


@dataclass
class ModalityConfig:
    """Keys of one modality, and the steps around now that are read of them."""

    delta_indices: Sequence[int] = (0,)
    modality_keys: Sequence[str] = field(default_factory=list)


class BaseDataConfig:
    """Subclasses name keys, and may write both methods anew. Steps follow from the policy when a YAML trains it."""

    video_keys: Sequence[str] = ()
    state_keys: Sequence[str] = ()
    action_keys: Sequence[str] = ()
    language_keys: Sequence[str] = (TASK,)
    observation_indices: Sequence[int] = (0,)
    action_indices: Sequence[int] = tuple(range(16))
    normalization_modes: Mapping[str, str] = {}  # mean_std where none is named

    def modality_config(self) -> dict[str, ModalityConfig]:
        """Keys by modality."""
        seen, done = self.observation_indices, self.action_indices
        listed = {
            "video": ModalityConfig(seen, self.video_keys),
            "state": ModalityConfig(seen, self.state_keys),
            "action": ModalityConfig(done, self.action_keys),
            "language": ModalityConfig((0,), self.language_keys),
        }
        return {kind: config for kind, config in listed.items() if config.modality_keys}

    def transform(self) -> Any:
        """To tensors, normalised, joined."""
        numbers = [*self.state_keys, *self.action_keys]
        modes = {key: self.normalization_modes.get(key, "mean_std") for key in numbers}
        joined = ConcatTransform(
            video_concat_order=self.video_keys,
            state_concat_order=self.state_keys,
            action_concat_order=self.action_keys,
        )
        steps = [StateActionToTensor(numbers), StateActionTransform(numbers, normalization_modes=modes), joined]
        return ComposedModalityTransform(transforms=steps)


class NamedDataConfig(BaseDataConfig):
    """One of tendon's own, by its DataConfig."""

    def __init__(self, config: DataConfig) -> None:
        self.video_keys = [f"video.{key}" for key in config.video]
        self.state_keys = [f"state.{key}" for key in config.state]
        self.action_keys = [f"action.{key}" for key in config.action]
        self.language_keys = [config.language]
        self.normalization_modes = config.normalization


DATA_CONFIG_MAP: dict[str, BaseDataConfig] = {name: NamedDataConfig(config) for name, config in CONFIGS.items()}
DATA_CONFIG_MAP["calvin"] = DATA_CONFIG_MAP["calvin_abc"]  # as the documentation calls it
