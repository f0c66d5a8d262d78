"""Vectors made fit for a net: actions relative to the state, a fixed width with a mask, numbers as bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.processing.transform import Features, Numbers, Phase, Stats, Transform, misfit, needed, reshaped

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = 1

NEWEST = -1
REFERENCE = "_reference"  # behind an action's key: the state that it is relative to, [B, 1, D]
WIDTH_MASK = "_width_mask"  # behind a key: which of its numbers are real, [B, T, D]


@dataclass(frozen=True, kw_only=True)
class RelativeActions(Transform):
    """Actions as differences from the state of now; what an action adds up to when acting is that state plus them.

    Put it in front of the normalisation of both. Only the ends of the differences follow from the dataset's statistics;
    for ``mean_std`` or ``q99`` behind it give the statistics of the differences to ``Normalize``.

    Example:
        ``RelativeActions(states={"action": "observation.state"}, mask={"action": (True,) * 6 + (False,)})``
    """

    kind: ClassVar[str] = "relative_actions"

    states: Mapping[str, str]  # of each action, the state that it is subtracted from
    mask: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)  # dimensions that are; all, where none is given
    dims: Mapping[str, tuple[int, ...]] = field(
        default_factory=dict
    )  # of the state, one for each of the action; as they come
    now: Mapping[str, int] = field(
        default_factory=dict
    )  # place of now among the training steps of a state; the last one

    def after(self, features: Features) -> Features:
        """The same."""
        for key, state in self.states.items():
            action, other = needed(features, key, self.kind), needed(features, state, self.kind)
            mask, dims = self._mask(action), self._dims(action)
            if len(mask) != action.dim or len(dims) != action.dim:
                why = f"it has {action.dim} dimensions, its mask {len(mask)}, its dims {len(dims)}"
                raise misfit(self.kind, key, why, "give one value for each dimension of the action")
            beyond = [dim for dim, is_relative in zip(dims, mask, strict=True) if is_relative and dim >= other.dim]
            if beyond:
                why = f"it is relative to dimension {beyond[0]} of {state}, which has {other.dim}"
                raise misfit(self.kind, key, why, "leave dimensions out with mask, or choose others with dims")
        return features

    def stats_after(self, features: Features, stats: Stats) -> Stats:
        """Ends that the differences cannot leave; nothing else is known of them."""
        made = dict(stats)
        for key, state in self.states.items():
            if key in stats and state in stats:
                mask, dims = np.array(self._mask(features[key])), np.array(self._dims(features[key]))
                dims = np.where(mask, dims, 0)
                old, other = stats[key], stats[state]
                low = np.where(mask, np.array(old.min) - np.array(other.max)[dims], old.min)
                high = np.where(mask, np.array(old.max) - np.array(other.min)[dims], old.max)
                rest = {name: np.where(mask, np.nan, getattr(old, name)) for name in ("mean", "std", "q01", "q99")}
                numbers = rest | {"min": low, "max": high}
                made[key] = FeatureStats(old.count, **{name: tuple(map(float, each)) for name, each in numbers.items()})
        return made

    def numbers(self, features: Features, stats: Stats | None) -> Numbers:
        """Which dimension of the state belongs to each of the action, and whether it counts."""
        made = {}
        for key in self.states:
            mask, dims = self._mask(features[key]), self._dims(features[key])
            made[f"{key}/mask"] = np.array(mask, np.float32)
            made[f"{key}/dims"] = np.where(mask, dims, 0).astype(np.int64)
        return made

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """The differences, and what they are relative to, for the way back."""
        made = {}
        for key, state in self.states.items():
            if state not in batch:
                continue
            place = self.now.get(state, NEWEST) if phase == "training" else NEWEST
            state_B1D = batch[state][:, place : place + 1 or None]
            reference = state_B1D[..., numbers[f"{key}/dims"]] * numbers[f"{key}/mask"]
            made[key + REFERENCE] = reference
            if key in batch:
                made[key] = batch[key] - reference
        return made

    def inverse(
        self, actions: Mapping[str, Tensor], numbers: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """The state of now and the differences."""
        return {key: actions[key] + batch[key + REFERENCE] for key in self.states if key in actions}

    def _mask(self, action: Feature) -> tuple[bool, ...]:
        return self.mask.get(action.key, (True,) * action.dim)

    def _dims(self, action: Feature) -> tuple[int, ...]:
        return self.dims.get(action.key, tuple(range(action.dim)))


@dataclass(frozen=True, kw_only=True)
class PadWidth(Transform):
    """Vectors of a fixed width: zeros behind, and a mask of what is real; cut off again on the way back."""

    kind: ClassVar[str] = "pad_width"

    widths: Mapping[str, int]

    def after(self, features: Features) -> Features:
        """As wide as asked."""
        for key, width in self.widths.items():
            feature = needed(features, key, self.kind)
            if feature.dim > width:
                raise misfit(self.kind, key, f"it has {feature.dim} numbers, the width is {width}", "widen it")
            names = (*feature.names, *[""] * (width - feature.dim)) if feature.names else ()
            features = reshaped(features, key, (width,), names=names)
        return features

    def numbers(self, features: Features, stats: Stats | None) -> Numbers:
        """1 for what is real."""
        return {key: (np.arange(width) < features[key].dim).astype(np.float32) for key, width in self.widths.items()}

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """Wider, and its mask."""
        from torch.nn.functional import pad

        made = {}
        for key, width in self.widths.items():
            if key in batch:
                made[key] = pad(batch[key], (0, width - batch[key].shape[-1]))
                made[key + WIDTH_MASK] = (numbers[key] > 0).expand(made[key].shape)
        return made

    def inverse(
        self, actions: Mapping[str, Tensor], numbers: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """What is real."""
        return {key: actions[key][..., numbers[key] > 0] for key in self.widths if key in actions}


@dataclass(frozen=True, kw_only=True)
class Bins(Transform):
    """Numbers in [low, high] as integers: the bin of each, the last ones for what lies beyond.

    pi0-FAST writes a state into its prompt this way (256 bins of [-1, 1]). Back, a bin is its middle.
    """

    kind: ClassVar[str] = "bins"

    into: Mapping[str, str]  # key to the key of its bins; the same key replaces it
    num_bins: int = 256
    low: float = -1.0
    high: float = 1.0

    def after(self, features: Features) -> Features:
        """With the bins as categories."""
        for key, new in self.into.items():
            feature = needed(features, key, self.kind)
            if feature.is_integer or feature.kind in ("image", "mask", "depth"):
                raise misfit(self.kind, key, f"it is a {feature.kind}", "name vectors of numbers")
            features = {**features, new: Feature(new, "category", feature.shape, "int64")}
        return features

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """int64, from 0 to ``num_bins - 1``."""
        width = (self.high - self.low) / self.num_bins
        return {
            new: ((batch[key] - self.low) / width).floor().clamp(0, self.num_bins - 1).long()
            for key, new in self.into.items()
            if key in batch
        }

    def inverse(
        self, actions: Mapping[str, Tensor], numbers: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """The middles of the bins, for actions that are predicted as bins."""
        width = (self.high - self.low) / self.num_bins
        return {key: self.low + (actions[new] + 0.5) * width for key, new in self.into.items() if new in actions}
