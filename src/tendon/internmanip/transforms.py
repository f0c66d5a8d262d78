"""What happens to one sample of a dataset, in InternManip's words: keys like ``state.joints``, arrays ``[T, D]``.

The numbers are those of ``tendon.policies.processing``; training goes through that, not through here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tendon.data.stats import FeatureStats
from tendon.policies.processing.normalize import STATISTICS, affine

Sample = dict[str, Any]


@dataclass
class ModalityTransform:
    """One step; ``apply_to`` names its keys."""

    apply_to: Sequence[str] = ()

    def set_statistics(self, statistics: Mapping[str, FeatureStats]) -> None:
        """Those of the dataset, by key; called before the first sample."""

    def __call__(self, sample: Sample) -> Sample:
        """The sample, changed."""
        raise NotImplementedError


@dataclass
class StateActionToTensor(ModalityTransform):
    """Arrays to float32 tensors."""

    def __call__(self, sample: Sample) -> Sample:
        """As named."""
        import torch

        return {
            **sample,
            **{key: torch.as_tensor(np.asarray(sample[key], np.float32)) for key in self.apply_to if key in sample},
        }


@dataclass
class StateActionTransform(ModalityTransform):
    """Each key in its mode: mean_std, min_max, q99, scale, binary; GR00T's formulas."""

    normalization_modes: Mapping[str, str] = field(default_factory=dict)

    def set_statistics(self, statistics: Mapping[str, FeatureStats]) -> None:
        """Shift, scale and bias of each key."""
        self.rows = {}
        for key, mode in self.normalization_modes.items():
            if mode in STATISTICS:
                names = STATISTICS[mode]
                pair = tuple(np.array(getattr(statistics[key], name), np.float64) for name in names)
                self.rows[key] = affine(mode, "groot", pair)[:3].astype(np.float32)  # type: ignore[arg-type]

    def __call__(self, sample: Sample) -> Sample:
        """Normalised values."""
        import torch

        changed = {}
        for key in self.apply_to:
            mode = self.normalization_modes.get(key, "identity")
            if key not in sample or mode == "identity":
                continue
            values = torch.as_tensor(sample[key]).float()
            if mode == "binary":
                changed[key] = (values > 0.5).float()
                continue
            shift, scale, bias = torch.from_numpy(self.rows[key])
            scaled = (values - shift) / scale + bias
            changed[key] = scaled.clamp(-1, 1) if mode == "q99" else scaled
        return {**sample, **changed}


@dataclass
class ConcatTransform(ModalityTransform):
    """Keys become ``video [T, V, H, W, C]``, ``state [T, D]`` and ``action [T, D]``, in the listed order."""

    video_concat_order: Sequence[str] = ()
    state_concat_order: Sequence[str] = ()
    action_concat_order: Sequence[str] = ()

    def __call__(self, sample: Sample) -> Sample:
        """The joined sample."""
        import torch

        made = dict(sample)
        for kind, order in (("state", self.state_concat_order), ("action", self.action_concat_order)):
            parts = [torch.as_tensor(made.pop(key)) for key in order if key in made]
            if parts:
                made[kind] = torch.cat(parts, -1)
        views = [torch.as_tensor(made.pop(key)) for key in self.video_concat_order if key in made]
        if views:
            made["video"] = torch.stack(views, 1)
        return made


@dataclass
class ComposedModalityTransform(ModalityTransform):
    """One after another."""

    transforms: Sequence[ModalityTransform] = ()

    def set_statistics(self, statistics: Mapping[str, FeatureStats]) -> None:
        """To each."""
        for transform in self.transforms:
            transform.set_statistics(statistics)

    def __call__(self, sample: Sample) -> Sample:
        """Through all."""
        for transform in self.transforms:
            sample = transform(sample)
        return sample
