"""InternManip's dataset of one folder: a sample for every frame of every episode. For looking at data; training reads shards.

Beyond an episode absolute values repeat the first or last step, relative ones are 0, frames are the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data.episode import Episode, VideoChunk
from tendon.data.sources.lerobot import LeRobotSource
from tendon.data.sources.modality import PREFIX, ModalitySource
from tendon.data.stats import FeatureStats
from tendon.data.video import decode_chunks, decode_jpegs
from tendon.errors import ConfigError, nearest
from tendon.internmanip.data_configs import ModalityConfig
from tendon.internmanip.transforms import ComposedModalityTransform, ModalityTransform

TASK_KINDS = ("annotation", "language")


class EmbodimentTag(Enum):
    """Whose weights a GR00T projector takes, and the key of metadata.json."""

    GR1 = "gr1"
    OXE_DROID = "oxe_droid"
    AGIBOT_GENIE1 = "agibot_genie1"
    GENIE1_GRIPPER = "genie1_gripper"
    NEW_EMBODIMENT = "new_embodiment"


class LeRobotSingleDataset:
    """A LeRobot folder with meta/modality.json."""

    def __init__(
        self,
        dataset_path: str | Path,
        modality_configs: Mapping[str, ModalityConfig],
        embodiment_tag: str | EmbodimentTag = EmbodimentTag.NEW_EMBODIMENT,
        transform: ModalityTransform | Sequence[ModalityTransform] | None = None,
        *,
        embodiment_tags: str | EmbodimentTag | None = None,
        skip_unlabeled: bool = False,
    ) -> None:
        """Open it.

        Args:
            dataset_path: the folder.
            modality_configs: keys and steps, as of ``BaseDataConfig.modality_config``.
            embodiment_tag: its key in metadata.json.
            transform: one, or a list of them.
            embodiment_tags: as the documentation's snippet calls the tag.
            skip_unlabeled: leave out episodes without a text.
        """
        self.tag = EmbodimentTag(embodiment_tags if embodiment_tags is not None else embodiment_tag)
        self.source = ModalitySource(str(dataset_path), LeRobotSource(str(dataset_path)))
        self.info = self.source.describe()
        self.configs = dict(modality_configs)
        self._check_keys()
        episodes = [
            one for one in self.info.episodes if not skip_unlabeled or self._episode(one.episode_id).task.strip()
        ]
        self.index = [(one.episode_id, step) for one in episodes for step in range(one.length)]
        steps = (
            transform
            if isinstance(transform, ModalityTransform)
            else ComposedModalityTransform(transforms=transform or ())
        )
        steps.set_statistics(self.statistics)
        self.transform: Callable[[dict[str, Any]], dict[str, Any]] = steps

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self.index)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """The sample of one frame, transformed."""
        name, base = self.index[number]
        episode = self._episode(name)
        sample: dict[str, Any] = {}
        for kind, config in self.configs.items():
            rows = base + np.asarray(config.delta_indices)
            for key in config.modality_keys:
                sample[key] = self._values(episode, kind, key, rows)
        if "action" in self.configs:
            sample["action_pad"] = base + np.asarray(self.configs["action"].delta_indices) >= episode.length
        return self.transform(sample)

    @property
    def statistics(self) -> dict[str, FeatureStats]:
        """Of every state and action, over all frames; quantiles are exact."""
        names = [key for kind in PREFIX if kind in self.configs for key in self.configs[kind].modality_keys]
        gathered: dict[str, list[np.ndarray]] = {key: [] for key in names}
        for one in self.info.episodes:
            episode = self._episode(one.episode_id)
            for key in names:
                gathered[key].append(np.asarray(episode.features[_feature(key)], np.float64))
        return {key: _stats(np.concatenate(values)) for key, values in gathered.items()}

    def _check_keys(self) -> None:
        known = {each.key for each in self.info.schema.features}
        for kind, config in self.configs.items():
            for key in config.modality_keys:
                if kind not in TASK_KINDS and _feature(key) not in known:
                    near = nearest(_feature(key), known, 0.4)
                    raise ConfigError(
                        f"the dataset has no {key}",
                        where=self.source.uri,
                        why=f"it has {', '.join(sorted(known))}",
                        fix=f"{near} (the nearest)" if near else "name another key",
                    )

    def _values(self, episode: Episode, kind: str, key: str, rows: np.ndarray) -> Any:
        inside = np.clip(rows, 0, episode.length - 1)
        if kind in TASK_KINDS:
            return [episode.task] * len(rows)
        if kind == "video":
            return self._frames(episode, _feature(key), inside)
        values = np.asarray(episode.features[_feature(key)])[inside]
        part = self.info.metadata["modality"]["parts"][kind][key.partition(".")[2]]
        if not part["absolute"]:
            values = np.where((rows == inside)[:, None], values, 0)
        return values

    def _frames(self, episode: Episode, camera: str, steps: np.ndarray) -> np.ndarray:
        """The frames of some steps, decoded."""
        stored = episode.images[camera]
        if isinstance(stored, np.ndarray):
            return np.asarray(stored[steps])
        if stored and isinstance(stored[0], VideoChunk):
            return decode_chunks([one for one in stored if isinstance(one, VideoChunk)], steps.tolist())
        channels = next(each.channels for each in self.info.schema.cameras if each.name == camera)
        return decode_jpegs([one for one in map(stored.__getitem__, steps) if isinstance(one, bytes)], channels)

    @lru_cache(maxsize=2)  # noqa: B019 - a dataset lives as long as its process
    def _episode(self, name: str) -> Episode:
        return self.source.read(name, images="video" in self.configs)


def _feature(key: str) -> str:
    kind, _, name = key.partition(".")
    return f"observation.images.{name}" if kind == "video" else PREFIX.get(kind, f"{kind}.") + name


def _stats(values: np.ndarray) -> FeatureStats:
    rows = (values.mean(0), values.std(0), values.min(0), values.max(0), *np.quantile(values, (0.01, 0.99), axis=0))
    return FeatureStats(len(values), *(tuple(map(float, row)) for row in rows))
