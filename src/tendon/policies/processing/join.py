"""Vectors joined into one, in the order in which they are named, and taken apart again; a number as its sine and cosine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tendon.data.features import Feature
from tendon.policies.processing.actions import WIDTH_MASK
from tendon.policies.processing.transform import Features, Numbers, Phase, Stats, Transform, misfit, needed

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = 1


@dataclass(frozen=True, kw_only=True)
class Join(Transform):
    """``keys`` one behind the other as ``into``, with zeros up to ``width`` and, under ``<into>_width_mask``, what is real.

    A checkpoint only means something with the order of its keys, so they are saved with it.

    Example:
        ``Join(into="state", keys=("observation.joints", "observation.gripper"), width=32)``
    """

    kind: ClassVar[str] = "join"

    into: str
    keys: tuple[str, ...]
    width: int = 0  # 0: as wide as they are

    def after(self, features: Features) -> Features:
        """With the joined one."""
        dim = 0
        for key in self.keys:
            feature = needed(features, key, self.kind)
            if feature.is_integer or feature.kind in ("image", "mask", "depth", "text"):
                raise misfit(self.kind, key, f"it is a {feature.kind}", "name vectors of numbers")
            dim += feature.dim
        if self.width and dim > self.width:
            why = f"together they have {dim} numbers, the width is {self.width}"
            raise misfit(self.kind, ", ".join(self.keys), why, "widen it, or leave some out of env.observation")
        kind = features[self.keys[0]].kind if self.keys else "state"
        return {**features, self.into: Feature(self.into, kind, (self.width or dim,), "float32")}

    def numbers(self, features: Features, stats: Stats | None) -> Numbers:
        """1 for what is real."""
        dim = sum(features[key].dim for key in self.keys)
        return {"real": (np.arange(self.width or dim) < dim).astype(np.float32), "dims": self._dims(features)}

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """Nothing where one of them is missing."""
        import torch
        from torch.nn.functional import pad

        if not all(key in batch for key in self.keys):
            return {}
        joined = torch.cat([batch[key] for key in self.keys], -1)
        joined = pad(joined, (0, len(numbers["real"]) - joined.shape[-1]))
        return {self.into: joined, self.into + WIDTH_MASK: (numbers["real"] > 0).expand(joined.shape)}

    def inverse(
        self, actions: Mapping[str, Tensor], numbers: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Each part by its key."""
        if self.into not in actions:
            return {}
        dims = [int(dim) for dim in numbers["dims"].tolist()]
        parts = actions[self.into][..., : sum(dims)].split(dims, -1)  # type: ignore[no-untyped-call]
        return dict(zip(self.keys, parts, strict=True))

    def _dims(self, features: Features) -> np.ndarray:
        return np.array([features[key].dim for key in self.keys], np.int64)


@dataclass(frozen=True, kw_only=True)
class SinCos(Transform):
    """Angles as their sines, then their cosines: GR00T's StateActionSinCos. There is no way back: it is for what is seen."""

    kind: ClassVar[str] = "sin_cos"

    keys: tuple[str, ...]

    def after(self, features: Features) -> Features:
        """Twice as wide."""
        for key in self.keys:
            feature = needed(features, key, self.kind)
            if feature.kind != "state" or feature.is_integer:
                raise misfit(self.kind, key, f"it is a {feature.kind}", "name states that are angles in radians")
            features = {**features, key: Feature(key, "state", (2 * feature.dim,), "float32")}
        return features

    def stats_after(self, features: Features, stats: Stats) -> Stats:
        """From -1 to 1; nothing else is known."""
        from tendon.policies.processing.normalize import bounds

        after = self.after(features)
        return {**stats, **{key: bounds(after[key], -1.0, 1.0) for key in self.keys}}

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """``[sin, cos]``."""
        import torch

        return {key: torch.cat([batch[key].sin(), batch[key].cos()], -1) for key in self.keys if key in batch}
