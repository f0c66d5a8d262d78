"""Parts of a vector scaled each in its own way: the normalisation modes of InternManip's data configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np

from tendon.policies.processing.normalize import BINARY_EDGE, STATISTICS, Mode, Rules, affine
from tendon.policies.processing.transform import Features, Numbers, Phase, Stats, Transform, misfit, needed

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = 1

Part = tuple[int, int, Mode]  # from, to (not included), how
MODES = tuple(mode for mode in get_args(Mode) if mode != "imagenet")
LIMITED = 1.0  # what q99 is cut to


@dataclass(frozen=True, kw_only=True)
class NormalizeParts(Transform):
    """A mode for each part of a vector, GR00T's formulas; a binary part is 0 or 1 on both sides.

    Example:
        ``NormalizeParts(parts={"action": ((0, 1, "binary"), (1, 7, "mean_std"))})``
    """

    kind: ClassVar[str] = "normalize_parts"

    parts: Mapping[str, Sequence[Part]]
    rules: Rules = "groot"

    def after(self, features: Features) -> Features:
        """The same; the parts follow each other and are the whole vector."""
        for key, parts in self.parts.items():
            feature = needed(features, key, self.kind)
            if feature.kind == "image" or feature.is_integer:
                raise misfit(self.kind, key, f"it is a {feature.kind}", "name a state or an action")
            at = 0
            for start, end, mode in parts:
                if mode not in MODES:
                    raise misfit(self.kind, key, f"there is no mode {mode}", f"choose of {', '.join(MODES)}")
                if start != at or end <= start:
                    raise misfit(
                        self.kind, key, f"a part is [{start}, {end}], expected was one from {at} on", "join them"
                    )
                at = end
            if at != feature.dim:
                why = f"it has {feature.dim} numbers, its parts end at {at}"
                raise misfit(self.kind, key, why, "give every number a part")
        return features

    def numbers(self, features: Features, stats: Stats | None) -> Numbers:
        """``[5, D]`` as of ``Normalize``, which numbers are binary, and at what each is cut."""
        made = {}
        for key, parts in self.parts.items():
            columns, binary, limits = [], [], []
            for start, end, mode in parts:
                width = end - start
                binary += [mode == "binary"] * width
                limits += [LIMITED if mode == "q99" and self.rules == "groot" else np.inf] * width
                columns.append(self._columns(key, slice(start, end), mode, stats))
            made[f"{key}/rows"] = np.concatenate(columns, 1).astype(np.float32)
            made[f"{key}/binary"] = np.array(binary)
            made[f"{key}/limits"] = np.array(limits, np.float32)
        return made

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """Raw to normalised."""
        made = {}
        for key in self.parts:
            if key in batch:
                raw, limits = batch[key], numbers[f"{key}/limits"]
                shift, scale, bias, _, _ = numbers[f"{key}/rows"].unbind(0)
                scaled = ((raw - shift) / scale + bias).clamp(-limits, limits)
                made[key] = _chosen(numbers[f"{key}/binary"], raw, scaled)
        return made

    def inverse(
        self, actions: Mapping[str, Tensor], numbers: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Normalised to raw."""
        made = {}
        for key in self.parts:
            if key in actions:
                value = actions[key]
                _, _, bias, back_shift, back_scale = numbers[f"{key}/rows"].unbind(0)
                made[key] = _chosen(numbers[f"{key}/binary"], value, (value - bias) * back_scale + back_shift)
        return made

    def _columns(self, key: str, dims: slice, mode: Mode, stats: Stats | None) -> np.ndarray:
        width = dims.stop - dims.start
        if mode in ("identity", "binary"):
            return np.stack([np.full(width, value) for value in (0.0, 1.0, 0.0, 0.0, 1.0)])
        if stats is None:
            return np.zeros((5, width))
        if key not in stats:
            raise misfit(self.kind, key, "the statistics do not have it", "use the statistics of this dataset")
        first, second = (np.array(getattr(stats[key], name)[dims], np.float64) for name in STATISTICS[mode])
        return affine(mode, self.rules, (first, second))


def _chosen(binary_D: Tensor, value: Tensor, scaled: Tensor) -> Tensor:
    return scaled.where(~binary_D, (value > BINARY_EDGE).to(scaled.dtype))
